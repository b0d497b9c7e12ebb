"""One verdict for each frame, whatever competes or fails."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inspector.config import Journal as JournalConfig
from inspector.errors import JournalError
from inspector.journal.writer import Closing, Journal, OpenFrame, read_results
from inspector.service.flow import recorder as recorder_module
from inspector.service.flow.ledger import Ledger, Outcome, error_outcome
from inspector.service.flow.recorder import Recorder
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Reason, Verdict
from tests.service.flow.publisher.parts import (
    DISK_FULL,
    WAIT_S,
    End,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    verdicts,
)


def test_one_result_leaves_when_two_outcomes_of_a_ticket_wait_together(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket, recorder: StubRecorder
) -> None:
    publisher = make()
    outcome = judged("f1")
    publisher.submit(error_outcome(outcome.ticket, Reason.OVERLOAD, "dropped"))
    publisher.submit(outcome)
    end(launch(publisher))
    assert verdicts(socket.all()) == [("f1", "ERROR", "OVERLOAD")]
    assert [closing.result.seq for closing in recorder.closed] == [1]
    assert publisher.failure is None


def test_one_result_leaves_when_a_second_outcome_comes_later(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    outcome = judged("f1", score=2.0)
    publisher.submit(outcome)
    assert socket.next()["verdict"] == "FAIL"
    publisher.submit(Outcome(outcome.ticket, Verdict.PASS, Reason.OK))
    end(publisher)
    assert socket.all() == []
    assert publisher.failure is None


class FailingJournal(Journal):
    """A journal that refuses each second write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._numbers = itertools.count(1)

    def write(self, opened: Sequence[OpenFrame], closings: Sequence[Closing], *more: Any) -> None:
        if next(self._numbers) % 2 == 0:
            raise JournalError(DISK_FULL)
        super().write(opened, closings, *more)


def test_each_frame_gets_one_recorded_verdict_when_threads_compete_and_the_journal_fails(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket, running: Health,
    metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(recorder_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(recorder_module, "_MAX_BATCH", 8)
    path = tmp_path / "journal.sqlite"
    recorder = launch(Recorder(FailingJournal(path), JournalConfig(keep_days=None), health=running, metrics=metrics))
    publisher = make(recorder=recorder)
    dice = random.Random(5)
    outcomes = [judged(f"f{n}", dice.choice([0.5, 2.0]), age_s=dice.choice([0, 0, 61])) for n in range(200)]
    for outcome in outcomes:
        recorder.open(outcome.ticket)
    launch(publisher)  # not before: nobody answers a frame ahead of its opening

    def submit_all(seed: int) -> None:
        for outcome in random.Random(seed).sample(outcomes, len(outcomes)):
            publisher.submit(outcome)
            publisher.submit(error_outcome(outcome.ticket, Reason.OVERLOAD, "dropped"))

    threads = [threading.Thread(target=submit_all, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    end(publisher)
    end(recorder)
    sent = socket.all()
    assert Counter(message["frame_id"] for message in sent) == Counter(f"f{n}" for n in range(200))
    assert sorted(message["seq"] for message in sent) == list(range(1, 201))
    assert {message["reason"] for message in sent} >= {"OK", "DEADLINE", "NOT_READY"}
    on_record = {kept["seq"]: kept for kept in read_results(path, "top", 1)}
    assert len(on_record) == 200
    for message in sent:
        assert verdicts([message]) == verdicts([on_record[message["seq"]]])
    after = Journal(path)
    assert after.open_frames() == []
    after.close()
    account = ledger.account()
    assert (account.received["top"], sum(account.results.values()), account.in_flight["top"]) == (200, 200, 0)
    assert publisher.failure is None


def test_journal_says_what_was_sent_when_the_disk_hung_until_after_the_deadline(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket, running: Health, metrics: Metrics,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    journal, moving = Journal(tmp_path / "journal.sqlite"), threading.Event()
    write = journal.write

    def hang(opened: Sequence[OpenFrame], closings: Sequence[Closing], *more: Any) -> None:
        assert moving.wait(WAIT_S)
        write(opened, closings, *more)

    monkeypatch.setattr(journal, "write", hang)
    recorder = launch(Recorder(journal, JournalConfig(keep_days=None), health=running, metrics=metrics))
    publisher = launch(make(recorder=recorder))
    for name in ("f1", "f2"):  # the first goes to the disk by itself, the second waits with its amendment
        outcome = judged(name, age_s=59.6)
        recorder.open(outcome.ticket)
        time.sleep(0.05)
        publisher.submit(outcome)
    assert verdicts([socket.next(), socket.next()]) == [("f1", "ERROR", "DEADLINE"), ("f2", "ERROR", "DEADLINE")]
    moving.set()
    publisher.submit(judged("f3"))
    assert verdicts([socket.next()]) == [("f3", "PASS", "OK")]
    end(publisher)
    end(recorder)
    kept = read_results(tmp_path / "journal.sqlite", "top", 1)
    assert verdicts(kept) == [("f1", "ERROR", "DEADLINE"), ("f2", "ERROR", "DEADLINE"), ("f3", "PASS", "OK")]
    assert running.state is State.RUNNING
