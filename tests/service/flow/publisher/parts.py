"""What stands around a publisher in its tests: a recorder, a results socket, and what is asked of both."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inspector.detection.run import Judgement
from inspector.journal.writer import Closing
from inspector.service.flow.judges import Judge
from inspector.service.flow.ledger import Outcome, Ticket
from inspector.service.flow.publisher import Publisher
from inspector.service.flow.recorder import Written

Accept = Callable[..., Ticket]
End = Callable[[Any], None]
Launch = Callable[[Any], Any]
Make = Callable[..., Publisher]
MakeJudge = Callable[..., Judge]
MakeJudgement = Callable[..., Judgement]
Judged = Callable[..., Outcome]

WAIT_S = 10.0
DISK_FULL = "journal: cannot be written: disk full"


class StubRecorder:
    """A recorder without a disk. `error` fails all closings at once; one that `hangs` says nothing until told to."""

    def __init__(self, trace: list[Any], error: str | None = None) -> None:
        self.closed: list[Closing] = []
        self.late: queue.Queue[Closing] = queue.Queue()
        self.error = error
        self.hangs = False
        self.on_written: Callable[[Written], None] = lambda _: None
        self._trace = trace
        self._handed: queue.Queue[Closing] = queue.Queue()

    def close(self, closing: Closing) -> None:
        self.closed.append(closing)
        if self.hangs:
            self._handed.put(closing)
        else:
            self._tell([closing], self.error)

    def close_late(self, closing: Closing) -> None:
        self._trace.append(("late", closing.result.frame_id))
        self.late.put(closing)

    def answer(self, count: int = 1, error: str | None = None) -> None:
        """Say of so many closings, or of as soon as they are handed in, that they are durable or failed."""
        self._tell([self._handed.get(timeout=WAIT_S) for _ in range(count)], error)

    def next_late(self) -> Closing:
        return self.late.get(timeout=WAIT_S)

    def _tell(self, closings: Sequence[Closing], error: str | None) -> None:
        if error is None:
            self._trace.append(("journal", [closing.result.frame_id for closing in closings]))
        self.on_written(Written(closings, error))


class RecordingSocket:
    """A results socket that keeps what it is given; `lagging`: a subscriber lost each message."""

    def __init__(self, trace: list[Any], *, lagging: bool = False) -> None:
        self.results: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue()
        self.statuses: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self.joined = threading.Event()
        self._trace = trace
        self._lagging = lagging

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        if topic == "status":
            self.statuses.put(message)
        else:
            self._trace.append(("socket", message["frame_id"]))
            self.results.put((topic, message))
        return not self._lagging

    def read_subscriptions(self) -> bool:
        joined = self.joined.is_set()
        self.joined.clear()
        return joined

    def next(self) -> Mapping[str, Any]:
        """The next result."""
        return self.results.get(timeout=WAIT_S)[1]

    def all(self) -> list[Mapping[str, Any]]:
        """What was sent and not yet looked at."""
        return [self.results.get_nowait()[1] for _ in range(self.results.qsize())]


def verdicts(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(message["frame_id"], message["verdict"], message["reason"]) for message in messages]


def late(closing: Closing) -> tuple[str, str, str, bool]:
    result = closing.result
    return result.frame_id, result.verdict.value, result.reason.name, closing.amends


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
