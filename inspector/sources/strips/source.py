"""Cameras whose pictures are strips of a web: any source's, put together to frames before anybody counts them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from inspector.errors import NotConnectedError, SourceError, SourceExhaustedError
from inspector.sources.base import Source
from inspector.sources.report import CameraReport
from inspector.sources.settings import LineScan
from inspector.sources.strips.assembler import LineAssembler
from inspector.types import Frame, Reason


class LineScanSource:
    """See `Source`. Frames of cameras without `line_scan` are handed on as they are.

    A sender that waits to be told about a strip hears that it was taken, once it is in a frame that is not full; of the
    strip that fills one it is told as of a frame.
    """

    def __init__(self, source: Source, settings: Mapping[str, LineScan]) -> None:
        """`settings`: of those cameras of `source` whose pictures are strips."""
        self.name = source.name
        self.cameras = source.cameras
        self.can_wait = source.can_wait
        self.connect_s = source.connect_s
        self.losses = source.losses
        self.is_caught_up = True
        self._source = source
        self._lines = {camera: _Camera(LineAssembler(each), each.idle_timeout_s) for camera, each in settings.items()}
        self._ready: deque[Frame] = deque()
        self._end: SourceError | None = None  # to be told once what is ready has been read
        self._lost = 0

    def connect(self) -> None:
        """See `Source`."""
        self._source.connect()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, full or not to be filled any more; None too where a strip came that fills none."""
        if not self._ready:
            self._tell_end()
            self._read_strip(timeout_s)
        if not self._ready:  # after the read: strips that only were not read in time are no pause of the web
            self._finish_idle()
        return self._ready.popleft() if self._ready else None

    def drain(self, within_s: float) -> Iterator[Frame]:
        """See `Source`: what is ready, or on its way, and a last frame of each web."""
        yield from self._take_ready()
        for strip in self._source.drain(within_s):  # one by one: the next one's sender is another
            self._take(strip)
            yield from self._take_ready()
        for camera in self._lines.values():
            yield from camera.assembler.finish(Reason.SHUTDOWN)

    def _take_ready(self) -> Iterator[Frame]:
        while self._ready:
            yield self._ready.popleft()

    def awaits_answer(self) -> bool:
        """See `Source`: of several frames that one strip fills, the last is what its sender is told about."""
        return not self._ready and self._source.awaits_answer()

    def answer(self, problem: str | None) -> None:
        """See `Source`."""
        self._source.answer(problem)

    def defer_answer(self) -> Callable[[str | None], None]:
        """See `Source`."""
        return self._source.defer_answer()

    def fire(self, trigger_id: str, until_ns: int) -> None:
        """See `Source`: frames of a web have no trigger, those of other cameras may."""
        self._source.fire(trigger_id, until_ns)

    def report(self) -> CameraReport | None:
        """See `Source`."""
        return self._source.report()

    def interrupt(self) -> None:
        """See `Source`."""
        self._source.interrupt()

    def close(self) -> None:
        """See `Source`."""
        self._source.close()

    def is_busy(self) -> bool:
        """See `Source`."""
        return self._source.is_busy()

    def _tell_end(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            raise end

    def _read_strip(self, timeout_s: float) -> None:
        try:
            strip = self._source.read(timeout_s)
        except SourceExhaustedError as error:
            self._end_with(error, [frame for camera in self._lines.values() for frame in camera.assembler.finish()])
        except NotConnectedError as error:
            assemblers = [camera.assembler for camera in self._lines.values() if camera.assembler.is_under_way]
            self._end_with(error, [assembler.break_off(f"the source was lost: {error}") for assembler in assemblers])
        else:
            self.is_caught_up = self._source.is_caught_up
            if strip is not None:
                self._take(strip)

    def _end_with(self, error: SourceError, frames: Sequence[Frame]) -> None:
        if not frames:
            raise error
        self._ready.extend(frames)
        self._end = error

    def _take(self, strip: Frame) -> None:
        camera = self._lines.get(strip.camera)
        if camera is None:
            self._ready.append(strip)
            return
        lost = sum(self._source.losses.values())
        camera.last_s = time.monotonic()
        self._ready.extend(camera.assembler.add(strip, lost - self._lost))
        self._lost = lost
        if not self._ready and self._source.awaits_answer():
            self._source.answer(None)

    def _finish_idle(self) -> None:
        now = time.monotonic()
        for camera in self._lines.values():
            if camera.assembler.has_rest and now > camera.last_s + camera.idle_timeout_s:
                self._ready.extend(camera.assembler.finish())


class _Camera:
    """One whose pictures are strips, and when the last one came."""

    def __init__(self, assembler: LineAssembler, idle_timeout_s: float) -> None:
        self.assembler = assembler
        self.idle_timeout_s = idle_timeout_s
        self.last_s = time.monotonic()
