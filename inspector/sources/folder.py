"""Image files of a folder, in the order of their names; once, or watching for new ones."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path

from inspector.codec import IMAGE_SUFFIXES, decode_image
from inspector.errors import BadFrameError, NotConnectedError, SourceExhaustedError
from inspector.sources.base import Unanswering, build_frame
from inspector.types import Frame, PixelFormat

_MAX_FILE_BYTES = 2**30


class FolderSource(Unanswering):
    """One camera fed from files. A file that cannot be decoded is answered ERROR BAD_FRAME."""

    can_wait = True
    connect_s = 5.0

    def __init__(self, camera: str, path: Path, *, watch: bool, poll_s: float = 0.5, simulated: bool = False) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._path = path
        self._watch = watch
        self._poll_s = poll_s
        self._simulated = simulated
        self._waiting: deque[Path] = deque()
        self._taken: dict[Path, tuple[int, int]] = {}
        self._looks: dict[Path, tuple[int, int]] = {}

    def connect(self) -> None:
        """List the folder.

        Raises:
            NotConnectedError: it is not there (a network drive away).
        """
        if not os.path.isdir(self._path):  # noqa: PTH112 (raises nothing, whatever a network drive answers)
            raise NotConnectedError(f"folder {self._path} is not there")
        if not self._waiting:
            self._list(settled=not self._watch)

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source.read`."""
        if not self._waiting:
            if not self._watch:
                raise SourceExhaustedError(f"folder {self._path}: all {len(self._taken)} files read")
            time.sleep(min(self._poll_s, timeout_s))
            self.connect()
            return None
        path = self._waiting.popleft()
        name = _name(path)
        started = time.monotonic_ns()
        received_utc_ns = time.time_ns()
        pixels, pixel_format, error = None, PixelFormat.RGB8, None
        try:
            if (size := path.stat().st_size) > _MAX_FILE_BYTES:
                raise BadFrameError(f"file: must be at most {_MAX_FILE_BYTES} bytes, got {size}")
            pixels, pixel_format = decode_image(path.read_bytes())
        except (OSError, BadFrameError) as fault:
            error = f"{name}: {fault}"
        return build_frame(
            self.name,
            name,
            pixels,
            pixel_format,
            simulated=self._simulated,
            error=error,
            received_utc_ns=received_utc_ns,
            received_monotonic_ns=started,
            decode_ms=(time.monotonic_ns() - started) / 1e6,
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _list(self, *, settled: bool) -> None:
        try:
            looks = {path: _look(path) for path in self._path.iterdir() if _is_image(path)}
        except OSError as error:
            raise NotConnectedError(f"folder {self._path}: {error}") from error
        # A file written anew under its old name is another frame; names of files that are gone are forgotten.
        new = sorted(path for path in looks if self._taken.get(path) != looks[path])
        # A file still being written changes its size or, made full-size at once, its time: watching takes it once
        # two looks agree.
        ready = [path for path in new if settled or self._looks.get(path) == looks[path]]
        self._looks = looks
        self._taken = {path: look for path, look in self._taken.items() if path in looks}
        self._taken |= {path: looks[path] for path in ready}
        self._waiting.extend(ready)


def _look(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    try:
        status = path.stat()
    except FileNotFoundError:  # a link to nowhere, or gone just now: reading it will tell; the folder is still there
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _name(path: Path) -> str:
    """The file's name as UTF-8 text; a byte that is none is written \\xNN, since journal and wire need text."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
