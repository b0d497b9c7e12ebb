"""Image files of a folder, in the order of their names; once, or watching for new ones."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from inspector.codec import decode_image
from inspector.errors import BadFrameError, NotConnectedError, SourceExhaustedError
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class FolderSource:
    """One camera fed from files. A file that cannot be decoded is answered ERROR BAD_FRAME."""

    can_wait = True

    def __init__(self, camera: str, path: Path, *, watch: bool, poll_s: float = 0.5, simulated: bool = False) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._path = path
        self._watch = watch
        self._poll_s = poll_s
        self._simulated = simulated
        self._waiting: deque[Path] = deque()
        self._taken: set[Path] = set()
        self._sizes: dict[Path, int] = {}

    def connect(self) -> None:
        """List the folder.

        Raises:
            NotConnectedError: it is not there (a network drive away).
        """
        if not self._path.is_dir():
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
        started = time.monotonic_ns()
        received_utc_ns = time.time_ns()
        pixels, pixel_format, error = None, PixelFormat.RGB8, None
        try:
            pixels, pixel_format = decode_image(path.read_bytes())
        except (OSError, BadFrameError) as fault:
            error = f"{path.name}: {fault}"
        return build_frame(
            self.name,
            path.name,
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
            sizes = {path: path.stat().st_size for path in self._path.iterdir() if _is_image(path)}
        except OSError as error:
            raise NotConnectedError(f"folder {self._path}: {error}") from error
        new = sorted(path for path in sizes if path not in self._taken)
        # A file still being written changes its size: watching takes it once two looks agree.
        ready = [path for path in new if settled or self._sizes.get(path) == sizes[path]]
        self._sizes = sizes
        self._taken.update(ready)
        self._waiting.extend(ready)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
