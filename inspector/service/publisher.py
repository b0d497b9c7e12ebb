"""The publisher: the one thread that closes frames. Journal first, then the socket, then whoever draws pictures."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from inspector.errors import JournalError
from inspector.service.health import Health
from inspector.service.ledger import Ledger, Outcome, error_outcome
from inspector.service.metrics import Metrics
from inspector.service.rate_limit import RateLimitedLog
from inspector.sinks.journal import Journal
from inspector.sinks.results import ResultsSocket
from inspector.types import SCHEMA, Reason, Result, Verdict

logger = logging.getLogger(__name__)

_STATUS_PERIOD_S = 0.4
_MAX_BATCH = 64
_TICK_S = 0.02
"""How late a deadline's ERROR may be."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What every result says about who judged it."""

    station: str
    boot_id: str
    deadlines_ms: Mapping[str, int]
    recipes: Mapping[str, Mapping[str, Any]]  # camera → recipe_id, recipe_sha256, model_sha256
    thresholds: Mapping[str, float]


class Publisher(threading.Thread):
    """Gives each open frame its one verdict, deadline errors included, and sends the status."""

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        socket: ResultsSocket,
        identity: Identity,
        *,
        draw: Callable[[Outcome, Result], None],
        queue_depth: Callable[[], int],
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Make it; `draw` is handed every published result and must not wait."""
        super().__init__(name="publisher", daemon=True)
        self._ledger = ledger
        self._journal = journal
        self._socket = socket
        self._identity = identity
        self._draw = draw
        self._queue_depth = queue_depth
        self._health = health
        self._metrics = metrics
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()  # bounded by the frames in flight
        self._seqs = dict.fromkeys(identity.deadlines_ms, 0) | journal.last_seqs()
        self._stop_asked = threading.Event()
        self._log = RateLimitedLog(logger)
        self._next_status = 0.0
        self.failure: BaseException | None = None

    def submit(self, outcome: Outcome) -> None:
        """Hand over an outcome, from any thread. Late ones are dropped: their frame has its verdict."""
        self._outcomes.put(outcome)

    def stop(self) -> None:
        """Ask it to end once it has published all it was handed; what is still open gets ERROR SHUTDOWN."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop."""
        try:
            while not self._stop_asked.is_set():
                self._health.beat(self.name)
                self._publish(self._collect(_TICK_S))
                self._publish_expired()
                self._publish_status()
            self._publish(self._collect(0))
            self._publish(
                [
                    error_outcome(ticket, Reason.SHUTDOWN, "the station stopped before this frame was judged")
                    for ticket in self._ledger.open_tickets()
                ]
            )
            self._publish_status(now=True)
        except BaseException as error:
            logger.exception("publisher died")
            self.failure = error
            self._health.fault(self.name, str(error))
        finally:
            self._health.forget(self.name)

    def _collect(self, timeout_s: float) -> list[Outcome]:
        outcomes = []
        try:
            outcomes.append(self._outcomes.get(timeout=timeout_s) if timeout_s else self._outcomes.get_nowait())
            while len(outcomes) < _MAX_BATCH or not timeout_s:
                outcomes.append(self._outcomes.get_nowait())
        except queue.Empty:
            pass
        return outcomes

    def _publish_expired(self) -> None:
        expired = self._ledger.expired(time.monotonic_ns())
        self._publish([error_outcome(ticket, Reason.DEADLINE, "no verdict before the deadline") for ticket in expired])

    def _publish(self, outcomes: list[Outcome]) -> None:
        now = time.monotonic_ns()
        due: dict[int, Outcome] = {}
        for outcome in outcomes:
            if not self._ledger.is_open(outcome.ticket):
                continue  # late: its frame was answered already
            due.setdefault(outcome.ticket.number, _in_time(outcome, now))
        if not due:
            return
        results = [self._build(outcome, now) for outcome in due.values()]
        results = self._record(results)
        for outcome, result in zip(due.values(), results, strict=True):
            self._send(outcome, result)

    def _record(self, results: list[Result]) -> list[Result]:
        started = time.monotonic()
        try:
            self._journal.append(results)
        except JournalError as error:
            # A verdict that is not on record is not a PASS.
            self._metrics.journal_errors.inc()
            self._log.warning("journal", str(error))
            self._health.report("journal", str(error))
            return [
                dataclasses.replace(
                    result, verdict=Verdict.ERROR, reason=Reason.NOT_READY, message=str(error), warn=False
                )
                for result in results
            ]
        self._health.report("journal", None)
        journal_ms = (time.monotonic() - started) * 1e3
        return [
            dataclasses.replace(result, latency_ms={**result.latency_ms, "journal": journal_ms}) for result in results
        ]

    def _send(self, outcome: Outcome, result: Result) -> None:
        started = time.monotonic_ns()
        if not self._socket.publish(f"result/{result.camera}", result.to_wire()):
            self._metrics.results_lagging.inc()
        self._ledger.close(outcome.ticket, result.verdict, result.reason)
        ended = time.monotonic_ns()
        latency_ms = {
            **result.latency_ms,
            "publish": (ended - started) / 1e6,
            "total": (ended - outcome.ticket.frame.received_monotonic_ns) / 1e6,
        }
        self._metrics.published(dataclasses.replace(result, latency_ms=latency_ms))
        self._draw(outcome, result)

    def _build(self, outcome: Outcome, now_ns: int) -> Result:
        frame = outcome.ticket.frame
        decision = outcome.judgement.decision if outcome.judgement else None
        self._seqs[frame.camera] += 1
        total_ms = (now_ns - frame.received_monotonic_ns) / 1e6
        return Result(
            station=self._identity.station,
            boot_id=self._identity.boot_id,
            seq=self._seqs[frame.camera],
            camera=frame.camera,
            frame_id=frame.frame_id,
            part_id=frame.part_id,
            trigger_id=frame.trigger_id,
            verdict=outcome.verdict,
            reason=outcome.reason,
            score=decision.score if decision else None,
            threshold=self._identity.thresholds.get(frame.camera),
            regions=decision.regions if decision else (),
            captured_utc_ns=frame.captured_utc_ns,
            received_utc_ns=frame.received_utc_ns,
            published_utc_ns=time.time_ns(),
            deadline_ms=self._identity.deadlines_ms[frame.camera],
            latency_ms={**outcome.latency_ms, "total": total_ms},
            simulated=frame.simulated,
            message=outcome.message,
            warn=decision.warn if decision else False,
            **self._identity.recipes.get(frame.camera, {}),
        )

    def _publish_status(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + _STATUS_PERIOD_S
        self._socket.publish("status", self.build_status())

    def build_status(self) -> dict[str, Any]:
        """The status message."""
        return {
            "schema": SCHEMA,
            "station": self._identity.station,
            "boot_id": self._identity.boot_id,
            "state": self._health.state.value,
            "lifebit": self._health.lifebit,
            "last_seq": dict(self._seqs),
            "queue_depth": self._queue_depth(),
            "last_error": self._health.last_error,
            "published_utc_ns": time.time_ns(),
        }


def _in_time(outcome: Outcome, now_ns: int) -> Outcome:
    """The outcome, or ERROR DEADLINE where it came too late to be one. An error keeps its own reason."""
    if outcome.verdict is Verdict.ERROR or now_ns <= outcome.ticket.deadline_monotonic_ns:
        return outcome
    return error_outcome(outcome.ticket, Reason.DEADLINE, "judged, but after the deadline")
