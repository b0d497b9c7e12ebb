"""The ingest thread: one generic loop owns retry, backoff, metrics and state for every kind of source.

Over 300 lines: what happens to a frame before it waits for the device is read in one piece.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from inspector.config import Camera, Station
from inspector.errors import MessageRefusedError, NotConnectedError, SourceExhaustedError, UnidentifiedFrameError
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket, enter, error_outcome
from inspector.service.flow.recorder import Recorder
from inspector.service.flow.repeats import Repeats
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.orders.snapshots import Snapshots
from inspector.service.orders.triggers import Triggers
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.sources.base import Source
from inspector.types import Frame, Reason

logger = logging.getLogger(__name__)

_READ_S = 0.2
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 5.0
_UNDATED = 100
"""Frames of a camera in a row that do not say when they were captured, after which it is told."""
_RECORD_S = 1.0
"""How long a sender that wants to be told waits for the disk at most."""
_SOON_S = 0.02
"""Within which most frames are on record; a disk that takes longer does not keep others' frames from being read."""
_FULL = Reason.OVERLOAD, "refused: too many frames are waiting for their verdicts to be recorded"
DRAIN_S = 1.0
"""How long a stop waits at most for pixels that are being decoded."""
_UNREAD_SHARE = 0.25
"""Of the shortest deadline: how long frames of several cameras may lie unread where a full buffer blocks."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A sender who waits to be told that its frame is on record."""

    recorded: threading.Event
    answer: Callable[[str | None], None]
    error: str | None
    due: float

    def tell(self) -> None:
        """Tell it how things stand."""
        late = "not recorded: the journal could not be written in time"
        self.answer(self.error if self.recorded.is_set() else late)


