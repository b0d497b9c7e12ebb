"""Record a camera's frames, for training and for trials: see `inspector.sources.recording`."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from inspector.cli.cameras.opening import READ_S, CameraName, open_camera
from inspector.cli.terminal.options import StationFile
from inspector.errors import NotConnectedError, SourceExhaustedError

if TYPE_CHECKING:
    from inspector.codec import Pixels
    from inspector.sources.base import Source
    from inspector.types import Frame

_AGAIN_S = 1.0
_LOST_S = 5.0
"""A frame that was asked for and has not come by then is asked for again."""
_CELLS = 64


def record(
    station: StationFile,
    camera: CameraName,
    out: Annotated[Path, typer.Option(help="A folder that holds no recording yet; made where it is not there.")],
    frames: Annotated[int | None, typer.Option(min=1, help="End after this many frames.")] = None,
    duration_s: Annotated[float | None, typer.Option(min=0.1, help="End after this many seconds.")] = None,
    on_enter: Annotated[
        bool, typer.Option("--on-enter", help="One frame for each line of standard input: press Enter for each.")
    ] = False,
    thin: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=255,
            help="Leave out near-copies: frames none of whose 64 × 64 cells differs by this many grey levels of 256 "
            "from the frame recorded last. 4 suits most cameras.",
        ),
    ] = None,
) -> None:
    """Record frames of a camera as PNG files, with an index of their ids and times; Ctrl+C ends it.

    Nothing is judged. The station must not run: a camera has one reader. `recorded: true` of a source of type folder
    replays it. A camera that is lost is opened again.
    """
    from inspector.sources.recording import RecordingWriter

    with open_camera(station, camera) as source, contextlib.closing(RecordingWriter(out)) as writer:
        lines = _Lines(sys.stdin) if on_enter else None
        keeper = _Keeper(lines, thin)
        try:
            for frame in _read_frames(source, duration_s, keeper, _Shutter(source, lines)):
                if keeper.is_wanted(frame):
                    writer.write(frame)
                if writer.count == frames:
                    break
        except KeyboardInterrupt:  # how one without a limit ends
            typer.echo("", err=True)
        finally:
            typer.echo(f"{out}: {writer.count} frames recorded{keeper.describe()}{_describe_losses(source)}")


class _Lines:
    """When each line of a file came, in nanoseconds of the monotonic clock; None: there will be no more."""

    def __init__(self, file: TextIO) -> None:
        self._times: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._next: int | None = None
        self.is_over = False
        threading.Thread(target=self._read, args=(file,), name="lines", daemon=True).start()

    def _read(self, file: TextIO) -> None:
        for _ in file:
            self._times.put(time.monotonic_ns())
        self._times.put(None)

    def find_next(self) -> int | None:
        """When the oldest line came that has no frame yet; None: there is none."""
        if self._next is None and not self.is_over:
            with contextlib.suppress(queue.Empty):
                self._next = self._times.get_nowait()
                self.is_over = self._next is None
        return self._next

    def answer(self) -> None:
        """It has its frame."""
        self._next = None


class _Shutter:
    """Fires a camera that takes a frame where somebody asks for one; one that takes them by itself ignores it."""

    def __init__(self, source: Source, lines: _Lines | None) -> None:
        self._source = source
        self._lines = lines
        self._again_at = 0.0

    def fire(self) -> None:
        """Ask for a frame, if one is wanted and none is on its way."""
        if time.monotonic() >= self._again_at and (self._lines is None or self._lines.find_next() is not None):
            self._source.fire("record", time.monotonic_ns() + int(_LOST_S * 1e9))
            self._again_at = time.monotonic() + _LOST_S

    def answer(self) -> None:
        """A frame came."""
        self._again_at = 0.0


class _Keeper:
    """Which frames are recorded."""

    def __init__(self, lines: _Lines | None, thin: float | None) -> None:
        self._lines = lines
        self._thin = thin
        self._last: Pixels | None = None
        self._largest = 255.0
        self._copies = 0

    @property
    def is_over(self) -> bool:
        """Whether nobody will ask for more frames."""
        return self._lines is not None and self._lines.find_next() is None and self._lines.is_over

    def is_wanted(self, frame: Frame) -> bool:
        """Whether it was asked for, if that counts, and shows something new, if that does."""
        if self._lines is not None and not _is_asked_for(frame, self._lines):
            return False
        if self._thin is None or frame.pixels is None:
            return True
        cells = _compute_cells(frame.pixels)
        # Of 16 bits a camera may use 10 or 12: how many, its brightest frame tells.
        self._largest = max(self._largest, 2.0 ** int(frame.pixels.max()).bit_length() - 1)
        if self._last is not None and abs(cells - self._last).max() < self._thin * self._largest / 255:
            self._copies += 1
            return False
        self._last = cells
        return True

    def describe(self) -> str:
        """What was left out."""
        return "" if self._thin is None else f", {self._copies} near-copies left out"


def _is_asked_for(frame: Frame, lines: _Lines) -> bool:
    """Whether it was taken after a line came that has no frame yet, which it is then the frame of."""
    age_ns = frame.received_utc_ns - frame.captured_utc_ns if frame.captured_utc_ns else 0
    asked_ns = lines.find_next()
    if asked_ns is None or frame.received_monotonic_ns - age_ns < asked_ns:
        return False
    lines.answer()
    return True


def _compute_cells(pixels: Pixels) -> Pixels:
    """Mean grey level of 64 × 64 cells, (64, 64) float32, as the pixels give it."""
    import cv2
    import numpy as np

    cells: Pixels = cv2.resize(pixels, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)
    return cells if cells.ndim == 2 else cells.mean(axis=2)


def _read_frames(source: Source, duration_s: float | None, keeper: _Keeper, shutter: _Shutter) -> Iterator[Frame]:
    """Until the time is over, or the source or those who ask for frames are; one that is lost is opened again."""
    end = None if duration_s is None else time.monotonic() + duration_s
    is_connected = True
    while (end is None or time.monotonic() < end) and not keeper.is_over:
        try:
            if not is_connected:
                source.connect()
                is_connected = True
            shutter.fire()
            if (frame := source.read(READ_S)) is not None:
                shutter.answer()
                yield frame
        except SourceExhaustedError as error:
            typer.echo(str(error), err=True)
            return
        except NotConnectedError as error:
            if is_connected:
                typer.echo(f"lost: {error}; it is tried again", err=True)
            source.close()
            is_connected = False
            time.sleep(_AGAIN_S)


def _describe_losses(source: Source) -> str:
    lost = ", ".join(f"{cause} {count}" for cause, count in source.losses.items() if count)
    return f"; missing: {lost}" if lost else ""
