"""The source that all GenICam cameras are, whatever library drives them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from inspector.errors import NotConnectedError
from inspector.sources.base import RUN, Unanswering, build_frame
from inspector.sources.cameras.clock import BlockCounter, ChunkCounter, DeviceClock, choose_time_ns
from inspector.sources.cameras.driver import Driver, Grabbed, apply_features, read_ticks
from inspector.sources.cameras.pixels import ALIASES, FORMATS
from inspector.sources.cameras.settings import GenicamSettings, list_features
from inspector.sources.cameras.watch import CameraWatch
from inspector.sources.report import CameraReport
from inspector.types import Frame, PixelFormat

_NS = 1_000_000_000
_TICKS = "GevTimestampTickFrequency"
"""Of a camera whose clock does not count nanoseconds, in Hz (GigE Vision 1)."""
_NO_CHUNKS: Mapping[str, int] = MappingProxyType({})
UNNUMBERED = "-unnumbered"
"""Ends the id of a frame before which others may be lost, unknown: `line_scan.numbered` refuses it."""
_MOST_ASKED = 100
"""Triggers that wait for the frame of the one before; one more is not fired."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A trigger that somebody asks for, and until when (monotonic) it may be fired."""

    trigger_id: str
    until_ns: int


class GenicamSource(Unanswering):
    """One camera. An image that did not come whole is never judged.

    It is counted; where a trigger asked for it, a verdict is owed, and it is answered ERROR BAD_FRAME too. Calls take
    as long as the library does: see `DetachedSource`.
    """

    can_wait = False
    connect_s = 20.0

    def __init__(self, camera: str, settings: GenicamSettings, driver: Driver, *, simulated: bool = False) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._losses: Counter[str] = Counter()
        self.losses: Mapping[str, int] = self._losses
        self._settings = settings
        self._driver = driver
        self._simulated = simulated
        self._is_open = False
        self._chunks: tuple[str, ...] = ()  # features that come with each image, in the order of the settings
        self._ticks_per_s = _NS
        self._begin_counts()
        self._watch = CameraWatch(camera, settings, driver)
        self._read_back = CameraReport(is_connected=False)
        self._is_dated_by_ptp = False
        self._last_frame = 0.0
        self._is_overdue = False
        self._fired: float | None = None  # when, of a software trigger whose frame has not come
        self._next_trigger = 0.0
        self._asked: queue.Queue[_Asked] = queue.Queue(_MOST_ASKED)
        self._trigger: _Asked | None = None  # the one to be fired next, or fired
        self._numbers = itertools.count(1)

    def connect(self) -> None:
        """Open the camera, write its settings, read them back, and have it deliver.

        Raises:
            NotConnectedError: it is not there, or has not what it was asked for.
        """
        if self._is_open:
            return
        with self._naming():
            self._driver.open()
            self._is_open = True
            self._apply_settings()
            self._check_format()
            self._watch.begin()
            self._driver.start()
        self._begin_counts()
        self._last_frame = time.monotonic()
        self._fired, self._next_trigger, self._is_overdue = None, 0.0, False
        self._asked, self._trigger = queue.Queue(_MOST_ASKED), None  # those of before are answered NO_FRAME

    def _begin_counts(self) -> None:
        self._blocks, self._clock = BlockCounter(), DeviceClock()
        self._images = 0  # that the camera sent, damaged and lost ones too
        self._exposures, self._signals = ChunkCounter(), ChunkCounter()

    def _apply_settings(self) -> None:
        settings = apply_features(self._driver, list_features(self._settings))
        self._read_back = CameraReport(is_connected=True, settings=settings, read_utc_ns=time.time_ns())
        if self._read_back.differences:
            raise NotConnectedError("; ".join(self._read_back.differences))
        if self._settings.chunks:
            self._chunks = tuple(f"Chunk{each.found}" for each in settings if each.name == "ChunkSelector")
            has_ticks = self._driver.has_feature(_TICKS)
            self._ticks_per_s = read_ticks(_TICKS, self._driver.read_feature(_TICKS)) if has_ticks else _NS

    def report(self) -> CameraReport:
        """See `Source`."""
        return dataclasses.replace(
            self._read_back,
            is_connected=self._is_open,
            triggers_missed=self._watch.triggers_missed,
            ptp=self._watch.ptp if self._is_open else None,
            is_dated_by_ptp=self._is_dated_by_ptp,
        )

    def _check_format(self) -> None:
        name = self._driver.read_feature("PixelFormat")
        if name not in {*FORMATS, *ALIASES.values()}:
            raise NotConnectedError(f"PixelFormat: must be one of {', '.join(FORMATS)}, the camera has {name}")

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source.read`."""
        if not self._is_open:
            raise NotConnectedError(f"camera {self.name}: not connected")
        with self._naming():
            if self._is_overdue:  # its image may still come, and must not be taken for that of the next trigger
                raise NotConnectedError("a software trigger was not answered")
            self._watch.look_when_due()
            if self._settings.trigger == "software":
                timeout_s = self._fire_when_due(timeout_s)
            grabbed = self._fire_when_asked(timeout_s) if self._is_idle else None
            if grabbed is None and not self._is_idle:
                grabbed = self._driver.grab(timeout_s, self._chunks)
        return self._note_silence() if grabbed is None else self._accept(grabbed)

    def fire(self, trigger_id: str, until_ns: int) -> None:
        """See `Source`: one after the other, each once the frame of the one before has come; never one too many."""
        if self._settings.trigger == "request":
            with contextlib.suppress(queue.Full):
                self._asked.put_nowait(_Asked(trigger_id, until_ns))

    @property
    def _is_idle(self) -> bool:
        """Whether no frame is to come before somebody asks for one."""
        return self._settings.trigger == "request" and self._fired is None

    def _fire_when_asked(self, timeout_s: float) -> Grabbed | None:
        """Fire where somebody asks for it. An image that is there before is of no trigger, and comes first."""
        if self._trigger is None:
            with contextlib.suppress(queue.Empty):
                self._trigger = self._asked.get(timeout=timeout_s)
        stray = self._driver.grab(0.0, self._chunks)
        if stray is not None or self._trigger is None:
            return stray
        if time.monotonic_ns() < self._trigger.until_ns:
            self._driver.fire()
            self._fired = time.monotonic()
        else:  # another part may stand there by now
            self._trigger = None
        return None

    @property
    def _is_locked(self) -> bool:
        return self._watch.ptp is not None and self._watch.ptp.is_locked

    def _fire_when_due(self, timeout_s: float) -> float:
        """How long to wait for an image: no longer than until the next trigger is due."""
        now = time.monotonic()
        if self._fired is None and now < self._next_trigger:
            return min(timeout_s, self._next_trigger - now)
        if self._fired is None:
            self._driver.fire()
            self._fired, self._next_trigger = now, now + self._settings.trigger_period_s
        return timeout_s

    def _note_silence(self) -> Frame | None:
        """Nothing came: from a camera that runs by itself it is a loss, in the end; so it is after a trigger."""
        limit_s = self._settings.read_timeout_s
        now = time.monotonic()
        if self._settings.trigger == "free" and now - self._last_frame > limit_s:
            raise NotConnectedError(f"camera {self.name}: no frame for {limit_s} s")
        if self._fired is None or now - self._fired <= limit_s:
            return None
        self._losses["trigger"] += 1
        self._is_overdue = True
        return self._build_frame(None, f"no frame within {limit_s} s of its trigger")

    def _accept(self, grabbed: Grabbed) -> Frame | None:
        self._last_frame = time.monotonic()
        missing = self._blocks.count_missing(grabbed.block_id)
        self._images += 1 + (missing or 0)
        self._losses["gap"] += missing or 0
        # A damaged image has none.
        chunks: dict[str, int] = dict(zip(self._settings.chunks, grabbed.chunks, strict=False))
        if self._signals.is_at(chunks.get("CounterValue")):  # which trigger it is of is not known
            problem = f"ChunkCounterValue: must rise from image to image, got {chunks['CounterValue']} again"
            grabbed, chunks = dataclasses.replace(grabbed, pixels=None, error=problem), {}
        if grabbed.error is None:
            self._losses["gap"] += self._count_unsent(chunks)
            return self._build_frame(grabbed, chunks=chunks, is_numbered=missing is not None)
        self._losses["damaged"] += 1
        return None if self._settings.trigger == "free" else self._build_frame(grabbed, grabbed.error)

    def _count_unsent(self, chunks: Mapping[str, int]) -> int:
        """Images that the camera took and did not send, by its own count; triggers that it took none for are noted."""
        if "CounterValue" in chunks:
            self._watch.note_missed(self._signals.count_ahead(chunks["CounterValue"], self._images))
        return self._exposures.count_ahead(chunks["FrameID"], self._images) if "FrameID" in chunks else 0

    def _build_frame(
        self,
        grabbed: Grabbed | None,
        error: str | None = None,
        *,
        chunks: Mapping[str, int] = _NO_CHUNKS,
        is_numbered: bool = True,
    ) -> Frame:
        now_ns, now_utc_ns = time.monotonic_ns(), time.time_ns()
        device_ns = 0 if grabbed is None else grabbed.device_ns
        if "Timestamp" in self._settings.chunks:  # 0 of a damaged image: its other time is that of another moment
            device_ns = chunks.get("Timestamp", 0) * _NS // self._ticks_per_s
        captured_utc_ns = self._date(device_ns, now_ns, now_utc_ns) if device_ns else 0
        return build_frame(
            self.name,
            f"{self.name}-{RUN}-{next(self._numbers)}" + ("" if is_numbered else UNNUMBERED),
            None if grabbed is None else grabbed.pixels,
            PixelFormat.MONO8 if grabbed is None else grabbed.pixel_format,
            received_utc_ns=now_utc_ns,
            received_monotonic_ns=now_ns,
            captured_utc_ns=captured_utc_ns,
            trigger_id=self._take_trigger(),
            encoder_value=chunks.get("EncoderValue"),
            simulated=self._simulated,
            error=error,
        )

    def _date(self, device_ns: int, now_ns: int, now_utc_ns: int) -> int:
        mapped_ns = now_utc_ns - self._clock.compute_age_ns(device_ns, now_ns)
        ptp_ns = choose_time_ns(device_ns, mapped_ns) if self._is_locked else None
        self._is_dated_by_ptp = ptp_ns is not None
        return mapped_ns if ptp_ns is None else ptp_ns

    def _take_trigger(self) -> str | None:
        """The trigger that the frame at hand answers; None: nobody told one, and an id made up would be nobody's."""
        was_fired, self._fired = self._fired is not None, None
        if not was_fired:
            return None
        trigger, self._trigger = self._trigger, None
        return None if trigger is None else trigger.trigger_id

    def close(self) -> None:
        """Let go of the camera."""
        self._is_open = False
        self._driver.close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Has a fault of the driver say whose it is; what was opened is closed."""
        try:
            yield
        except NotConnectedError as error:
            self.close()
            raise NotConnectedError(f"camera {self.name}: {error}") from error
