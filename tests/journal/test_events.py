"""Events stay as they were written, in order, and cannot be changed unnoticed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.journal import events as journal_events
from inspector.journal import schema as journal_schema
from inspector.journal.events import Event, Kind, select_events
from inspector.journal.schema import EVENT_COLUMNS
from inspector.journal.verification import verify
from inspector.journal.writer import Journal
from inspector.types import Result

Make = Callable[..., Result]


def make_event(at: int, camera: str | None = "top", **changes: Any) -> Event:
    details = {"old": None, "new": {"recipe_sha256": f"{at}", "threshold": at / 3}}
    return Event(**{"at_utc_ns": at, "boot_id": "boot", "kind": Kind.RECIPE, "camera": camera, "who": "ann",
                    "outcome": "switched", "details": details} | changes)  # fmt: skip


@pytest.fixture
def written(journal: Journal, path: Path, make: Make) -> Path:
    """Events 1 to 4 and a result."""
    journal.write([], [], [make_event(1), make_event(2, "side")])
    journal.append([make(1)])
    journal.write([], [], [make_event(3, None, kind=Kind.RELOAD, outcome="applied"), make_event(4)])
    return path


def test_events_read_back_in_order_as_they_were_written(written: Path) -> None:
    found = list(select_events(written))
    assert found[0] == make_event(1)
    assert [event.at_utc_ns for event in found] == [1, 2, 3, 4]
    assert [event.at_utc_ns for event in select_events(written, camera="top")] == [1, 3, 4]
    assert [event.at_utc_ns for event in select_events(written, camera="side", since_utc_ns=2)] == [2, 3]
    assert found[0].to_json() == {
        "at_utc_ns": 1, "boot_id": "boot", "kind": "recipe", "camera": "top", "who": "ann", "outcome": "switched",
        "old": None, "new": {"recipe_sha256": "1", "threshold": 1 / 3},
    }  # fmt: skip


def test_last_judged_is_the_new_recipe_of_the_last_switch(written: Path, journal: Journal) -> None:
    refused = make_event(5, outcome="refused", details={"recipe": "x", "reason": "torn"})
    journal.write([], [], [refused, make_event(6, "side", details={"old": {}, "new": None})])
    assert journal.last_judged() == {"top": {"recipe_sha256": "4", "threshold": 4 / 3}, "side": None}


def test_text_that_sqlite_would_not_take_holds_up_nothing(journal: Journal, path: Path, make: Make) -> None:
    journal.write([], [], [make_event(1, who="\ud800", details={"reason": "m\udcfc" * 5000, "new": None})])
    (event,) = select_events(path)
    assert event.who == "\\ud800"
    assert event.details["reason"] == ("m\udcfc" * 5000)[:2000]
    assert verify(path).faults == ()


def test_event_is_on_record_with_the_verdicts_of_its_write_or_not_at_all(journal: Journal, make: Make) -> None:
    journal.append([make(1)])
    with pytest.raises(JournalError):
        journal.write([], [journal_closing(make(1))], [make_event(1)])
    assert journal.last_judged() == {}


def journal_closing(result: Result) -> Any:
    from inspector.journal.writer import Closing

    return Closing(None, result)


# ---------------------------------------------------------------- verified


def test_events_are_counted_and_their_head_named_when_whole(written: Path, journal: Journal) -> None:
    found = verify(written)
    (head,) = journal._connection.execute("SELECT hash FROM events WHERE n = 4").fetchone()
    assert (found.rows, found.events, found.events_head_n, found.faults) == (1, 4, 4, ())
    assert found.events_head_hash == head.hex()


INSERTED = f"INSERT INTO events SELECT 5, {', '.join(EVENT_COLUMNS[1:])}, hash FROM events WHERE n = 4"  # noqa: S608


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("UPDATE events SET who = 'bob' WHERE n = 2", "event 2 (2 boot): altered, or in the wrong place"),
        ("UPDATE events SET json = '{}' WHERE n = 1", "event 1 (1 boot): altered, or in the wrong place"),
        ("DELETE FROM events WHERE n = 3", "event 3: missing; the next one recorded is event 4 (4 boot)"),
        ("DELETE FROM events WHERE n = 4", "event 4: missing, together with all events up to the head, event 4"),
        ("DELETE FROM events WHERE n = 1", "event 1: missing; the next one recorded is event 2 (2 boot)"),
        (INSERTED, "event 5 (4 boot): altered, or in the wrong place"),
        ("UPDATE meta SET hash = zeroblob(32) WHERE name = 'events_head'", "head: must have the hash of event 4"),
    ],
)
def test_fault_names_the_event_when_the_file_was_changed(written: Path, script: str, fault: str) -> None:
    with closing(sqlite3.connect(written)) as connection:
        connection.executescript(script)
    faults = verify(written).faults
    assert fault in faults[0]


# ---------------------------------------------------------------- pruned, migrated


def test_events_stay_when_results_are_pruned_and_the_oldest_go_above_their_number(
    written: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert journal.prune(before_utc_ns=10**18, max_bytes=None) == 1
    assert [event.at_utc_ns for event in select_events(written)] == [1, 2, 3, 4]
    monkeypatch.setattr(journal_events, "MAX_EVENTS", 2)
    journal.prune(before_utc_ns=None, max_bytes=None)
    assert [event.at_utc_ns for event in select_events(written)] == [3, 4]
    found = verify(written)
    assert (found.events, found.faults) == (2, ())


def test_journal_of_version_1_is_read_as_it_is_and_gets_events_when_opened(
    path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "MIGRATIONS", journal_schema.MIGRATIONS[:1])
        patch.setattr("inspector.journal.writer.append_events", lambda *_: None)
        journal = Journal(path)
        journal.append([make(1), make(2)])
        journal.close()
    assert (verify(path).rows, verify(path).events, verify(path).faults) == (2, 0, ())
    assert list(select_events(path)) == []
    journal = Journal(path)
    journal.write([], [], [make_event(1)])
    journal.close()
    assert (verify(path).rows, verify(path).events, verify(path).faults) == (2, 1, ())
