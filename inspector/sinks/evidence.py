"""The evidence store: images of what was not passed, each with its result beside it. Bounded on disk; best effort."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2

from inspector.codec import Pixels
from inspector.config import Evidence
from inspector.errors import EvidenceError
from inspector.types import PixelFormat, Result, Verdict

MAX_KEPT = 200_000
"""Results kept at most, however small: each costs some 200 bytes of memory, and a block or two of the disk."""

_IMAGES = (".png", ".jpg")
_NAME = re.compile(r"\d{6}_\d{6}-\d+-(PASS|FAIL|ERROR)-[A-Z_]+-[A-Za-z0-9_-]+(\+\d+)?\.(png|jpg|json)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_UNFINISHED = ".part"


@dataclass(frozen=True, slots=True)
class _Kept:
    """One result on disk: its path below the store's folder, without suffix, and the bytes of all its files."""

    stem: str
    size: int


class EvidenceStore:
    """`<camera>/<day, UTC>/<time>-<seq>-<verdict>-<reason>-<frame id>+<number>`, `.png` or `.jpg`, and `.json`.

    The number counts what is written, all cameras together: it says what is oldest, which a clock that is set back or
    ahead does not. Those of earlier versions have none, and are older than all that do.

    Files come under a hidden name and are renamed, the image first: who sees a JSON finds its image. They are not
    forced to the disk: a killed process loses none, a power cut the last seconds. Used by one thread.

    Attributes:
        is_suspended: whether too little of the disk was free, at the last look, to keep any.
    """

    def __init__(self, folder: Path, config: Evidence) -> None:
        """Nothing on the disk is touched before `open`."""
        self._folder = folder
        self.config = config
        self._opened = False
        self._nbytes = 0
        self.is_suspended = False
        self._next = 1  # the number of what is written next
        self._passes: deque[_Kept] = deque()  # both oldest first
        self._rest: deque[_Kept] = deque()

    @property
    def nbytes(self) -> int:
        """Bytes of all files kept; those that a hand removed count until it is their turn."""
        return self._nbytes

    def open(self) -> None:
        """Count what is there, remove what an interrupted write left, and make room if the quota shrank.

        Files with names that are not the store's own are neither counted nor touched.

        Raises:
            EvidenceError: the folder cannot be made or read.
        """
        self._opened = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            sizes: dict[str, int] = {}
            for file in _find_files(self._folder):
                stem = file.path.removeprefix(f"{self._folder}/").rpartition(".")[0]
                with contextlib.suppress(FileNotFoundError):  # removed while we look
                    sizes[stem] = sizes.get(stem, 0) + file.stat().st_size
            self._fill(sizes)
            self._make_room(0)
        except OSError as error:
            raise EvidenceError(f"evidence {self._folder}: cannot be read: {error}") from error
        self._opened = True

    def check(self) -> None:
        """Prove that something could be kept now.

        Raises:
            EvidenceError: too little room on the disk, or a folder that cannot be read or written.
        """
        self._prepare()
        probe = self._folder / f".check{_UNFINISHED}"
        try:
            probe.write_bytes(b"room?")
        except OSError as error:
            raise EvidenceError(f"evidence {self._folder}: cannot be written: {error}") from error
        finally:
            _remove(probe)

    def save(self, pixels: Pixels | None, pixel_format: PixelFormat, result: Result) -> None:
        """Keep a frame and its result; the oldest PASS gives way first, then the oldest of the rest.

        Args:
            pixels, pixel_format: as in `Frame`; without pixels only the result is kept.
            result: as it was published.

        Raises:
            EvidenceError: it was not kept, and nothing of it was left behind.
        """
        self._prepare()
        files = {} if pixels is None else _encode(pixels, pixel_format, self.config)
        files[".json"] = json.dumps(result.to_wire()).encode()
        kept = _Kept(f"{_name(result)}+{self._next}", sum(len(data) for data in files.values()))
        if kept.size > self.config.max_bytes:
            raise EvidenceError(
                f"evidence.max_bytes: must have room for at least one frame with its result, here {kept.size} bytes, "
                f"got {self.config.max_bytes}"
            )
        try:
            self._make_room(kept.size)
            self._write(kept.stem, files)
        except OSError as error:
            raise EvidenceError(f"evidence {self._folder / kept.stem}: cannot be written: {error}") from error
        self._nbytes += kept.size
        self._next += 1
        (self._passes if result.verdict is Verdict.PASS else self._rest).append(kept)

    def _prepare(self) -> None:
        if not self._opened:
            self.open()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # where a hand removed it
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise EvidenceError(f"evidence {self._folder}: cannot be read: {error}") from error
        self.is_suspended = free < self.config.min_free
        if self.is_suspended:
            raise EvidenceError(
                f"evidence.min_free: {self.config.min_free} bytes must be free on the disk of {self._folder}, "
                f"got {free}"
            )

    def _fill(self, sizes: dict[str, int]) -> None:
        self._nbytes = sum(sizes.values())
        self._passes.clear()
        self._rest.clear()
        stems = sorted(sizes, key=lambda stem: (_number(stem), stem.partition("/")[2]))  # else by day and time
        self._next = 1 + max(map(_number, stems), default=0)
        for stem in stems:
            passed = stem.rpartition("/")[2].split("-")[2] == Verdict.PASS.value
            (self._passes if passed else self._rest).append(_Kept(stem, sizes[stem]))

    def _make_room(self, size: int) -> None:
        while self._nbytes + size > self.config.max_bytes or len(self._passes) + len(self._rest) >= MAX_KEPT:
            queue = self._passes or self._rest
            oldest = queue[0]
            path = self._folder / oldest.stem
            for suffix in (".json", *_IMAGES):  # the JSON first: it always has its image
                path.with_suffix(suffix).unlink(missing_ok=True)
            queue.popleft()  # only now: what cannot be removed still counts
            self._nbytes -= oldest.size
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a day's last file takes the folder with it

    def _write(self, stem: str, files: dict[str, bytes]) -> None:
        path = self._folder / stem
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            for suffix, data in files.items():
                part = path.with_name(f".{path.name}{suffix}{_UNFINISHED}")
                part.write_bytes(data)
                part.replace(path.with_suffix(suffix))
        except BaseException:
            for suffix in files:
                _remove(path.with_name(f".{path.name}{suffix}{_UNFINISHED}"))
                _remove(path.with_suffix(suffix))
            raise


