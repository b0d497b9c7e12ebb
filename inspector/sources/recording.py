"""A recording: frames as PNG files in a folder, and an index that says what they were.

The index has a JSON object a line, in the order of the frames. A frame's file is whole before its line is written, so
what the index names is there; whatever a kill leaves behind, a file without a line or a half line, is no frame.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
from pydantic import Field, ValidationError

from inspector.codec import Pixels
from inspector.errors import BadFrameError, InspectorError
from inspector.files import write_whole
from inspector.strict.base import Strict
from inspector.types import Frame, PixelFormat, Web

logger = logging.getLogger(__name__)

INDEX = "index.jsonl"
_COMPRESSION = 1
"""Of 9: a tenth of the time of 9 for files that are a few percent larger."""
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class RecordedFrame(Strict):
    """A line of the index. Times in nanoseconds since 1970; `captured_utc_ns` 0: unknown.

    `file`, within the folder; null: the frame did not come whole, and `error` says why. `web`: its lines of a web, of
    which it was put together before it was recorded.
    """

    camera: str
    frame_id: str
    captured_utc_ns: int
    received_utc_ns: int
    part_id: str | None = None
    trigger_id: str | None = None
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    error: str | None = None
    encoder_value: int | None = None
    web: Web | None = None


class RecordingWriter:
    """Writes one, in a folder that holds none yet."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, and an empty index.

        Raises:
            InspectorError: there is a recording already, or it cannot be written.
        """
        self._folder = folder
        self.count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._index = (folder / INDEX).open("xb", buffering=0)
        except FileExistsError as error:
            raise InspectorError(f"{folder}: must not hold a recording yet, got one: {INDEX}") from error
        except OSError as error:
            raise InspectorError(f"{folder}: cannot be written: {error}") from error

    def write(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            InspectorError: it cannot be written, on a full disk for example; nothing of it is left.
        """
        name = None
        if frame.pixels is not None:
            name = f"{self.count + 1:06}-{_NO_NAME.sub('_', frame.frame_id)[:80]}.png"
            write_whole(self._folder / name, encode_png(frame.pixels, frame.pixel_format))
        try:
            self._write_line(_describe(frame, name))
        except OSError as error:
            if name is not None:
                (self._folder / name).unlink(missing_ok=True)
            raise InspectorError(f"{self._folder / INDEX}: cannot be written: {error}") from error
        self.count += 1

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _write_line(self, entry: RecordedFrame) -> None:
        line, size = (entry.model_dump_json() + "\n").encode(), self._index.tell()
        try:
            if (written := self._index.write(line)) != len(line):  # a disk that has room for half of it
                raise OSError(f"{written} of {len(line)} bytes written")
            os.fsync(self._index.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._index.seek(size)
                self._index.truncate()
            raise


def read_recording(folder: Path) -> list[RecordedFrame]:
    """All frames of a recording. A torn last line, which a kill leaves behind, is left out and logged.

    Raises:
        OSError: there is no index, or it cannot be read.
        BadFrameError: it has a line that is none of a recording; says which.
    """
    *whole, rest = (folder / INDEX).read_bytes().split(b"\n")
    if rest:
        logger.warning("%s: its last line is torn: the frame of line %d is left out", folder / INDEX, len(whole) + 1)
    return list(_parse(whole))


def _parse(lines: list[bytes]) -> Iterator[RecordedFrame]:
    for number, line in enumerate(lines, 1):
        try:
            yield RecordedFrame.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise BadFrameError(
                f"{INDEX}, line {number}: {place or 'line'}: {first['msg']}, got {line!r:.80}"
            ) from error


def encode_png(pixels: Pixels, pixel_format: PixelFormat) -> bytes:
    """Pixels as a PNG file, which loses nothing; colours in the file's own order."""
    if pixel_format is PixelFormat.RGB8:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])[1].tobytes()


def _describe(frame: Frame, name: str | None) -> RecordedFrame:
    return RecordedFrame(
        camera=frame.camera,
        frame_id=frame.frame_id,
        captured_utc_ns=frame.captured_utc_ns,
        received_utc_ns=frame.received_utc_ns,
        part_id=frame.part_id,
        trigger_id=frame.trigger_id,
        file=name,
        error=frame.error,
        encoder_value=frame.encoder_value,
        web=frame.web,
    )
