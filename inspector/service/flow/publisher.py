"""The publisher: the one thread that closes frames. Journal first, then the socket, then whoever keeps pictures.

It never waits for the disk: the journal thread tells when a verdict is durable. Where it does not do so by the frame's
deadline, the frame is answered ERROR DEADLINE without, and what was published is put on record as an amendment.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inspector.detection.web import WebDefects
from inspector.journal.writer import Closing
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import GRACE_NS, Ledger, Outcome, Ticket, decide_part, error_outcome, expire, in_time
from inspector.service.flow.recorder import Recorder, Written
from inspector.service.flow.status import Identity, StatusBoard
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.sinks.results import ResultsSocket
from inspector.types import Reason, Result, Verdict

logger = logging.getLogger(__name__)

_STATUS_PERIOD_S = 0.4
_MAX_BATCH = 64
_TICK_S = 0.01
"""How late a deadline may be noticed."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Sealed:
    """An outcome with its result, on its way to the disk."""

    outcome: Outcome
    result: Result
    handed_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Notice:
    """A message that is no result: a trigger for a camera program."""

    topic: str
    message: Mapping[str, Any]


class Publisher(Part):
    """Gives each open frame its one verdict, deadline errors included, and sends the status."""

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        socket: ResultsSocket,
        identity: Identity,
        judges: Judges,
        *,
        last_seqs: Mapping[str, int],
        forget: Callable[[Ticket], None],
        taps: Sequence[Callable[[Outcome, Result], None]],
        status: StatusBoard,
        offline: Offline,
        parts: Parts,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Set up the thread; `start` runs it.

        Args:
            ledger, recorder, socket, identity, judges: what it closes, records, sends, says.
            last_seqs: each camera's last sequence number on record; numbers go on from there.
            forget: told of a frame that was answered while it waits for the device.
            taps: each is handed every published result and must not wait.
            status: what it sends beside results.
            offline: whose frames do not pass.
            parts: what several views decide together.
            health, metrics: who watches.
        """
        super().__init__("publisher", health=health)
        self._ledger = ledger
        self._recorder = recorder
        self._socket = socket
        self._identity = identity
        self._judges = judges
        self._forget = forget
        self._taps = taps
        self._status = status
        self._offline = offline
        self._parts = parts
        self._metrics = metrics
        self._defects = WebDefects()
        # Bounded by the frames in flight, and the triggers that may be open.
        self._inbox: queue.SimpleQueue[Outcome | Written | _Notice] = queue.SimpleQueue()
        self._sealed: dict[int, _Sealed | None] = {}  # None: was sent; its pixels are not kept until the disk answers
        # Counters: a frame left open may be of a camera that this station no longer has.
        self._seqs = Counter(dict.fromkeys(ledger.deadlines_ms, 0) | dict(last_seqs))
        self._stop_by = 0.0
        self._next_status = 0.0
        recorder.on_written = self._inbox.put

    def submit(self, outcome: Outcome) -> None:
        """Hand over an outcome, from any thread. Late ones are counted and dropped: their frame has its verdict."""
        self._inbox.put(outcome)

    def notify(self, topic: str, message: Mapping[str, Any]) -> None:
        """Send a message to whoever listens, from any thread."""
        self._inbox.put(_Notice(topic, message))

    def stop(self, within_s: float = 0.0) -> None:
        """Answer what is open ERROR SHUTDOWN and end, if the disk lets it, on record; after `within_s` anyhow."""
        self._stop_by = time.monotonic() + within_s
        super().stop()

    def work(self) -> None:
        """Until asked to stop and all is answered."""
        super().work()
        self._take(self._receive(0.0))
        self._seal_rest()
        while self._sealed and time.monotonic() < self._stop_by:
            self.beat()
            self.step()
            self._seal_rest()  # a source may have been slow to stop
        for is_last in (False, True):
            self._seal_rest(is_last=is_last)
            for number in list(self._sealed):
                self._send_unrecorded(number)
        self._publish_status(now=True)

    def step(self) -> None:
        """Answer what was judged, recorded or is late."""
        self._take(self._receive(_TICK_S))
        self._answer_expired()
        self._publish_status()

    def _seal_rest(self, *, is_last: bool = False) -> None:
        """Frames; once these are answered, or at the last look, the parts that they did not decide."""
        tickets = self._ledger.open_tickets()
        are_frames_open = not is_last and any(not ticket.is_of_part for ticket in tickets)
        for ticket in tickets:
            if ticket.number in self._sealed or (ticket.is_of_part and are_frames_open):
                continue
            part = self._parts.expire(ticket.number)
            if part is not None and part.verdict is Verdict.FAIL:
                self._seal(decide_part(ticket, part))
                continue
            what = "this frame was judged" if part is None else f"all was known: {part.message}"
            self._seal(error_outcome(ticket, Reason.SHUTDOWN, f"the station stopped before {what}", part))

    def _receive(self, timeout_s: float) -> list[Outcome | Written | _Notice]:
        messages: list[Outcome | Written | _Notice] = []
        try:
            messages.append(self._inbox.get(timeout=timeout_s) if timeout_s else self._inbox.get_nowait())
            while len(messages) < _MAX_BATCH or not timeout_s:
                messages.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return messages

    def _take(self, messages: Sequence[Outcome | Written | _Notice]) -> None:
        for message in messages:
            if isinstance(message, Written):
                self._send_written(message)
            elif isinstance(message, _Notice):
                self._send_message(message.topic, message.message)
            else:
                self._seal(message)

    # ------------------------------------------------------------ outcome → result, on its way to the disk

    def _seal(self, outcome: Outcome) -> None:
        ticket = outcome.ticket
        if not self._ledger.claim(ticket):  # it has its verdict; or a trigger's frame came in its place
            if outcome.judgement is not None:
                self._metrics.results_late.labels(ticket.frame.camera).inc()
            return
        outcome = self._in_force(in_time(outcome))
        sealed = _Sealed(outcome, self._build(outcome), time.monotonic_ns())
        self._sealed[ticket.number] = sealed
        self._recorder.close(Closing(ticket.number, sealed.result))

    def _in_force(self, outcome: Outcome) -> Outcome:
        """The outcome, or ERROR OFFLINE where its camera is offline, or was when the frame came."""
        if outcome.verdict is Verdict.ERROR or (offline := self._find_offline(outcome)) is None:
            return outcome
        return error_outcome(outcome.ticket, Reason.OFFLINE, offline, outcome.part)

    def _find_offline(self, outcome: Outcome) -> str | None:
        """Why it may not leave: see `Offline.refuse`."""
        return next(filter(None, map(self._offline.refuse, outcome.told_by)), None)

    def _build(self, outcome: Outcome) -> Result:
        camera = outcome.ticket.frame.camera
        self._seqs[camera] += 1
        judge = outcome.judge or self._judges.get(camera)
        return self._defects.place(self._identity.build_result(outcome, self._seqs[camera], judge))

    # ------------------------------------------------------------ result → socket

    def _send_written(self, written: Written) -> None:
        for closing in written.closings:
            assert closing.number is not None  # noqa: S101 (ours all have one)
            sealed = self._sealed.pop(closing.number)
            if sealed is None:
                if written.error is not None and closing.result.verdict is Verdict.ERROR:  # else it was amended
                    self._recorder.close_late(dataclasses.replace(closing, amends=True))
            elif written.error is not None and sealed.result.verdict is Verdict.ERROR:
                self._amend(sealed, sealed.result.reason, sealed.result.message or "")
            elif written.error is not None:
                # A verdict that is not on record is not a PASS.
                self._amend(sealed, Reason.NOT_READY, written.error)
            elif _is_late(sealed):
                self._amend(sealed, Reason.DEADLINE, "judged, but recorded only after the deadline")
            else:
                self._send_recorded(sealed)

    def _send_recorded(self, sealed: _Sealed) -> None:
        """Send what is on record, unless its camera was taken offline meanwhile."""
        if sealed.result.verdict is Verdict.ERROR:
            self._send(sealed, sealed.result)
            return
        with self._offline.publishing:  # who takes a camera offline waits for what is being sent
            offline = self._find_offline(sealed.outcome)
            if offline is None:
                self._send(sealed, sealed.result)
        if offline is not None:
            self._amend(sealed, Reason.OFFLINE, offline)

    def _answer_expired(self) -> None:
        now = time.monotonic_ns()
        for ticket in self._ledger.expired(now):
            if ticket.number not in self._sealed:
                self._forget(ticket)
                part = self._parts.expire(ticket.number)
                self._seal(expire(ticket) if part is None else decide_part(ticket, part))
            elif now > ticket.deadline_monotonic_ns + GRACE_NS:
                self._send_unrecorded(ticket.number)

    def _send_unrecorded(self, number: int) -> None:
        """Answer now what the disk has not taken yet: an ERROR, which lets no part through."""
        sealed, self._sealed[number] = self._sealed[number], None
        if sealed is None:
            return
        if sealed.result.verdict is Verdict.ERROR:
            self._send(sealed, dataclasses.replace(sealed.result, recorded=False))
        else:
            self._amend(sealed, Reason.DEADLINE, "judged, but not recorded before the deadline")

    def _amend(self, sealed: _Sealed, reason: Reason, message: str) -> None:
        result = dataclasses.replace(
            sealed.result, verdict=Verdict.ERROR, reason=reason, message=message, warn=False, recorded=False
        )
        self._send(sealed, result)
        self._recorder.close_late(Closing(sealed.outcome.ticket.number, result, amends=True))

    def _send(self, sealed: _Sealed, result: Result) -> None:
        started, ticket = time.monotonic_ns(), sealed.outcome.ticket
        journal_ms = (started - sealed.handed_ns) / 1e6
        total_ms = (started - ticket.frame.received_monotonic_ns) / 1e6
        result = dataclasses.replace(result, latency_ms={**result.latency_ms, "journal": journal_ms, "total": total_ms})
        wire = result.to_wire()
        self._send_message(result.camera if ticket.is_of_part else f"result/{result.camera}", wire)
        self._ledger.close(ticket, result.verdict, result.reason)
        logger.debug("frame %d: seq %d, %s %s", ticket.number, result.seq, result.verdict.value, result.reason.name)
        self._status.note(result, wire)
        publish_ms = (time.monotonic_ns() - started) / 1e6
        self._metrics.published(dataclasses.replace(result, latency_ms={**result.latency_ms, "publish": publish_ms}))
        if ticket.is_of_part:  # pictures are its views'
            return
        for tap in self._taps:
            tap(sealed.outcome, result)
        part = self._parts.note(ticket.number, result)
        if part is not None and (whole := self._ledger.find(part.number)) is not None:
            self._seal(decide_part(whole, part))

    # ------------------------------------------------------------ status

    def _send_message(self, topic: str, message: Mapping[str, Any]) -> None:
        if not self._socket.publish(topic, message):
            self._metrics.results_lagging.inc()

    def _publish_status(self, *, now: bool = False) -> None:
        joined = self._socket.read_subscriptions()
        if not (now or joined) and time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + _STATUS_PERIOD_S
        self._socket.publish("status", self._status.build())


def _is_late(sealed: _Sealed) -> bool:
    return sealed.result.verdict is not Verdict.ERROR and time.monotonic_ns() > sealed.outcome.due_ns
