"""The device worker: the one thread that runs the network, shared by all cameras."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from inspector.detector import Detector
from inspector.errors import (
    DeviceOutOfMemoryError,
    FrameAbandonedError,
    FrameMismatchError,
    NotFiniteError,
)
from inspector.service.frame_buffer import FrameBuffer
from inspector.service.health import Health
from inspector.service.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.metrics import Metrics
from inspector.types import Reason

logger = logging.getLogger(__name__)


class DeviceWorker(threading.Thread):
    """Takes tickets from the buffer, judges them, hands the outcome to the publisher."""

    def __init__(
        self,
        buffer: FrameBuffer,
        ledger: Ledger,
        detectors: Mapping[str, Detector],
        submit: Callable[[Outcome], None],
        *,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Make it; `detectors` by camera (cameras with the same recipe share one)."""
        super().__init__(name="device", daemon=True)
        self._buffer = buffer
        self._ledger = ledger
        self._detectors = detectors
        self._submit = submit
        self._health = health
        self._metrics = metrics
        self._drain_asked = threading.Event()
        self._abandon_asked = threading.Event()
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """Ask it to end once the buffer is empty; the caller joins."""
        self._drain_asked.set()

    def abandon(self) -> None:
        """Ask it to end at the next micro-batch, whatever waits."""
        self._abandon_asked.set()

    def run(self) -> None:
        """Until asked to stop, or a device fault."""
        try:
            while not self._abandon_asked.is_set():
                self._health.beat(self.name)
                ticket = self._buffer.get(timeout_s=0.2)
                if ticket is not None:
                    self._judge(ticket)
                elif self._drain_asked.is_set():
                    break
        except BaseException as error:
            logger.exception("device worker died")
            self.failure = error
            self._health.fault("device", str(error))
        finally:
            self._health.forget(self.name)

    def _judge(self, ticket: Ticket) -> None:
        if not self._ledger.is_open(ticket):
            return
        frame = ticket.frame
        queue_ms = (time.monotonic_ns() - frame.received_monotonic_ns) / 1e6 - frame.decode_ms

        def between_batches() -> None:
            self._health.beat(self.name)
            if self._abandon_asked.is_set() or not self._ledger.is_open(ticket):
                raise FrameAbandonedError(frame.frame_id)

        assert frame.pixels is not None  # noqa: S101 (frames without pixels never enter the buffer)
        try:
            judgement = self._detectors[frame.camera].judge(
                frame.pixels, frame.pixel_format, between_batches=between_batches
            )
        except FrameAbandonedError:
            self._metrics.abandoned.labels(frame.camera).inc()
        except FrameMismatchError as error:
            self._submit(error_outcome(ticket, Reason.FRAME_MISMATCH, str(error)))
        except NotFiniteError as error:
            self._submit(error_outcome(ticket, Reason.NOT_FINITE, str(error)))
        except DeviceOutOfMemoryError as error:
            self._submit(error_outcome(ticket, Reason.OUT_OF_MEMORY, str(error)))
        except Exception as error:
            # A device fault, or one nobody foresaw: nothing this process computes after it can be trusted.
            self._submit(error_outcome(ticket, Reason.INFERENCE_FAULT, f"{type(error).__name__}: {error}"))
            raise
        else:
            self._metrics.tiles.inc(judgement.tiles)
            decision = judgement.decision
            latency_ms = {"capture": frame.decode_ms, "queue": queue_ms, **judgement.latency_ms}
            self._submit(Outcome(ticket, decision.verdict, decision.reason, judgement=judgement, latency_ms=latency_ms))
