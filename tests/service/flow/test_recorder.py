"""The one writer of the journal: in order, as much at once as waits, and nothing published is given up lightly."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Journal as JournalConfig
from inspector.errors import JournalError
from inspector.journal.events import Event, Kind
from inspector.journal.writer import Closing, Journal, OpenFrame, read_results
from inspector.service.flow import recorder as module
from inspector.service.flow.ledger import Ticket
from inspector.service.flow.recorder import Recorder, Written
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import FileVersion, Reason, Result, TakenFile, Verdict

Accept = Callable[..., Ticket]
End = Callable[[Any], None]
Launch = Callable[[Any], Any]
MakeClosing = Callable[..., Closing]

WAIT_S = 10.0
DISK_FULL = "journal: cannot be written: disk full"


class RecordingJournal:
    """A journal in memory, on a disk that can fill up (`problem`) or hang (while `moving` is not set)."""

    def __init__(self) -> None:
        self.writes: queue.Queue[tuple[list[OpenFrame], list[Closing]]] = queue.Queue()
        self.tried: queue.Queue[int] = queue.Queue()
        self.events: list[Event] = []
        self.files: list[TakenFile] = []
        self.prunes: list[dict[str, Any]] = []
        self.prunable = 0
        self.marks: queue.Queue[dict[str, int]] = queue.Queue()
        self.rows = 0
        self.problem: Exception | None = None
        self.displaced: Exception | None = None  # its files are not in their place
        self.moving = threading.Event()
        self.moving.set()

    def write(
        self,
        opened: Sequence[OpenFrame],
        closings: Sequence[Closing],
        events: Sequence[Event] = (),
        files: Sequence[TakenFile] = (),
    ) -> None:
        self.tried.put(len(opened) + len(closings))
        assert self.moving.wait(WAIT_S)
        if self.problem is not None:
            raise self.problem
        self.events += events
        self.files += files
        self.writes.put((list(opened), list(closings)))

    def last_seqs(self) -> dict[str, int]:
        return {"side": 7}

    def check_place(self) -> None:
        if self.displaced is not None:
            raise self.displaced

    def write_mark(self, seqs: Mapping[str, int]) -> None:
        if self.problem is not None:
            raise self.problem
        self.marks.put(dict(seqs))

    def count_rows(self) -> int:
        return self.rows

    def prune(self, **limits: Any) -> int:
        self.prunes.append(limits)
        gone = min(self.prunable, limits["limit"])
        self.prunable -= gone
        return gone

    def next(self) -> list[str]:
        """The next write that succeeded, frame by frame."""
        opened, closings = self.writes.get(timeout=WAIT_S)
        return [f"open {record.frame_id}" for record in opened] + [_name(closing) for closing in closings]

    def all(self) -> list[list[str]]:
        """Writes that succeeded and were not yet looked at."""
        return [self.next() for _ in range(self.writes.qsize())]


def _name(closing: Closing) -> str:
    return f"{'amend' if closing.amends else 'close'} {closing.result.frame_id}"


@pytest.fixture
def journal() -> RecordingJournal:
    return RecordingJournal()


@pytest.fixture
def written() -> queue.Queue[Written]:
    """What the recorder says of the closings."""
    return queue.Queue()


@pytest.fixture
def make(
    journal: RecordingJournal, running: Health, metrics: Metrics, written: queue.Queue[Written]
) -> Callable[..., Recorder]:
    """A recorder that is not started yet."""

    def make(other: Any = None, **config: Any) -> Recorder:
        recorder = Recorder(other or journal, JournalConfig(**config), health=running, metrics=metrics)
        recorder.on_written = written.put
        return recorder

    return make


@pytest.fixture
def closing(make_result: Callable[..., Result]) -> MakeClosing:
    """A PASS on frame `f<number>`."""

    def closing(number: int, *, amends: bool = False, **changes: Any) -> Closing:
        return Closing(number, make_result(number, **changes), amends=amends)

    return closing


def told(written: queue.Queue[Written]) -> tuple[list[str], str | None]:
    one = written.get(timeout=WAIT_S)
    return [item.result.frame_id for item in one.closings], one.error


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---------------------------------------------------------------- files


def test_file_goes_on_record_with_its_frame_and_is_forgotten_in_its_turn(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept
) -> None:
    recorder = make()
    taken = TakenFile("top", "a.png", FileVersion(10, 20))
    recorder.open(accept("a.png", files=(taken,)))
    recorder.note_file(TakenFile("top", "a.png", None))
    launch(recorder)
    assert journal.next() == ["open a.png"]
    assert journal.files == [taken, TakenFile("top", "a.png", None)]


def test_file_whose_frame_was_answered_goes_on_record_once_the_disk_takes_it(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept, closing: MakeClosing,
    written: queue.Queue[Written],
) -> None:  # fmt: skip
    journal.problem = JournalError(DISK_FULL)
    recorder = make()
    taken = TakenFile("top", "f1", FileVersion(10, 20))
    ticket = accept("f1", files=(taken,))
    recorder.open(ticket)
    recorder.close(closing(ticket.number))
    launch(recorder)
    assert told(written)[1] == DISK_FULL
    journal.problem = None
    wait_until(lambda: journal.files == [taken])


# ---------------------------------------------------------------- in order, all at once


def test_all_that_waits_goes_in_one_write_with_openings_first(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept, closing: MakeClosing,
    written: queue.Queue[Written],
) -> None:  # fmt: skip
    recorder = make()
    for number in (1, 2, 3):
        recorder.open(accept(f"f{number}"))
        recorder.close(closing(number))
    launch(recorder)
    assert journal.next() == ["open f1", "open f2", "open f3", "close f1", "close f2", "close f3"]
    assert told(written) == (["f1", "f2", "f3"], None)


def test_what_comes_during_a_commit_goes_with_the_next(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = launch(make())
    journal.moving.clear()
    recorder.close(closing(1))
    journal.tried.get(timeout=WAIT_S)
    for number in (2, 3, 4):
        recorder.close(closing(number))
    journal.moving.set()
    assert [journal.next(), journal.next()] == [["close f1"], ["close f2", "close f3", "close f4"]]


def test_write_is_bounded_when_very_much_waits(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recorder = make()
    monkeypatch.setattr(module, "_MAX_BATCH", 40)
    for number in range(50):
        recorder.close(closing(number))
    launch(recorder)
    assert [len(journal.next()), len(journal.next())] == [40, 10]


def test_frame_is_said_to_be_recorded_only_once_it_is_durable(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept,
    written: queue.Queue[Written], closing: MakeClosing,
) -> None:  # fmt: skip
    recorder, recorded = launch(make()), threading.Event()
    journal.moving.clear()
    recorder.open(accept("f1"), recorded)
    recorder.close(closing(1))
    journal.tried.get(timeout=WAIT_S)
    assert not recorded.wait(0.1)
    assert written.empty()
    journal.moving.set()
    assert recorded.wait(WAIT_S)
    assert told(written) == (["f1"], None)


def test_frame_is_never_said_to_be_recorded_when_the_write_failed(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept,
    written: queue.Queue[Written], closing: MakeClosing,
) -> None:  # fmt: skip
    recorder, recorded = make(), threading.Event()
    journal.problem = JournalError(DISK_FULL)
    recorder.open(accept("f1"), recorded)
    recorder.close(closing(1))
    launch(recorder)
    assert told(written) == (["f1"], DISK_FULL)
    assert not recorded.is_set()


def test_frame_that_was_opened_is_in_the_file_until_it_is_closed(
    make: Callable[..., Recorder], launch: Launch, accept: Accept, closing: MakeClosing, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    recorder = launch(make(journal, keep_days=None))
    ticket, recorded = accept("f1"), threading.Event()
    recorder.open(ticket, recorded)
    assert recorded.wait(WAIT_S)
    with_one_open = Journal(tmp_path / "journal.sqlite")
    assert with_one_open.open_frames() == [ticket.to_record()]
    recorder.close(closing(ticket.number))
    wait_until(lambda: with_one_open.open_frames() == [])
    with_one_open.close()
    assert [kept["frame_id"] for kept in read_results(tmp_path / "journal.sqlite", "top", 1)] == ["f1"]


# ---------------------------------------------------------------- a disk that takes nothing


def test_recorder_fails_at_once_without_trying_when_a_write_failed_a_moment_ago(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing,
    written: queue.Queue[Written], monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 60.0)
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    for number in (1, 2, 3):
        recorder.close(closing(number))
        assert told(written) == ([f"f{number}"], DISK_FULL)
    assert journal.tried.qsize() == 1
    assert registry.get_sample_value("inspector_journal_errors_total") == 1


def test_health_tells_of_the_disk_until_a_write_succeeds(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing,
    written: queue.Queue[Written], running: Health, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    recorder.close(closing(1))
    assert told(written) == (["f1"], DISK_FULL)
    assert running.ready() == (False, f"DEGRADED: journal: {DISK_FULL}")
    journal.problem = None
    time.sleep(0.02)
    recorder.close(closing(2))
    assert told(written) == (["f2"], None)
    assert running.ready() == (True, "RUNNING")


def test_published_results_are_written_once_the_disk_takes_them_again_when_nothing_else_comes(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing, running: Health,
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry, written: queue.Queue[Written],
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    for number in (1, 2):
        recorder.close_late(closing(number, amends=True))
    wait_until(lambda: registry.get_sample_value("inspector_journal_backlog") == 2)
    assert running.state is State.DEGRADED
    journal.problem = None
    assert journal.next() == ["amend f1", "amend f2"]
    wait_until(lambda: registry.get_sample_value("inspector_journal_backlog") == 0)
    assert running.state is State.RUNNING
    assert written.empty()  # nobody waits for them


def test_oldest_published_results_are_lost_and_counted_when_the_backlog_is_full(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing,
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    monkeypatch.setattr(module, "_MAX_BACKLOG", 3)
    recorder = make()
    journal.problem = JournalError(DISK_FULL)
    for number in range(1, 6):
        recorder.close_late(closing(number, amends=True))
    launch(recorder)
    wait_until(lambda: registry.get_sample_value("inspector_journal_backlog") == 3)
    assert registry.get_sample_value("inspector_journal_lost_total") == 2
    journal.problem = None
    assert journal.next() == ["amend f3", "amend f4", "amend f5"]


def test_verdict_and_its_amendment_are_both_on_record_when_a_hung_disk_takes_them_in_one_write(
    make: Callable[..., Recorder], launch: Launch, closing: MakeClosing, tmp_path: Path,
    written: queue.Queue[Written],
) -> None:  # fmt: skip
    journal = Journal(tmp_path / "journal.sqlite")
    recorder = make(journal, keep_days=None)
    late = {"verdict": Verdict.ERROR, "reason": Reason.DEADLINE}
    recorder.close(closing(1))
    recorder.close_late(closing(1, amends=True, **late))
    recorder.close(closing(2))
    launch(recorder)
    assert told(written) == (["f1", "f2"], None)
    kept = read_results(tmp_path / "journal.sqlite", "top", 1)
    assert [(each["frame_id"], each["reason"]) for each in kept] == [("f1", "DEADLINE"), ("f2", "OK")]


# ---------------------------------------------------------------- pruning


def test_journal_is_pruned_when_verdicts_never_pause(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = make()

    def go_on(written: Written) -> None:
        if not journal.prunes:
            recorder.close(closing(1))  # so that one always waits

    recorder.on_written = go_on
    recorder.close(closing(1))
    launch(recorder)
    wait_until(lambda: bool(journal.prunes))


def test_flow_goes_on_when_the_journal_cannot_be_pruned(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing,
    written: queue.Queue[Written], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = threading.Event()

    def prune(**_: Any) -> int:
        asked.set()
        raise JournalError("journal: locked")

    monkeypatch.setattr(journal, "prune", prune)
    recorder = launch(make())
    assert asked.wait(WAIT_S)
    recorder.close(closing(1))
    assert told(written) == (["f1"], None)
    assert recorder.failure is None


# ---------------------------------------------------------------- files that vanish, numbers that were given


def test_station_is_not_ready_while_the_files_are_gone_though_nothing_comes(
    make: Callable[..., Recorder],
    launch: Launch,
    journal: RecordingJournal,
    running: Health,
    registry: CollectorRegistry,
) -> None:
    launch(make())
    journal.displaced = JournalError("journal: its files were deleted")
    wait_until(lambda: running.ready() == (False, "DEGRADED: journal: journal: its files were deleted"))
    assert registry.get_sample_value("inspector_journal_errors_total") > 0
    journal.displaced = None
    wait_until(lambda: running.ready() == (True, "RUNNING"))


def test_look_at_the_files_does_not_talk_away_a_disk_that_is_full(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing, running: Health,
    written: queue.Queue[Written], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    looked: queue.Queue[None] = queue.Queue()
    monkeypatch.setattr(journal, "check_place", lambda: looked.put(None))
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    recorder.close(closing(1))
    assert told(written) == (["f1"], DISK_FULL)
    while not looked.empty():
        looked.get_nowait()
    looked.get(timeout=WAIT_S)
    assert running.ready() == (False, f"DEGRADED: journal: {DISK_FULL}")


def test_mark_is_written_at_once_when_writing_begins_to_fail_with_numbers_that_are_not_on_record(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = launch(make())
    assert journal.marks.get(timeout=WAIT_S) == {"side": 7}  # at the start there may be none
    journal.displaced = JournalError("journal: its files were deleted")
    journal.marks.get(timeout=WAIT_S)
    recorder.close(closing(3))
    recorder.close(closing(2))
    recorder.stop()
    recorder.join(WAIT_S)
    assert journal.marks.get(timeout=WAIT_S) == {"side": 7, "top": 3}


def test_mark_has_all_numbers_that_were_given_when_the_recorder_ends(
    make: Callable[..., Recorder], launch: Launch, end: End, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = launch(make())
    journal.marks.get(timeout=WAIT_S)
    for number in (1, 2, 3):
        recorder.close(closing(number))
    end(recorder)
    assert journal.marks.get(timeout=WAIT_S) == {"side": 7, "top": 3}
    assert journal.marks.empty()  # not with each result: it costs a way to the disk


# ---------------------------------------------------------------- stop and death


def test_stop_writes_all_it_was_handed(
    make: Callable[..., Recorder], launch: Launch, end: End, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = make()
    for number in range(1000):
        recorder.close(closing(number))
    recorder.close_late(closing(1, amends=True))
    recorder.stop()
    end(launch(recorder))
    assert [name for write in journal.all() for name in write] == [*(f"close f{n}" for n in range(1000)), "amend f1"]


def test_stop_tries_once_more_to_write_what_was_published_when_the_last_write_failed(
    make: Callable[..., Recorder], launch: Launch, end: End, journal: RecordingJournal, closing: MakeClosing,
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 60.0)
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    for number in range(300):
        recorder.close_late(closing(number, amends=True))
    wait_until(lambda: registry.get_sample_value("inspector_journal_backlog") == 300)
    journal.problem = None
    end(recorder)
    assert sum(len(write) for write in journal.all()) == 300


def test_stop_ends_and_says_how_much_is_lost_when_the_disk_takes_nothing(
    make: Callable[..., Recorder], launch: Launch, end: End, journal: RecordingJournal, closing: MakeClosing,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    recorder = make()
    journal.problem = JournalError(DISK_FULL)
    recorder.close_late(closing(1, amends=True))
    recorder.close_late(closing(2, amends=True))
    recorder.stop()
    end(launch(recorder))
    assert "journal: not recorded: 2 published results, 0 events" in caplog.messages
    assert recorder.failure is None


def test_station_is_at_fault_when_the_recorder_dies(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing, running: Health,
    beats: queue.Queue[str], written: queue.Queue[Written],
) -> None:  # fmt: skip
    recorder = launch(make())
    journal.problem = RuntimeError("a fault of ours")
    recorder.close(closing(1))
    recorder.join(WAIT_S)
    assert not recorder.is_alive()
    assert recorder.failure is journal.problem
    assert running.live() == (False, "FAULT: journal: a fault of ours")
    assert beats.queue[-1] == "forget journal"
    assert written.empty()  # it is not durable, and that is not known either


def test_recorder_beats_when_nothing_comes(
    make: Callable[..., Recorder], launch: Launch, end: End, beats: queue.Queue[str]
) -> None:
    recorder = launch(make())
    assert [beats.get(timeout=WAIT_S) for _ in range(3)] == ["journal"] * 3
    end(recorder)
    assert beats.queue[-1] == "forget journal"


def test_commit_is_measured_when_it_is_durable(
    make: Callable[..., Recorder], launch: Launch, end: End, closing: MakeClosing, registry: CollectorRegistry
) -> None:
    recorder = make()
    recorder.close(closing(1))
    recorder.stop()
    end(launch(recorder))
    assert registry.get_sample_value("inspector_journal_commit_seconds_count") == 1


def test_what_a_dead_thread_was_handed_comes_on_record_from_the_callers(
    make: Callable[..., Recorder], journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = make()
    recorder.close(closing(1))
    recorder.close_late(closing(1, amends=True))
    recorder.stop()
    recorder.write_rest()  # it never ran
    assert journal.all() == [["close f1", "amend f1"]]


def test_what_failed_just_before_the_thread_died_comes_on_record_from_the_callers(
    make: Callable[..., Recorder], journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = make()
    journal.problem = JournalError(DISK_FULL)
    recorder.close_late(closing(1, amends=True))
    recorder.write_rest()
    assert journal.all() == []
    journal.problem = None
    recorder.write_rest()  # nothing more was handed over
    assert journal.all() == [["amend f1"]]


def test_opening_is_recorded_once_the_disk_takes_it_unless_it_is_closed(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, accept: Accept, closing: MakeClosing,
    written: queue.Queue[Written], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    journal.problem = JournalError(DISK_FULL)
    recorder = launch(make())
    tickets = [accept(name) for name in ("f1", "f2")]
    for ticket in tickets:
        recorder.open(ticket)
    recorder.close(closing(tickets[0].number))
    assert told(written)[1] == DISK_FULL
    journal.problem = None
    recorder.close_late(closing(tickets[0].number, amends=True))
    assert journal.next() == ["open f2", f"amend f{tickets[0].number}"]


# ---------------------------------------------------------------- events


def event(who: str) -> Event:
    return Event(1, "boot", Kind.RELOAD, None, who, "applied")


def test_event_is_recorded_with_or_before_the_verdicts_handed_over_later(
    make: Callable[..., Recorder], launch: Launch, journal: RecordingJournal, closing: MakeClosing
) -> None:
    recorder = make()
    recorder.note(event("ann"))
    recorder.close(closing(1))
    launch(recorder)
    assert journal.next() == ["close f1"]
    assert journal.events == [event("ann")]


def test_event_is_kept_until_the_disk_takes_it_and_holds_up_no_verdict(
    make: Callable[..., Recorder],
    launch: Launch,
    journal: RecordingJournal,
    closing: MakeClosing,
    written: queue.Queue[Written],
) -> None:
    recorder = launch(make())
    journal.problem = JournalError(DISK_FULL)
    recorder.note(event("ann"))
    journal.tried.get(timeout=WAIT_S)
    recorder.close(closing(1))
    assert told(written)[1] is not None
    journal.problem = None
    wait_until(lambda: bool(journal.events))  # nothing else comes
    recorder.note(event("bob"))
    wait_until(lambda: len(journal.events) == 2)
    assert journal.events == [event("ann"), event("bob")]


def test_oldest_events_are_lost_and_counted_when_too_many_wait(
    make: Callable[..., Recorder],
    launch: Launch,
    journal: RecordingJournal,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_EVENTS", 2)
    journal.problem = JournalError(DISK_FULL)
    recorder = make()
    for who in ("ann", "bob", "cem"):
        recorder.note(event(who))
    launch(recorder)
    wait_until(lambda: registry.get_sample_value("inspector_journal_lost_total") == 1)
    journal.problem = None
    wait_until(lambda: bool(journal.events))
    assert journal.events == [event("bob"), event("cem")]
