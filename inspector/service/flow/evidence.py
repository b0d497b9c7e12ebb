"""The evidence thread: keeps images of what was not passed, off the verdict path; gives way when it cannot keep up."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter

from inspector.config import Evidence, Station
from inspector.service.flow.ledger import Outcome
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.sinks.evidence import EvidenceStore
from inspector.types import Frame, Reason, Result, Verdict

_WAITING = 1000
"""Results that may wait, with pixels or without."""
_CHECK_PERIOD_S = 3.0
"""How soon a disk that has room again is noticed while no frame comes."""


class EvidenceThread(Part):
    """Writes the frames and results handed over by the publisher to the evidence store."""

    is_vital = False

    def __init__(self, store: EvidenceStore, config: Evidence, *, health: Health, metrics: Metrics) -> None:
        super().__init__("evidence", health=health)
        self._store = store
        self.config = config
        self._metrics = metrics
        self._passes: Counter[str] = Counter()
        self._waiting: queue.SimpleQueue[tuple[Frame, Result]] = queue.SimpleQueue()  # bounded by `_admit`
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._abandon_asked = threading.Event()
        self._troubled = False
        self._next_check = 0.0

    def offer(self, outcome: Outcome, result: Result) -> None:
        """Keep this one, if wanted and if there is room; never waits. For the publisher's thread alone."""
        if not self._wants(result):
            return
        frame = outcome.ticket.frame  # not the outcome: its anomaly map is larger than the frame
        if self._admit(frame.nbytes):
            self._waiting.put((frame, result))
        else:
            self._metrics.evidence_dropped.labels(result.camera).inc()

    def reconfigure(self, station: Station) -> None:
        self.config = self._store.config = station.evidence

    def abandon(self) -> None:
        """Ask it to end after the image at hand; those that wait are given up and counted."""
        self._abandon_asked.set()

    @property
    def is_done(self) -> bool:
        """Whether it is to give up what waits; or, asked to stop, has written all there was."""
        return self._abandon_asked.is_set() or (self._stop_asked.is_set() and self._waiting.empty())

    def work(self) -> None:
        """All its steps. An image that fails costs an image, never the flow."""
        if self.config.frames != "none":
            self._check()
        super().work()

    def release(self) -> None:
        """See `Part`; what still waits is given up and counted."""
        while not self._waiting.empty():
            frame, result = self._waiting.get()
            self._release(frame.nbytes)
            self._metrics.evidence_dropped.labels(result.camera).inc()
        super().release()

    def _wants(self, result: Result) -> bool:
        config = self.config  # once: a reload may put another in its place meanwhile
        if config.frames == "none":
            return False
        if result.reason is Reason.OFFLINE:  # pictures of people's work; they would push out those of rejects
            return False
        if result.verdict is not Verdict.PASS or result.warn:
            return True
        if not config.pass_every:
            return False
        self._passes[result.camera] += 1
        return (self._passes[result.camera] - 1) % config.pass_every == 0

    def _admit(self, nbytes: int) -> bool:
        with self._lock:
            if self._waiting_bytes + nbytes > self.config.buffer or self._waiting.qsize() >= _WAITING:
                return False
            self._waiting_bytes += nbytes
            return True

    def _release(self, nbytes: int) -> None:
        with self._lock:
            self._waiting_bytes -= nbytes

    def step(self) -> None:
        """Write one, or look whether a disk that had no room has some."""
        try:
            frame, result = self._waiting.get(timeout=0.2)
        except queue.Empty:
            if self._troubled and time.monotonic() >= self._next_check:
                self._check()
            return
        try:
            self._keep(frame, result)
        finally:
            self._release(frame.nbytes)

    def _keep(self, frame: Frame, result: Result) -> None:
        try:
            self._store.save(frame.pixels, frame.pixel_format, result)
        except Exception as error:  # noqa: BLE001 (whatever it is, verdicts go on)
            self._metrics.evidence_dropped.labels(result.camera).inc()
            self._report(f"frame {result.frame_id}: {error}")
        else:
            self._metrics.evidence_written.labels(result.camera).inc()
            self._report(None)
        self._measure()

    def _check(self) -> None:
        try:
            self._store.check()
        except Exception as error:  # noqa: BLE001 (as above)
            self._report(str(error))
        else:
            self._report(None)
        self._measure()

    def _measure(self) -> None:
        self._metrics.evidence_bytes.set(self._store.nbytes)
        self._metrics.evidence_suspended.set(self._store.is_suspended)

    def _report(self, problem: str | None) -> None:
        """Tell health: DEGRADED from a failure to the next success."""
        if problem is not None:
            self._log.warning("evidence", f"evidence not stored: {problem}")
            self._next_check = time.monotonic() + _CHECK_PERIOD_S
        self._troubled = problem is not None
        self._health.report(self.name, problem, blocks=False)
