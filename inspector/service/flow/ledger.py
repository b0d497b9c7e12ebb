"""Which accepted frames still owe a verdict. `received = pass + fail + error + in flight`, under one lock.

More than 300 lines: all that opens, changes and closes a ticket is one account, and is read in one piece.

A part that several cameras see is a ticket too, of a camera of its own, `part/NAME`, whose frame has no pixels.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from inspector.detection.run import Judgement
from inspector.journal.writer import OpenFrame
from inspector.service.flow.judges import Judge
from inspector.service.orders.deciding import Decided, Refusal
from inspector.service.orders.parts import Parts
from inspector.service.orders.triggers import Triggers
from inspector.types import PART_PREFIX, Frame, PixelFormat, Reason, Verdict

GRACE_NS = 20_000_000
"""How long after its deadline what only the deadline decides may wait for the disk."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """An accepted frame, a trigger or a part, and the instant (monotonic) by which its verdict must leave.

    Attributes:
        of_trigger: the verdict is a trigger's.
        awaits_frame: the trigger's frame has not come: `frame` is a stand-in without pixels.
        awaits_trigger: the frame's trigger has not been announced: nobody judges it yet.
    """

    number: int
    frame: Frame
    deadline_ms: int
    deadline_monotonic_ns: int
    of_trigger: bool = False
    awaits_frame: bool = False
    awaits_trigger: bool = False

    @property
    def is_of_part(self) -> bool:
        """Whether the verdict is a part's."""
        return self.frame.camera.startswith(PART_PREFIX)

    def to_record(self) -> OpenFrame:
        """What the journal keeps of it for as long as it is open."""
        frame = self.frame
        return OpenFrame(
            number=self.number, camera=frame.camera, frame_id=frame.frame_id, part_id=frame.part_id,
            trigger_id=frame.trigger_id, captured_utc_ns=frame.captured_utc_ns, received_utc_ns=frame.received_utc_ns,
            deadline_ms=self.deadline_ms, simulated=frame.simulated,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a ticket: judged, and by whom; a part, decided by its views; or an error with its reason."""

    ticket: Ticket
    verdict: Verdict
    reason: Reason
    message: str | None = None
    judgement: Judgement | None = None
    judge: Judge | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    part: Decided | None = None

    @property
    def told_by(self) -> tuple[Frame, ...]:
        """Frames whose cameras must not be offline for it: of a part its views; none where one has said FAIL."""
        if self.part is None:
            return (self.ticket.frame,)
        return () if self.verdict is Verdict.FAIL else self.part.frames

    @property
    def due_ns(self) -> int:
        """When (monotonic) it must leave at the latest; an ERROR may always leave.

        A part with a view that FAILs is FAIL, be others missing: at the end of its window, with the time of an ERROR.
        """
        waits = self.part is not None and self.verdict is Verdict.FAIL
        return self.ticket.deadline_monotonic_ns + (GRACE_NS if waits else 0)


def error_outcome(ticket: Ticket, reason: Reason, message: str, part: Decided | None = None) -> Outcome:
    """The outcome of a frame, or part, that is answered ERROR with this reason."""
    return Outcome(ticket, Verdict.ERROR, reason, message, part=part)


def decide_part(ticket: Ticket, part: Decided) -> Outcome:
    """The outcome of a part that its views decided."""
    return Outcome(ticket, part.verdict, part.reason, part.message, part=part)


def expire(ticket: Ticket) -> Outcome:
    """Its deadline passed: ERROR DEADLINE; of a trigger NO_FRAME; of a frame without one TRIGGER_MISMATCH."""
    if ticket.awaits_trigger:
        message = f"no trigger of this frame was announced within {ticket.deadline_ms} ms"
        return error_outcome(ticket, Reason.TRIGGER_MISMATCH, message)
    if ticket.awaits_frame:
        return error_outcome(ticket, Reason.NO_FRAME, f"no frame of this trigger came within {ticket.deadline_ms} ms")
    return error_outcome(ticket, Reason.DEADLINE, "no verdict before the deadline")


def in_time(outcome: Outcome) -> Outcome:
    """The outcome, or ERROR DEADLINE where it came too late to be one. An error keeps its own reason."""
    if outcome.verdict is Verdict.ERROR or time.monotonic_ns() <= outcome.due_ns:
        return outcome
    return error_outcome(outcome.ticket, Reason.DEADLINE, "judged, but after the deadline", outcome.part)


@dataclass(frozen=True, slots=True)
class Account:
    """The ledger at one instant, per camera."""

    received: dict[str, int]
    results: dict[tuple[str, Verdict, Reason], int]
    in_flight: dict[str, int]
    triggers: dict[str, int] = field(default_factory=dict)
    trigger_results: dict[tuple[str, Verdict], int] = field(default_factory=dict)
    triggers_open: dict[str, int] = field(default_factory=dict)

    @property
    def balances(self) -> bool:
        """Whether each camera's received = pass + fail + error + in flight, and the same of its triggers."""
        closed: Counter[str] = Counter()
        for (camera, _, _), count in self.results.items():
            closed[camera] += count
        answered: Counter[str] = Counter()
        for (camera, _), count in self.trigger_results.items():
            answered[camera] += count
        return all(
            count == closed[name] + self.in_flight[name]
            and self.triggers.get(name, 0) == answered[name] + self.triggers_open.get(name, 0)
            for name, count in self.received.items()
        )


class Ledger:
    """Accepts frames and closes each exactly once. Shared by all threads.

    Attributes:
        deadlines_ms: of each camera and part, for what is accepted from now on.
        open_bytes: pixel memory of all open frames, wherever they are.
        open_bytes_of: the same of each camera.
        left_open: by number, what an earlier run accepted and did not answer, until it is adopted.
    """

    def __init__(self, deadlines_ms: Mapping[str, int], left_open: Iterable[OpenFrame] = ()) -> None:
        """Nothing is open; `left_open` is what an earlier run owes a verdict, see `adopt`."""
        self.deadlines_ms = dict(deadlines_ms)
        self.left_open = {record.number: record for record in left_open}
        self._lock = threading.RLock()  # a frame that is recorded may open its part
        self._next = 1 + max(self.left_open, default=0)
        self._open: dict[int, Ticket] = {}
        self._claimed: set[int] = set()  # of those open, whose verdict is made
        self.open_bytes = 0
        self.open_bytes_of: Counter[str] = Counter()
        self._received: Counter[str] = Counter(dict.fromkeys(deadlines_ms, 0))
        self._results: Counter[tuple[str, Verdict, Reason]] = Counter()
        self._triggers: Counter[str] = Counter(dict.fromkeys(deadlines_ms, 0))
        self._triggers_open: Counter[str] = Counter(dict.fromkeys(deadlines_ms, 0))
        self._trigger_results: Counter[tuple[str, Verdict]] = Counter()

    def accept(self, frame: Frame, record: Callable[[Ticket], None] = lambda _: None) -> Ticket:
        """From here on the frame is owed a verdict.

        `record` is called before anyone else can see the ticket, and so close it; it must not wait.
        """
        with self._lock:
            return self._issue(frame, self.deadlines_ms[frame.camera], record)

    def await_frame(self, frame: Frame, timeout_ms: int, record: Callable[[Ticket], None] = lambda _: None) -> Ticket:
        """From here on a trigger is owed a verdict: `frame` has its ids, and stands in for the one that is to come."""
        with self._lock:
            ticket = self._issue(frame, timeout_ms, record, is_trigger=True)
            self._triggers[frame.camera] += 1
            self._triggers_open[frame.camera] += 1
        return ticket

    def _issue(
        self, frame: Frame, limit_ms: int, record: Callable[[Ticket], None], *, is_trigger: bool = False
    ) -> Ticket:
        deadline = frame.received_monotonic_ns + limit_ms * 1_000_000
        ticket = Ticket(self._next, frame, limit_ms, deadline, of_trigger=is_trigger, awaits_frame=is_trigger)
        self._next += 1
        record(ticket)
        self._enter(ticket)
        return ticket

    def fill(self, number: int, frame: Frame, record: Callable[[Ticket], None] = lambda _: None) -> Ticket | None:
        """A trigger's frame came: the verdict that is owed is now the frame's, by its camera's deadline.

        None, and nothing happens, where the trigger is answered, or about to be, or has its frame, or this is too late.
        """
        deadline_ms = self.deadlines_ms[frame.camera]
        deadline = frame.received_monotonic_ns + deadline_ms * 1_000_000
        with self._lock:
            if not self.can_fill(number, frame):
                return None
            ticket = Ticket(number, frame, deadline_ms, deadline, of_trigger=True)
            record(ticket)
            self._open[number] = ticket
            self._hold(ticket, 1)
        return ticket

    def await_trigger(self, ticket: Ticket, within_ms: int) -> Ticket:
        """The trigger of a frame may yet be announced: its verdict is owed so soon after reception, see `expire`.

        The ticket as it was, where it is answered, or about to be.
        """
        deadline = ticket.frame.received_monotonic_ns + within_ms * 1_000_000
        waiting = replace(ticket, deadline_ms=within_ms, deadline_monotonic_ns=deadline, awaits_trigger=True)
        with self._lock:
            if not self._is_unclaimed(ticket):
                return ticket
            self._open[ticket.number] = waiting
        return waiting

    def attach(
        self, number: int, trigger_id: str, part_id: str | None, record: Callable[[Ticket], None] = lambda _: None
    ) -> Ticket | None:
        """The trigger of a frame that waits is announced: the verdict that is owed is now that of both.

        None, and nothing happens, where the frame is answered, or about to be.
        """
        with self._lock:
            if not self.awaits_trigger(number):
                return None
            frame = self._open[number].frame
            frame = replace(frame, trigger_id=trigger_id, part_id=part_id or frame.part_id)
            deadline_ms = self.deadlines_ms[frame.camera]
            deadline = frame.received_monotonic_ns + deadline_ms * 1_000_000
            ticket = Ticket(number, frame, deadline_ms, deadline, of_trigger=True)
            record(ticket)
            self._open[number] = ticket
            self._triggers[frame.camera] += 1
            self._triggers_open[frame.camera] += 1
        return ticket

    def claim(self, ticket: Ticket) -> bool:
        """Make its verdict, once: False where one is made, it is answered, or its trigger's frame came in its place."""
        with self._lock:
            if not self._is_unclaimed(ticket):
                return False
            self._claimed.add(ticket.number)
            return True

    def _is_unclaimed(self, ticket: Ticket) -> bool:
        return self._open.get(ticket.number) is ticket and ticket.number not in self._claimed

    def find(self, number: int) -> Ticket | None:
        """The open ticket of this number."""
        return self._open.get(number)

    def is_open_number(self, number: int) -> bool:
        """Whether a verdict is owed for this number."""
        return number in self._open or number in self.left_open

    def awaits_frame(self, number: int) -> bool:
        """Whether it is an open trigger's whose frame has not come."""
        ticket = self._open.get(number)
        return ticket is not None and ticket.awaits_frame and number not in self._claimed

    def can_fill(self, number: int, frame: Frame) -> bool:
        """Whether a frame came in time for an open trigger whose frame has not come."""
        ticket = self._open.get(number)
        # Whether or not somebody has noticed that its time is over.
        is_in_time = ticket is not None and frame.received_monotonic_ns <= ticket.deadline_monotonic_ns
        return is_in_time and self.awaits_frame(number)

    def awaits_trigger(self, number: int) -> bool:
        """Whether it is an open frame's whose trigger has not been announced."""
        ticket = self._open.get(number)
        return ticket is not None and ticket.awaits_trigger and number not in self._claimed

    def find_deadline_ns(self, number: int) -> int:
        """When (monotonic) the verdict owed for this number must leave at the latest; 0: none is owed."""
        ticket = self._open.get(number)
        return 0 if ticket is None else ticket.deadline_monotonic_ns

    def count_triggers(self, camera: str) -> int:
        """How many triggers of a camera are open."""
        return self._triggers_open[camera]

    def adopt(self, record: OpenFrame) -> Ticket:
        """Take over a frame that an earlier run left open; its pixels are gone, and its verdict is due at once."""
        now = time.monotonic_ns()
        frame = Frame(
            camera=record.camera, frame_id=record.frame_id, pixels=None, pixel_format=PixelFormat.MONO8,
            received_utc_ns=record.received_utc_ns, received_monotonic_ns=now, captured_utc_ns=record.captured_utc_ns,
            part_id=record.part_id, trigger_id=record.trigger_id, simulated=record.simulated,
        )  # fmt: skip
        ticket = Ticket(record.number, frame, record.deadline_ms, now + record.deadline_ms * 1_000_000)
        with self._lock:
            self._enter(ticket)
            self.left_open.pop(record.number, None)
        return ticket

    def _enter(self, ticket: Ticket) -> None:
        self._open[ticket.number] = ticket
        self._hold(ticket, 1)
        self._received[ticket.frame.camera] += 1

    def _hold(self, ticket: Ticket, sign: int) -> None:
        self.open_bytes += sign * ticket.frame.nbytes
        self.open_bytes_of[ticket.frame.camera] += sign * ticket.frame.nbytes

    def is_open(self, ticket: Ticket) -> bool:
        """Whether its verdict is still owed."""
        return ticket.number in self._open

    def close(self, ticket: Ticket, verdict: Verdict, reason: Reason) -> None:
        """Its verdict left.

        Raises:
            KeyError: it had one already: a fault of this program.
        """
        with self._lock:
            del self._open[ticket.number]
            self._claimed.discard(ticket.number)
            self._hold(ticket, -1)
            self._results[ticket.frame.camera, verdict, reason] += 1
            if ticket.of_trigger:
                self._triggers_open[ticket.frame.camera] -= 1
                self._trigger_results[ticket.frame.camera, verdict] += 1

    def expired(self, now_ns: int) -> list[Ticket]:
        """Open tickets whose deadline has passed, oldest first."""
        with self._lock:
            return [ticket for ticket in self._open.values() if ticket.deadline_monotonic_ns <= now_ns]

    def open_tickets(self) -> list[Ticket]:
        """All open tickets, oldest first."""
        with self._lock:
            return list(self._open.values())

    def account(self) -> Account:
        """A consistent snapshot."""
        with self._lock:  # copies only: who accepts and closes frames waits for it
            received, results, tickets = dict(self._received), dict(self._results), list(self._open.values())
            triggers = dict(self._triggers), dict(self._trigger_results), dict(self._triggers_open)
        in_flight = Counter(ticket.frame.camera for ticket in tickets)
        return Account(received, results, {camera: in_flight[camera] for camera in received}, *triggers)


def enter(
    ledger: Ledger,
    triggers: Triggers,
    parts: Parts,
    frame: Frame,
    record: Callable[[Ticket], None],
    *,
    may_wait: bool = True,
) -> tuple[Ticket, Refusal | None]:
    """Accept a frame, for its trigger and its part where it has these; and why it is not judged, if that cannot be.

    `may_wait` unless it is refused already: until its trigger is announced, where that may come later. Its part is
    told now, where the frame says which it is, else with the ids of the trigger.
    """
    refusals: list[Refusal | None] = []

    def admit(ticket: Ticket) -> None:
        refusals.append(parts.admit(ticket.number, ticket.frame))  # a part is on record before its first view
        record(ticket)

    with triggers.lock:
        match = triggers.match(frame, may_wait=may_wait)
        ticket = None if match.number is None else ledger.fill(match.number, match.frame, admit)
        if ticket is None:
            if match.number is not None:  # answered just now
                match = triggers.match(frame, may_wait=may_wait)
            is_told = match.waits_ms is None or parts.has_id(frame)
            ticket = ledger.accept(match.frame, admit if is_told else record)
            if match.surplus_of is not None:
                parts.note_surplus(match.surplus_of, ticket.number, frame)
            if match.waits_ms is not None:
                refusal = refusals[0] if is_told else None
                ticket = ticket if refusal else ledger.await_trigger(ticket, match.waits_ms)
                triggers.note(frame, ticket.number)
                return ticket, refusal
        triggers.note(frame, ticket.number)
    return ticket, Refusal(Reason.TRIGGER_MISMATCH, match.refusal) if match.refusal else refusals[0]
