"""The device worker: the one thread that runs networks on a device, shared by the device's cameras."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from inspector.detection.run import FrameRun
from inspector.device import Device
from inspector.errors import (
    DeviceOutOfMemoryError,
    FrameMismatchError,
    ImageHealthError,
    NotFiniteError,
    NotLocatedError,
    UnlikeGoodError,
)
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.flow.service_times import ServiceTimes
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.types import Reason

logger = logging.getLogger(__name__)

_REASONS: dict[type[Exception], Reason] = {
    FrameMismatchError: Reason.FRAME_MISMATCH,
    ImageHealthError: Reason.IMAGE_HEALTH,
    UnlikeGoodError: Reason.UNLIKE_GOOD,
    NotLocatedError: Reason.NOT_LOCATED,
    NotFiniteError: Reason.NOT_FINITE,
    DeviceOutOfMemoryError: Reason.OUT_OF_MEMORY,
}
"""What ends one frame and not the flow."""
_OF_ONE_FRAME = tuple(_REASONS)

_IDLE_S = 0.2
_POLL_S = 0.001
"""How long to wait for a frame while the device works: then it is asked whether the oldest frame has ended."""


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """A frame on its way through the device."""

    ticket: Ticket
    judge: Judge
    run: FrameRun
    queue_ms: float


class DeviceWorker(Part):
    """Takes tickets from the buffer, judges them, hands the outcome to the publisher.

    As many frames are under way as the engine can use: on a GPU the next one is uploaded and queued while this one is
    computed, and fills what this one's last batch leaves free, which costs this one nothing. As long as there is room
    for one more, a result is never waited for: a frame that comes is begun at once. They end in their order, and the
    buffer gives them by cameras in turn, so that no camera waits longer than for one frame of each other.

    Attributes:
        device: what it judges on.
        place: the device's, by which the buffer knows its frames.
    """

    def __init__(
        self,
        buffer: FrameBuffer,
        ledger: Ledger,
        judges: Judges,
        submit: Callable[[Outcome], None],
        *,
        device: Device,
        place: int = 0,
        abandoned: threading.Event,
        service_times: ServiceTimes,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """A frame is judged by the judge that its camera has when work on the frame begins.

        `abandoned`, once it is set, ends all workers that share it: after a fault of one GPU a process can do nothing
        more on any, by CUDA's own word.
        """
        super().__init__("device" if device.is_only else f"device {device.name}", health=health)
        self.device = device
        self.place = place
        self._buffer = buffer
        self._ledger = ledger
        self._judges = judges
        self._submit = submit
        self._metrics = metrics
        self._tiles = metrics.tiles.labels(device.name)
        self._under_way: deque[_UnderWay] = deque()
        self._set_aside: Ticket | None = None
        self._service_times = service_times
        self._abandoned = abandoned

    def abandon(self) -> None:
        """Ask it, and those that share its event, to end at the next micro-batch, whatever waits."""
        self._abandoned.set()

    @property
    def is_done(self) -> bool:
        """Whether it is to give up what waits; or, asked to stop, has judged all there was."""
        is_idle = not self._under_way and self._set_aside is None and self._buffer.is_idle(self.place)
        return self._abandoned.is_set() or (self._stop_asked.is_set() and is_idle)

    def work(self) -> None:
        """Judge frames until asked to stop."""
        torch.get_num_threads()  # noted at a thread's first look, while no other thread has it turned down
        with self.device.as_current():
            super().work()
        for item in self._under_way:
            self._metrics.abandoned.labels(item.ticket.frame.camera).inc()

    def step(self) -> None:
        """Begin a frame where there is room, then one micro-batch."""
        self._take_in()
        if self._under_way:
            self._go_on()

    def die(self, error: BaseException) -> None:
        """Answer what is under way. A device fault, or one nobody foresaw: nothing computed after it can be trusted."""
        self._abandoned.set()
        for item in self._under_way:
            self._submit(_build_fault(item.ticket, error))
        super().die(error)

    def _take_in(self) -> None:
        """Begin a frame where there is room for one; wait for it only where there is nothing else to do.

        One at a time: the batches of those under way go between, and their deadlines come first.
        """
        if not self._has_room:
            return
        ticket = None if self._under_way else self._set_aside
        if ticket is not None:
            self._set_aside = None
        elif self._set_aside is None:
            ticket = self._buffer.get(self._choose_wait_s(), self.place)
        if ticket is None or not self._ledger.is_open(ticket):
            return
        # The camera's newest is begun in any case: no other frame has a better chance, and the estimate may be wrong.
        if self._service_times.can_make(ticket) or not self._buffer.has(ticket.frame.camera):
            self._begin(ticket)
        else:  # its time goes to one that can still be answered
            self._submit(error_outcome(ticket, Reason.DEADLINE, "not started: too little time was left to judge it"))

    @property
    def _has_room(self) -> bool:
        """Whether the engine can use one more frame."""
        return not self._under_way or (len(self._under_way) < self._under_way[0].judge.detector.engine.frames_in_flight)

    @property
    def _may_wait_for_frames(self) -> bool:
        """Whether a frame that comes now could be begun: there is room, and none was set aside for want of memory."""
        return self._has_room and self._set_aside is None and not self._stop_asked.is_set()

    def _choose_wait_s(self) -> float:
        if not self._under_way:
            return _IDLE_S
        all_queued = all(item.run.is_done for item in self._under_way)
        return _POLL_S if all_queued and self._may_wait_for_frames and not self._under_way[0].run.is_ready else 0.0

    def _begin(self, ticket: Ticket) -> None:
        frame = ticket.frame
        queue_ms = (time.monotonic_ns() - frame.received_monotonic_ns) / 1e6 - frame.decode_ms
        judge = self._judges.get(frame.camera)
        assert judge is not None  # noqa: S101 (frames of cameras without one never enter the buffer)
        assert frame.pixels is not None  # noqa: S101 (nor do frames without pixels)
        try:
            run = judge.detector.begin(frame.pixels, frame.pixel_format)
        except _OF_ONE_FRAME as error:
            if isinstance(error, DeviceOutOfMemoryError) and self._under_way:
                self._set_aside = ticket  # there is room once those under way are done
            else:
                self._refuse(ticket, error)
        except Exception as error:
            self._submit(_build_fault(ticket, error))
            raise
        else:
            logger.debug("frame %d: started after %.1f ms", ticket.number, queue_ms)
            self._under_way.append(_UnderWay(ticket, judge, run, queue_ms))

    def _go_on(self) -> None:
        """One micro-batch where tiles wait, then the end of the oldest frame if its result is there.

        Where no tile waits and no frame could be begun, nothing is left to do but to wait for that result.
        """
        self._drop_answered()
        first = next((item for item in self._under_way if not item.run.is_done), None)
        if first is not None:
            self._advance(first)
        if not self._under_way or self._abandoned.is_set():  # another device may have failed just now
            return
        oldest = self._under_way[0]
        if oldest.run.is_ready or (first is None and oldest.run.is_done and not self._may_wait_for_frames):
            self._finish(oldest)
            self._under_way.popleft()

    def _drop_answered(self) -> None:
        """End the work on frames that have their verdict already: their deadline passed."""
        for item in [item for item in self._under_way if not self._ledger.is_open(item.ticket)]:
            self._under_way.remove(item)
            self._note_late(item)

    def _note_late(self, item: _UnderWay) -> None:
        camera = item.ticket.frame.camera
        self._service_times.note(camera, time.monotonic() - item.run.started)
        self._metrics.abandoned.labels(camera).inc()

    def _advance(self, first: _UnderWay) -> None:
        runs = [first.run]
        if first.judge.detector.engine.pays_for_full_batch:
            same = [item for item in self._under_way if item.judge is first.judge and not item.run.is_done]
            runs = [item.run for item in same]
        try:
            first.judge.detector.advance(runs)
        except _OF_ONE_FRAME as error:
            self._under_way.remove(first)
            self._refuse(first.ticket, error)

    def _finish(self, item: _UnderWay) -> None:
        frame = item.ticket.frame
        if not self._ledger.is_open(item.ticket):
            self._note_late(item)
            return
        try:
            judgement = item.judge.detector.finish(item.run)
        except _OF_ONE_FRAME as error:
            self._refuse(item.ticket, error)
            return
        self._tiles.inc(judgement.tiles)
        decision = judgement.decision
        latency_ms = {"capture": frame.decode_ms, "queue": item.queue_ms, **judgement.latency_ms}
        self._submit(
            Outcome(
                item.ticket,
                decision.verdict,
                decision.reason,
                judgement=judgement,
                judge=item.judge,
                latency_ms=latency_ms,
            )
        )

    def _refuse(self, ticket: Ticket, error: Exception) -> None:
        reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        self._submit(error_outcome(ticket, reason, str(error)))


def _build_fault(ticket: Ticket, error: BaseException) -> Outcome:
    return error_outcome(ticket, Reason.INFERENCE_FAULT, f"{type(error).__name__}: {error}")
