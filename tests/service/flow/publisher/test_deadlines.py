"""A frame is answered at its deadline, whoever is late."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry

from inspector.service.flow.ledger import Ledger, error_outcome
from inspector.types import Reason, Verdict
from tests.service.flow.publisher.parts import (
    Accept,
    End,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    verdicts,
)


@pytest.mark.parametrize("score", [0.5, 2.0], ids=["PASS", "FAIL"])
def test_verdict_becomes_deadline_error_when_it_comes_after_the_deadline(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket, recorder: StubRecorder, score: float
) -> None:
    publisher = make()
    publisher.submit(judged("late", score, age_s=60.1))  # waits already, so that this and no tick answers
    launch(publisher)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "DEADLINE", 11)
    assert sent["message"] == "judged, but after the deadline"
    assert (sent["score"], sent["margin"], sent["regions"]) == (None, None, ())
    assert [closing.result.reason for closing in recorder.closed] == [Reason.DEADLINE]


def test_error_keeps_its_own_reason_when_it_comes_after_the_deadline(
    make: Make, launch: Launch, accept: Accept, socket: RecordingSocket
) -> None:
    publisher = make()
    publisher.submit(error_outcome(accept("late", age_s=60.1), Reason.NOT_FINITE, "NaN"))
    launch(publisher)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["message"]) == ("ERROR", "NOT_FINITE", "NaN")


def test_frame_is_answered_soon_after_its_deadline_when_no_outcome_comes(
    make: Make, launch: Launch, accept: Accept, ledger: Ledger, socket: RecordingSocket
) -> None:
    launch(make())
    ticket = accept("forgotten", age_s=59.8)
    sent = socket.next()
    lateness_s = (time.monotonic_ns() - ticket.deadline_monotonic_ns) / 1e9
    assert (sent["verdict"], sent["reason"]) == ("ERROR", "DEADLINE")
    assert sent["message"] == "no verdict before the deadline"
    assert 0 <= lateness_s < 1.0
    assert sent["latency_ms"]["total"] >= 60_000


def test_frame_in_time_is_left_open_when_another_expires(
    make: Make, launch: Launch, accept: Accept, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    early = judged("early")
    accept("expired", age_s=61)
    assert socket.next()["frame_id"] == "expired"
    publisher.submit(early)
    assert verdicts([socket.next()]) == [("early", "PASS", "OK")]


def test_late_outcome_changes_nothing_when_the_deadline_was_answered(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket,
    registry: CollectorRegistry,
) -> None:  # fmt: skip
    publisher = launch(make())
    outcome = judged("slow", age_s=61)
    assert socket.next()["reason"] == "DEADLINE"
    publisher.submit(outcome)
    end(publisher)
    assert socket.all() == []
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.DEADLINE): 1}
    assert registry.get_sample_value("inspector_results_late_total", {"camera": "top"}) == 1
    assert registry.get_sample_value("inspector_results_late_total", {"camera": "side"}) == 0


def test_buffer_is_told_to_forget_a_frame_when_its_deadline_passed_while_nobody_judged_it(
    make: Make, launch: Launch, accept: Accept, judged: Judged, forgotten: list[str], socket: RecordingSocket
) -> None:
    publisher = launch(make())
    publisher.submit(judged("judged"))
    accept("expired", age_s=61)
    assert {socket.next()["frame_id"] for _ in range(2)} == {"judged", "expired"}
    assert forgotten == ["expired"]
