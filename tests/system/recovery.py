"""From a fault to the next PASS: what the line sees meanwhile, and how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from inspector.testing.line import Arrival, Line
from inspector.testing.station_process import RunningStation

Serve = Callable[[], RunningStation]

SLACK_MS = 300
"""How late a busy machine may run a thread that has nothing to wait for."""


def report(fault: str, seen: str, seconds: float) -> None:
    """One line for people; `pytest -s` shows it."""
    print(f"\nrecovery: {fault}: {seen}: {seconds:.1f} s")  # noqa: T201


def wait_for_reason(line: Line, reason: str, *, since: int, count: int = 1) -> list[Arrival]:
    """Results from number `since` on, once `count` of them have this reason."""

    def has_come() -> bool:
        return sum(arrival.message["reason"] == reason for arrival in line.results[since:]) >= count

    line.wait_for(has_come, f"{count} {reason}")
    return line.results[since:]


def wait_for_pass(line: Line, *, since: int | None = None) -> float:
    """The instant (monotonic, seconds) of the next PASS, or the first from result number `since` on."""
    arrivals = wait_for_reason(line, "OK", since=len(line.results) if since is None else since)
    return next(arrival.at_s for arrival in arrivals if arrival.message["reason"] == "OK")


def endure(
    station: RunningStation,
    line: Line,
    reason: str,
    *,
    count: int = 4,
    meanwhile: Callable[[], object] = lambda: None,
    **settings: object,
) -> list[Arrival]:
    """Have a fault until the flowing line saw `count` results with this reason; all results until it passed again."""
    since = len(line.results)
    station.fault(**settings)
    wait_for_reason(line, reason, since=since, count=count)
    meanwhile()
    station.fault()
    mended = time.monotonic()
    report(", ".join(settings), f"ERROR {reason}", wait_for_pass(line) - mended)
    return line.results[since:]


def assert_deadlines_are_kept(arrivals: list[Arrival], deadline_ms: float) -> None:
    """No verdict after the deadline, and ERROR DEADLINE just after it; before it only for what was never begun."""
    for message in (arrival.message for arrival in arrivals):
        total_ms = message["latency_ms"]["total"]
        if message["reason"] in ("OK", "DEFECT"):
            assert total_ms <= deadline_ms, message
        elif message["reason"] == "DEADLINE":
            begun = not message["message"].startswith("not started: ")
            assert deadline_ms * begun <= total_ms < deadline_ms + SLACK_MS, message


class Ending:
    """A process that is about to end by itself, and what /live says until then."""

    def __init__(self, station: RunningStation) -> None:
        self.live: set[int] = set()
        self._station = station
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def wait(self) -> int:
        """The exit status."""
        self._thread.join()
        return self._station.process.wait(0)

    def _watch(self) -> None:
        limit = time.monotonic() + 60
        while self._station.process.poll() is None and time.monotonic() < limit:
            try:
                self.live.add(self._station.get("/live")[0])
            except OSError:
                time.sleep(0.02)