def _find_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The store's own finished files; unfinished ones are removed on the way."""
    _remove(folder / f".check{_UNFINISHED}")
    for camera in _list_folders(folder):
        for day in _list_folders(camera.path):
            if not _DAY.fullmatch(day.name):
                continue
            with os.scandir(day.path) as files:
                for file in files:
                    if _NAME.fullmatch(file.name):
                        yield file
                    elif _NAME.fullmatch(file.name.removeprefix(".").removesuffix(_UNFINISHED)):
                        _remove(Path(file.path))


def _list_folders(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_dir()]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _number(stem: str) -> int:
    return int(stem.rpartition("+")[2]) if "+" in stem.rpartition("/")[2] else 0


def _name(result: Result) -> str:
    """Path of a result's files below the store's folder, less number and suffix; no dot, as suffixes are replaced."""
    seconds, nanoseconds = divmod(result.published_utc_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    frame_id = re.sub(r"[^A-Za-z0-9_-]+", "_", result.frame_id).strip("_-")[:80] or "unnamed"
    words = (f"{moment:%H%M%S}_{nanoseconds // 1000:06d}", str(result.seq), result.verdict.value, result.reason.name)
    return f"{result.camera}/{moment:%Y-%m-%d}/{'-'.join(words)}-{frame_id}"


def _encode(pixels: Pixels, pixel_format: PixelFormat, config: Evidence) -> dict[str, bytes]:
    """Suffix and bytes of the image file; lossless unless JPEG is asked for, which has no 16 bits."""
    suffix, options = ".png", []  # OpenCV's default is its fastest level, and hardly larger than its best
    if config.format == "jpeg" and pixel_format is not PixelFormat.MONO16:
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, config.quality]
    try:
        if pixel_format is PixelFormat.RGB8:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)  # the order OpenCV writes
        encoded, data = cv2.imencode(suffix, pixels, options)
    except cv2.error as error:
        raise EvidenceError(f"evidence: a frame of {pixels.shape} cannot be encoded: {error}") from error
    if not encoded:
        raise EvidenceError(f"evidence: a frame of {pixels.shape} cannot be encoded as {suffix}")
    return {suffix: data.tobytes()}
