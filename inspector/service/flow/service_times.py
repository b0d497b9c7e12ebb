"""How long frames lately took, and whether one more can still be judged in time."""

from __future__ import annotations

import threading
import time
from collections import deque

from inspector.service.flow.ledger import Outcome, Ticket
from inspector.types import Result

_LATELY = 16
"""Frames of a camera by whose times the next ones are measured."""


class ServiceTimes:
    """How long frames of each camera lately took from their begin until their verdict left: can one more make it?

    Under overload the frame that waited longest has the least time left; judging it anyway would make it late, and
    the next one too. So the slowest of late counts, its way to the disk included: an estimate too low would leave the
    device busy with frames that are all just late. The very slowest does not: a hiccup is no reason to refuse others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lately: dict[str, deque[float]] = {}
        self._seconds: dict[str, float] = {}

    def note(self, camera: str, seconds: float) -> None:
        """A frame took so long, or had taken so long when it was given up."""
        with self._lock:
            lately = self._lately.setdefault(camera, deque(maxlen=_LATELY))
            lately.append(seconds)
            self._seconds[camera] = sorted(lately)[-2:][0]

    def offer(self, outcome: Outcome, result: Result) -> None:
        """Note a frame whose verdict left, if it was judged; called by the publisher's thread."""
        if outcome.judgement is not None:
            latency_ms = result.latency_ms
            self.note(result.camera, (latency_ms["total"] - latency_ms["capture"] - latency_ms["queue"]) / 1e3)

    def can_make(self, ticket: Ticket) -> bool:
        """Whether the ticket's time left is enough, as far as is known."""
        left = (ticket.deadline_monotonic_ns - time.monotonic_ns()) / 1e9
        return left >= self._seconds.get(ticket.frame.camera, 0.0)
