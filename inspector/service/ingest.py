"""The ingest thread: one generic loop owns retry, backoff, metrics and state for every kind of source."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from inspector.errors import NotConnectedError, SourceExhaustedError, UnidentifiedFrameError
from inspector.service.frame_buffer import FrameBuffer
from inspector.service.health import Health, State
from inspector.service.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.metrics import Metrics
from inspector.service.rate_limit import RateLimitedLog
from inspector.sources.base import Source
from inspector.types import Frame, Reason

logger = logging.getLogger(__name__)

_READ_S = 0.2
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 5.0


class IngestThread(threading.Thread):
    """Moves frames from one source into the buffer."""

    def __init__(
        self,
        source: Source,
        buffer: FrameBuffer,
        ledger: Ledger,
        submit: Callable[[Outcome], None],
        *,
        judged: Collection[str],
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Make it; `judged` are the cameras that have a recipe."""
        super().__init__(name=f"ingest-{source.name}", daemon=True)
        self._source = source
        self._buffer = buffer
        self._ledger = ledger
        self._submit = submit
        self._judged = judged
        self._health = health
        self._metrics = metrics
        self._stop_asked = threading.Event()
        self._log = RateLimitedLog(logger)
        self._backoff_s = _FIRST_BACKOFF_S
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """Ask it to end; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop or the source is exhausted."""
        try:
            self._loop()
        except BaseException as error:
            logger.exception("%s died", self.name)
            self.failure = error
        finally:
            self._source.close()
            for camera in self._source.cameras:
                self._metrics.source_up.labels(camera).set(0)
            self._health.forget(self.name)

    def _loop(self) -> None:
        while not self._stop_asked.is_set():
            self._health.beat(self.name)
            try:
                self._source.connect()
                self._set_up(up=True)
                self._read_until_lost()
                return
            except SourceExhaustedError as error:
                logger.info("%s", error)
                return
            except NotConnectedError as error:
                self._log.warning("lost", str(error))
                self._set_up(up=False, why=str(error))
                self._source.close()
                self._stop_asked.wait(self._backoff_s)
                self._backoff_s = min(_LAST_BACKOFF_S, 2 * self._backoff_s)

    def _read_until_lost(self) -> None:
        while not self._stop_asked.is_set():
            self._health.beat(self.name)
            try:
                frame = self._source.read(_READ_S)
            except UnidentifiedFrameError as error:
                self._metrics.frames_unidentified.labels(error.cause).inc()
                self._log.warning(error.cause, f"message refused: {error}")
                continue
            if frame is not None:
                # A frame, not a connection: one that is lost at once must go on backing off.
                self._backoff_s = _FIRST_BACKOFF_S
                self._accept(frame)

    def _accept(self, frame: Frame) -> None:
        ticket = self._ledger.accept(frame)
        self._health.enter(State.RUNNING)
        self._metrics.last_frame(frame)
        if frame.error is not None:
            self._log.warning("bad frame", f"camera {frame.camera}, frame {frame.frame_id}: {frame.error}")
            self._submit(error_outcome(ticket, Reason.BAD_FRAME, frame.error))
        elif frame.camera not in self._judged:
            self._submit(error_outcome(ticket, Reason.NO_RECIPE, f"camera {frame.camera} has no recipe"))
        else:
            for dropped in self._put(ticket):
                self._submit(error_outcome(dropped, Reason.OVERLOAD, "dropped: the frame buffer is full"))

    def _put(self, ticket: Ticket) -> list[Ticket]:
        while True:
            dropped = self._buffer.put(ticket, can_wait=self._source.can_wait)
            if dropped is not None:
                return dropped
            self._health.beat(self.name)  # full: waiting for the device, which has a beat of its own
            if not self._ledger.is_open(ticket) or self._stop_asked.is_set():
                return []  # answered by its deadline, or soon by the stop

    def _set_up(self, *, up: bool, why: str = "") -> None:
        self._health.report(f"source {self._source.name}", None if up else why)
        for camera in self._source.cameras:
            self._metrics.source_up.labels(camera).set(up)
            if not up:
                self._metrics.source_reconnects.labels(camera).inc()
