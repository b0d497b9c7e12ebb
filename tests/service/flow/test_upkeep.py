"""Between writes the journal is pruned as its station asks for, and its mark kept within reach of the numbers given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from inspector.config import Journal as JournalConfig
from inspector.errors import JournalError
from inspector.journal.mark import MARGIN
from inspector.journal.writer import Closing
from inspector.service.flow import upkeep as module
from inspector.service.flow.retention import Retention
from inspector.service.flow.upkeep import Upkeep
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.rate_limit import RateLimitedLog
from inspector.types import Result

DAY_NS = 86_400 * 10**9
CONFIG = JournalConfig(keep_days=2.0, max_bytes=1_000_000)


@dataclass
class Clock:
    """Stands in for the module `time`."""

    monotonic_s: float = 100.0
    utc_ns: int = 1_700_000_000 * 10**9

    def monotonic(self) -> float:
        return self.monotonic_s

    def time_ns(self) -> int:
        return self.utc_ns

    def go_on(self, passed_s: float) -> None:
        self.monotonic_s += passed_s
        self.utc_ns += int(passed_s * 1e9)


@dataclass
class Journal:
    """Keeps what it is asked for."""

    rows: int = 1_000_000
    prunes: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, int]] = field(default_factory=list)
    problem: JournalError | None = None

    def last_seqs(self) -> dict[str, int]:
        return {"side": 7}

    def count_rows(self) -> int:
        return self.rows

    def prune(self, **limits: Any) -> int:
        self.prunes.append(limits)
        return min(limits["older_limit"] or 0, limits["limit"])

    def write_mark(self, seqs: Mapping[str, int]) -> None:
        if self.problem is not None:
            raise self.problem
        self.marks.append(dict(seqs))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def upkeep(clock: Clock, journal: Journal, running: Health) -> Upkeep:
    log = RateLimitedLog(logging.getLogger("upkeep"))
    return Upkeep(journal, health=running, log=log, retention=Retention(lambda: None))  # type: ignore[arg-type]


# ---------------------------------------------------------------- pruning


def test_journal_is_pruned_to_what_the_station_asks_for(upkeep: Upkeep, clock: Clock, journal: Journal) -> None:
    for _ in range(62):
        upkeep.step(CONFIG, prune=True)
        clock.go_on(60.0)
    assert journal.prunes[0] == {"before_utc_ns": None, "older_limit": None, "max_bytes": 1_000_000, "limit": 500}
    last = journal.prunes[-1]
    assert last["before_utc_ns"] == clock.utc_ns - 60 * 10**9 - 2 * DAY_NS
    assert 0 < last["older_limit"] < 3000


def test_journal_is_pruned_by_nothing_the_station_does_not_limit(upkeep: Upkeep, journal: Journal) -> None:
    upkeep.step(JournalConfig(keep_days=None, max_bytes=None), prune=True)
    assert journal.prunes == [{"before_utc_ns": None, "older_limit": None, "max_bytes": None, "limit": 500}]


def test_nothing_is_pruned_for_its_age_after_the_clock_was_stepped(
    upkeep: Upkeep, clock: Clock, journal: Journal
) -> None:
    for _ in range(62):
        upkeep.step(CONFIG, prune=True)
        clock.go_on(60.0)
    clock.utc_ns += 730 * DAY_NS
    upkeep.step(CONFIG, prune=True)
    assert journal.prunes[-2]["older_limit"]
    assert journal.prunes[-1]["before_utc_ns"] is None


def test_next_rows_are_pruned_soon_when_there_are_more(upkeep: Upkeep, clock: Clock, journal: Journal) -> None:
    for _ in range(62):
        upkeep.step(CONFIG, prune=True)
        clock.go_on(60.0)
    clock.go_on(120.0)
    upkeep.step(CONFIG, prune=True)
    count = len(journal.prunes)
    clock.go_on(1.1)
    upkeep.step(CONFIG, prune=True)
    assert len(journal.prunes) == count + 1


def test_nothing_is_pruned_while_the_disk_owes_something(upkeep: Upkeep, journal: Journal) -> None:
    upkeep.step(CONFIG, prune=False)
    assert journal.prunes == []
    assert journal.marks == [{"side": 7}]


# ---------------------------------------------------------------- the mark


def test_mark_follows_within_ten_seconds_where_anything_came(
    upkeep: Upkeep, clock: Clock, journal: Journal, make_result: Callable[..., Result]
) -> None:
    upkeep.step(CONFIG, prune=True)
    journal.marks.clear()
    upkeep.note([Closing(1, make_result(2)), Closing(2, make_result(1))])
    clock.go_on(9.9)
    upkeep.step(CONFIG, prune=True)
    assert journal.marks == []
    clock.go_on(0.2)
    upkeep.step(CONFIG, prune=True)
    assert journal.marks == [{"side": 7, "top": 2}]
    clock.go_on(60.0)
    upkeep.step(CONFIG, prune=True)
    assert len(journal.marks) == 1


def test_mark_stays_within_its_margin_of_the_numbers_given_when_very_many_come_at_once(
    upkeep: Upkeep, journal: Journal, make_result: Callable[..., Result]
) -> None:
    upkeep.step(CONFIG, prune=True)
    closings = [Closing(None, make_result(1))] * 100
    for batch in range(1, 3 * MARGIN // 100):
        upkeep.note([Closing(None, make_result(batch * 100)), *closings[1:]])
        upkeep.step(CONFIG, prune=True)
        assert batch * 100 - journal.marks[-1].get("top", 0) < MARGIN
    assert len(journal.marks) < 10


def test_station_is_degraded_and_judges_while_the_mark_cannot_be_written(
    upkeep: Upkeep, clock: Clock, journal: Journal, running: Health
) -> None:
    journal.problem = JournalError("journal's mark: no room")
    upkeep.step(CONFIG, prune=True)
    assert running.ready() == (True, "DEGRADED: journal mark: journal's mark: no room")
    journal.problem = None
    clock.go_on(10.1)
    upkeep.step(CONFIG, prune=True)
    assert running.state is State.RUNNING
    assert journal.marks == [{"side": 7}]


def test_mark_says_nothing_where_the_journal_itself_has_a_problem(
    upkeep: Upkeep, clock: Clock, journal: Journal, running: Health
) -> None:
    running.report("journal", "disk full")
    journal.problem = JournalError("journal's mark: no room")
    upkeep.step(CONFIG, prune=False)
    assert running.ready() == (False, "DEGRADED: journal: disk full")
