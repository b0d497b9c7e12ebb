"""A verdict is on record before it leaves, and is none where it cannot be recorded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from inspector.service.flow.ledger import Ledger, error_outcome
from inspector.types import Reason, Verdict
from tests.service.flow.publisher.parts import (
    DISK_FULL,
    Accept,
    End,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    late,
    wait_until,
)


def test_outcome_is_on_record_before_it_is_sent_when_judged(
    make: Make, launch: Launch, end: End, judged: Judged, trace: list[Any], socket: RecordingSocket
) -> None:
    publisher = launch(make())
    publisher.submit(judged("f1"))
    socket.next()
    publisher.submit(judged("f2", score=2.0))
    end(publisher)
    assert trace == [
        ("journal", ["f1"]), ("socket", "f1"), ("tap", "f1"),
        ("journal", ["f2"]), ("socket", "f2"), ("tap", "f2"),
    ]  # fmt: skip


@pytest.mark.parametrize("score", [0.5, 2.0], ids=["PASS", "FAIL"])
def test_verdict_leaves_only_once_it_is_durable_and_others_do_not_wait_for_it(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket, score: float
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    for frame_id in ("f1", "f2"):
        publisher.submit(judged(frame_id, score))
    wait_until(lambda: len(recorder.closed) == 2)  # both are handed in, though neither is durable
    time.sleep(0.1)
    assert socket.all() == []
    recorder.answer()
    assert socket.next()["frame_id"] == "f1"
    assert socket.all() == []
    recorder.answer()
    assert socket.next()["frame_id"] == "f2"


def test_record_is_what_was_sent_when_judged(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    outcome = judged("f1", score=2.0)
    launch(make()).submit(outcome)
    sent = dict(socket.next())
    (closing,) = recorder.closed
    assert (closing.number, closing.amends) == (outcome.ticket.number, False)
    written = closing.result.to_wire()
    sent_ms, written_ms = sent.pop("latency_ms"), written.pop("latency_ms")
    assert sent == written
    assert sent_ms.pop("journal") > 0
    assert sent_ms.pop("total") >= written_ms.pop("total")
    assert sent_ms == written_ms


@pytest.mark.parametrize("score", [0.5, 0.95, 2.0], ids=["PASS", "WARN", "FAIL"])
def test_verdict_becomes_not_ready_and_is_amended_when_the_journal_cannot_be_written(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, recorder: StubRecorder,
    socket: RecordingSocket, score: float,
) -> None:  # fmt: skip
    recorder.error = DISK_FULL
    publisher = launch(make())
    outcome = judged("f1", score)
    publisher.submit(outcome)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "NOT_READY", 40)
    assert (sent["message"], sent["warn"]) == (DISK_FULL, False)
    amendment = recorder.next_late()
    assert late(amendment) == ("f1", "ERROR", "NOT_READY", True)
    assert (amendment.number, amendment.result.seq) == (outcome.ticket.number, sent["seq"])
    end(publisher)
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.NOT_READY): 1}
    assert recorder.late.empty()
    assert publisher.failure is None


def test_error_keeps_its_own_reason_when_the_journal_cannot_be_written(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.error = DISK_FULL
    launch(make()).submit(error_outcome(accept("f1"), Reason.OVERLOAD, "dropped"))
    sent = socket.next()
    assert (sent["reason"], sent["message"], sent["recorded"]) == ("OVERLOAD", "dropped", False)
    assert late(recorder.next_late()) == ("f1", "ERROR", "OVERLOAD", True)


def test_verdicts_are_sent_again_when_the_journal_can_be_written_again(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    for frame_id, error in (("f1", DISK_FULL), ("f2", DISK_FULL), ("f3", None)):
        recorder.error = error
        publisher.submit(judged(frame_id))
        assert socket.next()["reason"] == ("NOT_READY" if error else "OK")


def test_no_verdict_of_a_batch_is_a_pass_when_its_one_write_fails(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    for number in range(3):
        publisher.submit(judged(f"f{number}"))
    recorder.answer(3, error=DISK_FULL)
    assert [socket.next()["reason"] for _ in range(3)] == ["NOT_READY"] * 3