class IngestThread(Part):
    """Moves frames from one source into the buffer."""

    def __init__(
        self,
        source: Source,
        buffer: FrameBuffer,
        ledger: Ledger,
        recorder: Recorder,
        submit: Callable[[Outcome], None],
        *,
        judges: Judges,
        cameras: Mapping[str, Camera],
        offline: Offline,
        snapshots: Snapshots,
        triggers: Triggers,
        parts: Parts,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """`cameras`, from the station file, say how old their frames may be when they arrive."""
        super().__init__(f"ingest-{source.name}", health=health)
        self._source = source
        self._buffer = buffer
        self._ledger = ledger
        self._recorder = recorder
        self._submit = submit
        self._judges = judges
        self.cameras = cameras
        self._offline = offline
        self._snapshots = snapshots
        self._triggers = triggers
        self._parts = parts
        self._metrics = metrics
        self._is_connected = self._is_exhausted = False
        self._backoff_s = _FIRST_BACKOFF_S
        self._drain_s = DRAIN_S
        self._undated: Counter[str] = Counter()
        self._repeats = Repeats()
        self._losses: Counter[str] = Counter()
        self._caught_up = time.monotonic()
        self._asked: deque[_Asked] = deque()

    def stop(self, within_s: float = DRAIN_S) -> None:
        """Ask it to end; the caller joins. What is being decoded has so long to be ready."""
        self._drain_s = within_s
        super().stop()
        self._source.interrupt()

    def reconfigure(self, station: Station) -> None:
        self.cameras = station.cameras

    def serves(self, camera: str) -> bool:
        """Whether frames of this camera can come from it now."""
        return self._is_connected and camera in self._source.cameras

    def fire(self, camera: str, trigger_id: str, until_ns: int) -> None:
        """Have its camera, if it is this one, take a frame for a trigger, by then (monotonic) or not; does not wait."""
        if camera in self._source.cameras:
            self._source.fire(trigger_id, until_ns)

    @property
    def is_done(self) -> bool:
        """Whether it was asked to stop or the source is exhausted."""
        return self._is_exhausted or super().is_done

    @property
    def is_asking_outside(self) -> bool:
        """Whether its source still waits for a device or share that does not answer: it cannot be stopped."""
        return self._source.is_busy()

    def beat(self) -> None:
        """See `Part`; to connect may take longer."""
        self._health.beat(self.name, within_s=0.0 if self._is_connected else self._source.connect_s)

    def step(self) -> None:
        """Connect where it is not; else read a frame."""
        try:
            if self._is_connected:
                self._read()
            else:
                self._source.connect()
                self._set_up(up=True)
        except SourceExhaustedError as error:
            logger.info("%s", error)
            self._is_exhausted = True
        except NotConnectedError as error:
            self._log.warning("lost", str(error), source=self._source.name)
            self._set_up(up=False, why=str(error))
            self._source.close()
            self._stop_asked.wait(self._backoff_s)
            self._backoff_s = min(_LAST_BACKOFF_S, 2 * self._backoff_s)
        self._count_losses()

    def work(self) -> None:
        """Read until asked to stop; what was read by then is accepted as well, whole or not."""
        super().work()
        for frame in self._source.drain(self._drain_s):
            self._accept(frame)

    def release(self) -> None:
        self._tell_rest()
        self._source.close()
        for camera in self._source.cameras:
            self._metrics.source_up.labels(camera).set(0)
        super().release()

    def _read(self) -> None:
        self._tell_asked()
        try:
            frame = self._source.read(_SOON_S if self._asked else _READ_S)
            if self._source.is_caught_up:
                self._caught_up = time.monotonic()
        except UnidentifiedFrameError as error:
            self._metrics.frames_unidentified.labels(error.cause).inc()
            self._log.warning(error.cause, f"message refused: {error}", cause=error.cause)
            return
        except MessageRefusedError as error:  # counted where it was refused
            self._log.warning(error.cause, f"message refused: {error}")
            return
        if frame is not None:
            # A frame, not a connection: one that is lost at once must go on backing off.
            self._backoff_s = _FIRST_BACKOFF_S
            self._accept(frame)

    def _count_losses(self) -> None:
        """Count what never came; only a source of one camera knows of such."""
        for cause, count in list(self._source.losses.items()):
            if new := count - self._losses[cause]:
                self._losses[cause] = count
                (camera,) = self._source.cameras
                self._metrics.frames_missing.labels(camera, cause).inc(new)
                self._log.warning(
                    f"{camera} {cause}", f"camera {camera}: {new} frame(s) missing: {cause}", camera=camera
                )

    def _accept(self, frame: Frame) -> None:
        self._snapshots.note(frame)
        refusal = self._refuse(frame)
        if offline := self._offline.refuse(frame):  # whatever else is wrong with it
            refusal = Reason.OFFLINE, offline
        if not self._has_room(frame):
            refusal = refusal or _FULL
            frame = dataclasses.replace(frame, pixels=None)
        recorded = threading.Event() if self._source.awaits_answer() else None
        record: Callable[[Ticket], None] = lambda ticket: self._recorder.open(ticket, recorded)  # noqa: E731
        ticket, mismatch = enter(self._ledger, self._triggers, self._parts, frame, record, may_wait=refusal is None)
        refusal = refusal or mismatch
        self._health.enter(State.RUNNING, "a frame arrived")
        self._metrics.last_frame(frame)
        if refusal is not None:
            self._log_refusal(frame, *refusal)
            self._submit(error_outcome(ticket, *refusal))
        elif not ticket.awaits_trigger:
            logger.debug("frame %d: camera %s, id %s, accepted", ticket.number, frame.camera, frame.frame_id)
            for dropped in self._put(ticket):
                self._submit(error_outcome(dropped, Reason.OVERLOAD, "dropped: the frame buffer is full"))
        if recorded is not None:
            if not self._asked:
                recorded.wait(_SOON_S)
            due = time.monotonic() + _RECORD_S
            self._asked.append(_Asked(recorded, self._source.defer_answer(), frame.error, due))

    def _tell_asked(self) -> None:
        """Tell those who wait; frames are on record in the order they came."""
        while self._asked and (self._asked[0].recorded.is_set() or time.monotonic() >= self._asked[0].due):
            self._asked.popleft().tell()

    def _tell_rest(self) -> None:
        for asked in self._asked:
            asked.recorded.wait(max(0.0, asked.due - time.monotonic()))
            asked.tell()

    def _refuse(self, frame: Frame) -> tuple[Reason, str] | None:
        """Why this frame need not wait for the device."""
        if frame.error is not None:
            return frame.error_reason, frame.error
        judge = self._judges.get(frame.camera)
        is_repeat = (judge is None or judge.refuses_repeats) and self._repeats.note(frame)
        self._count_undated(frame)
        stale = self.cameras[frame.camera].explain_age(frame.captured_utc_ns, frame.received_utc_ns)
        if stale is not None:
            return Reason.STALE, stale
        if not self._judges.are_loaded:
            return Reason.NOT_READY, "the station is starting: recipes are being loaded"
        if judge is None:
            return Reason.NO_RECIPE, f"camera {frame.camera} has no recipe"
        if is_repeat and judge.refuses_repeats:
            return (
                Reason.REPEATED_FRAME,
                "its pixels are the same as those of the camera's last frame: the camera may have stopped",
            )
        return None

    def _count_undated(self, frame: Frame) -> None:
        """Tell of a camera none of whose frames can be found stale, since none says when it was captured."""
        camera = frame.camera
        self._undated[camera] = 0 if frame.captured_utc_ns else self._undated[camera] + 1
        if self._undated[camera] == _UNDATED and self.cameras[camera].max_age_ms == "deadline":
            message = f"camera {camera}: none of {_UNDATED} frames has a capture time (captured_utc_ns)"
            self._log.warning(f"{camera} undated", f"{message}: a delayed frame is judged as a new one", camera=camera)

    def _log_refusal(self, frame: Frame, reason: Reason, why: str) -> None:
        if reason is Reason.OFFLINE:  # people know, and it may last for hours
            return
        message = f"camera {frame.camera}, frame {frame.frame_id}: {why}"
        fields = {"camera": frame.camera, "frame_id": frame.frame_id, "reason": reason.name}
        self._log.warning(f"{frame.camera} {reason.name}", message, **fields)

    def _has_room(self, frame: Frame) -> bool:
        """Whether the pixels of all frames accepted and not yet answered stay within bounds.

        The buffer bounds those that wait for the device. Those that wait for the disk are few, unless it hangs or a
        camera floods, which then pays for it: one that holds less than its share has room.
        """
        ledger, limit = self._ledger, 2 * self._buffer.max_bytes + 4 * frame.nbytes
        share = limit / len(self.cameras)
        while ledger.open_bytes > limit and ledger.open_bytes_of[frame.camera] > share:
            if not self._source.can_wait or self._stop_asked.wait(0.05):
                return False
            self._health.beat(self.name)
        return True

    def _put(self, ticket: Ticket) -> list[Ticket]:
        while True:
            left_s = self._compute_unread_s()
            dropped = self._buffer.put(
                ticket, can_wait=self._source.can_wait, may_block=left_s > 0, timeout_s=min(_READ_S, max(0.0, left_s))
            )
            if dropped is not None:
                return dropped
            self._health.beat(self.name)  # full: waiting for the device, which has a beat of its own
            self._tell_asked()
            if not self._ledger.is_open(ticket) or self._stop_asked.is_set():
                return []  # answered by its deadline, or soon by the stop

    def _compute_unread_s(self) -> float:
        """How much longer what the source has may lie unread: no frame of another camera may grow old among it."""
        deadlines_ms = [self._ledger.deadlines_ms[camera] for camera in self._source.cameras]
        if len(deadlines_ms) == 1:
            return math.inf
        return self._caught_up + _UNREAD_SHARE * min(deadlines_ms) / 1000 - time.monotonic()

    def _set_up(self, *, up: bool, why: str = "") -> None:
        self._is_connected = up
        self._health.report(f"source {self._source.name}", None if up else why)
        for camera in self._source.cameras:
            self._metrics.source_up.labels(camera).set(up)
            if not up:
                self._metrics.source_reconnects.labels(camera).inc()
