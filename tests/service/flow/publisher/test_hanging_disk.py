"""The deadline is kept while the disk hangs, and what was said then is put on record."""

from __future__ import annotations

import time
from typing import Any

import pytest

from inspector.service.flow import publisher as module
from inspector.service.flow.ledger import Ledger, error_outcome
from inspector.types import Reason, Verdict
from tests.service.flow.publisher.parts import (
    DISK_FULL,
    WAIT_S,
    Accept,
    End,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    late,
    verdicts,
    wait_until,
)


def test_frame_is_answered_deadline_and_that_is_amended_when_the_disk_hangs(
    make: Make, launch: Launch, judged: Judged, ledger: Ledger, recorder: StubRecorder, socket: RecordingSocket,
    trace: list[Any],
) -> None:  # fmt: skip
    recorder.hangs = True
    publisher = launch(make())
    outcome = judged("f1", age_s=59.7)
    publisher.submit(outcome)
    sent = socket.next()
    lateness_s = (time.monotonic_ns() - outcome.ticket.deadline_monotonic_ns) / 1e9
    assert 0.02 <= lateness_s < 1.0
    assert verdicts([sent]) == [("f1", "ERROR", "DEADLINE")]
    assert sent["message"] == "judged, but not recorded before the deadline"
    amendment = recorder.next_late()
    assert late(amendment) == ("f1", "ERROR", "DEADLINE", True)
    assert amendment.number == outcome.ticket.number
    assert {**amendment.result.to_wire(), "latency_ms": None} == {**sent, "latency_ms": None}
    recorder.answer()
    publisher.submit(judged("f2"))
    recorder.answer()
    assert socket.next()["frame_id"] == "f2"  # that f1 is durable now changes nothing
    assert recorder.late.empty()
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.DEADLINE): 1, ("top", Verdict.PASS, Reason.OK): 1}


def test_pass_is_not_put_on_record_again_when_its_write_fails_after_the_deadline_was_answered(
    make: Make, launch: Launch, end: End, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    publisher.submit(judged("f1", age_s=59.8))
    assert socket.next()["reason"] == "DEADLINE"
    recorder.answer(error=DISK_FULL)
    end(publisher)
    assert [late(recorder.late.get_nowait()) for _ in range(recorder.late.qsize())] == [
        ("f1", "ERROR", "DEADLINE", True)
    ]
    assert socket.all() == []


def test_error_is_put_on_record_again_when_its_write_fails_after_it_was_sent(
    make: Make, launch: Launch, end: End, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    ticket = accept("f1", age_s=59.8)
    sent = socket.next()
    assert (sent["reason"], sent["message"]) == ("DEADLINE", "no verdict before the deadline")
    assert recorder.late.empty()  # what waits for the disk is what was sent
    recorder.answer(error=DISK_FULL)
    closing = recorder.next_late()
    assert late(closing) == ("f1", "ERROR", "DEADLINE", True)
    assert (closing.number, closing.result.seq) == (ticket.number, sent["seq"])
    end(publisher)
    assert socket.all() == []


def test_error_is_not_put_on_record_twice_when_its_write_succeeds_after_it_was_sent(
    make: Make, launch: Launch, end: End, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    accept("f1", age_s=61)
    assert socket.next()["reason"] == "DEADLINE"
    recorder.answer()
    end(publisher)
    assert (socket.all(), recorder.late.qsize()) == ([], 0)


def test_error_keeps_its_own_reason_when_the_disk_hangs(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    launch(make()).submit(error_outcome(accept("f1", age_s=59.8), Reason.OVERLOAD, "dropped"))
    assert verdicts([socket.next()]) == [("f1", "ERROR", "OVERLOAD")]


def test_deadline_error_waits_a_moment_for_the_disk_when_it_is_only_slow(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket, trace: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "GRACE_NS", int(WAIT_S * 1e9))
    recorder.hangs = True
    launch(make())
    accept("f1", age_s=61)
    wait_until(lambda: bool(recorder.closed))
    time.sleep(0.1)
    assert trace == []
    recorder.answer()
    socket.next()
    assert trace[:2] == [("journal", ["f1"]), ("socket", "f1")]


def test_verdict_is_amended_to_deadline_when_it_is_durable_only_after_the_deadline(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "GRACE_NS", int(WAIT_S * 1e9))
    recorder.hangs = True
    outcome = judged("f1", age_s=59.8)
    launch(make()).submit(outcome)
    wait_until(lambda: time.monotonic_ns() > outcome.ticket.deadline_monotonic_ns)
    recorder.answer()
    sent = socket.next()
    assert verdicts([sent]) == [("f1", "ERROR", "DEADLINE")]
    assert sent["message"] == "judged, but recorded only after the deadline"
    assert late(recorder.next_late()) == ("f1", "ERROR", "DEADLINE", True)
