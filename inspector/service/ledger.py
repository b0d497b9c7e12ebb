"""Which accepted frames still owe a verdict. `received = pass + fail + error + in flight`, under one lock."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from inspector.detector import Judgement
from inspector.types import Frame, Reason, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """An accepted frame and the instant (monotonic) by which its verdict must leave."""

    number: int
    frame: Frame
    deadline_monotonic_ns: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a ticket: judged, or an error with its reason."""

    ticket: Ticket
    verdict: Verdict
    reason: Reason
    message: str | None = None
    judgement: Judgement | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)


def error_outcome(ticket: Ticket, reason: Reason, message: str) -> Outcome:
    """An ERROR verdict."""
    return Outcome(ticket, Verdict.ERROR, reason, message)


@dataclass(frozen=True, slots=True)
class Account:
    """The ledger at one instant, per camera."""

    received: dict[str, int]
    results: dict[tuple[str, Verdict, Reason], int]
    in_flight: dict[str, int]


class Ledger:
    """Accepts frames and closes each exactly once. Shared by all threads."""

    def __init__(self, deadlines_ms: dict[str, int]) -> None:
        self._deadlines_ns = {camera: ms * 1_000_000 for camera, ms in deadlines_ms.items()}
        self._lock = threading.Lock()
        self._next = 1
        self._open: dict[int, Ticket] = {}
        self._received: Counter[str] = Counter(dict.fromkeys(deadlines_ms, 0))
        self._results: Counter[tuple[str, Verdict, Reason]] = Counter()

    def accept(self, frame: Frame) -> Ticket:
        """From here on the frame is owed a verdict."""
        deadline = frame.received_monotonic_ns + self._deadlines_ns[frame.camera]
        with self._lock:
            ticket = Ticket(self._next, frame, deadline)
            self._next += 1
            self._open[ticket.number] = ticket
            self._received[frame.camera] += 1
        return ticket

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
            self._results[ticket.frame.camera, verdict, reason] += 1

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
        with self._lock:
            in_flight = Counter(ticket.frame.camera for ticket in self._open.values())
            return Account(
                dict(self._received),
                dict(self._results),
                {camera: in_flight[camera] for camera in self._received},
            )
