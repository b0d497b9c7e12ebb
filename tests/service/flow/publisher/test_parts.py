"""The verdict on a part leaves once, after its views, on its own topic; a PASS only in time and of cameras at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket, decide_part, error_outcome
from inspector.service.flow.publisher import Publisher
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Group, Parts, build_part_frame
from inspector.types import Reason, Verdict
from tests.service.conftest import DEADLINES_MS
from tests.service.flow.publisher.parts import (
    WAIT_S,
    Accept,
    End,
    Judged,
    Launch,
    Make,
    MakeJudge,
    RecordingSocket,
    StubRecorder,
    verdicts,
    wait_until,
)

See = Callable[..., Outcome]


@pytest.fixture
def groups() -> list[Group]:
    return [Group("body", ("top", "side"), "part_id")]


@pytest.fixture
def window_ms() -> int:
    return 60_000


@pytest.fixture
def ledger(window_ms: int) -> Ledger:
    """Beside the cameras part `body`, which both see."""
    return Ledger(DEADLINES_MS | {"part/body": window_ms})


@pytest.fixture
def judges(make_judge: MakeJudge) -> Judges:
    """Both cameras have a recipe."""
    judges = Judges()
    judges.switch({"top": make_judge(), "side": make_judge()})
    return judges


@pytest.fixture
def see(judged: Judged, parts: Parts) -> See:
    """A view of part p1, judged."""

    def see(camera: str, score: float = 0.5, **details: Any) -> Outcome:
        outcome = judged(f"f-{camera}", score, camera=camera, part_id="p1", **details)
        assert parts.admit(outcome.ticket.number, outcome.ticket.frame) is None
        return outcome

    return see


def next_part(socket: RecordingSocket) -> tuple[str, Any]:
    """The next message that is no view's."""
    while True:
        topic, message = socket.results.get(timeout=WAIT_S)
        if not topic.startswith("result/"):
            return topic, message


def submit(publisher: Publisher, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        publisher.submit(outcome)


def test_part_passes_after_its_last_view_with_the_score_nearest_to_a_fail(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, trace: list[Any], ledger: Ledger,
    recorder: StubRecorder,
) -> None:  # fmt: skip
    submit(launch(make()), see("top", 0.4), see("side", 0.8))
    topic, part = next_part(socket)
    assert topic == part["camera"] == "part/body"
    assert (part["verdict"], part["reason"], part["seq"], part["frame_id"], part["part_id"]) == (
        "PASS", "OK", 1, "p1", "p1",
    )  # fmt: skip
    assert (part["score"], part["threshold"], part["regions"], part["recorded"]) == (0.8, 1.0, (), True)
    assert [(view["camera"], view["frame_id"], view["seq"], view["verdict"], view["reason"], view["score"])
            for view in part["views"]] == [
        ("top", "f-top", 1, "PASS", "OK", 0.4), ("side", "f-side", 1, "PASS", "OK", 0.8),
    ]  # fmt: skip
    assert [each for each in trace if each[0] == "tap"] == [("tap", "f-top"), ("tap", "f-side")]
    assert [closing.result.camera for closing in recorder.closed] == ["top", "side", "part/body"]
    wait_until(lambda: not ledger.open_tickets())
    account = ledger.account()
    assert account.balances
    assert (account.received["part/body"], account.in_flight["part/body"]) == (1, 0)


def test_part_has_taken_the_time_since_its_first_view_came(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, registry: CollectorRegistry
) -> None:
    submit(launch(make()), see("top", age_s=7.0), see("side", age_s=3.0))
    total_s = next_part(socket)[1]["latency_ms"]["total"] / 1000

    def count(edge: str) -> float | None:
        return registry.get_sample_value("inspector_part_duration_seconds_bucket", {"part": "body", "le": edge})

    assert total_s >= 7
    wait_until(lambda: count("+Inf") == 1)
    assert count("5.0") == 0
    assert registry.get_sample_value("inspector_part_duration_seconds_sum", {"part": "body"}) == total_s


def test_part_is_not_sent_before_it_is_recorded(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, recorder: StubRecorder
) -> None:
    recorder.hangs = True
    submit(launch(make()), see("top"), see("side", 2.0))
    recorder.answer(2)
    assert len(verdicts([socket.next(), socket.next()])) == 2
    wait_until(lambda: len(recorder.closed) == 3)
    assert socket.results.empty()
    recorder.answer(1)
    assert next_part(socket)[1]["verdict"] == "FAIL"


def test_part_that_cannot_be_recorded_is_no_pass(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, recorder: StubRecorder
) -> None:
    recorder.hangs = True
    submit(launch(make()), see("top"), see("side"))
    recorder.answer(2)
    recorder.answer(1, error="disk full")
    part = next_part(socket)[1]
    assert (part["verdict"], part["reason"], part["recorded"]) == ("ERROR", "NOT_READY", False)


@pytest.mark.parametrize("camera", ["top", "side"])
def test_part_under_way_is_no_pass_when_a_camera_of_it_goes_offline(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, recorder: StubRecorder, offline: Offline,
    camera: str,
) -> None:  # fmt: skip
    recorder.hangs = True
    submit(launch(make()), see("top"), see("side"))
    recorder.answer(2)
    wait_until(lambda: len(recorder.closed) == 3)
    offline.answer_offline({"camera": camera}, "anna")
    recorder.answer(1)
    part = next_part(socket)[1]
    assert (part["verdict"], part["reason"]) == ("ERROR", "OFFLINE")


def test_part_whose_view_failed_is_a_fail_when_a_camera_of_it_goes_offline(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, recorder: StubRecorder, offline: Offline
) -> None:
    recorder.hangs = True
    submit(launch(make()), see("top"), see("side", 2.0))
    recorder.answer(2)
    wait_until(lambda: len(recorder.closed) == 3)
    offline.answer_offline({"camera": "top"}, "anna")
    recorder.answer(1)
    part = next_part(socket)[1]
    assert (part["verdict"], part["reason"]) == ("FAIL", "DEFECT")


@pytest.mark.parametrize("window_ms", [60])
@pytest.mark.parametrize(("score", "expected"), [(0.5, {"VIEW_MISSING"}), (2.0, {"DEFECT", "DEADLINE"})])
def test_part_is_answered_at_the_end_of_its_window_when_a_view_does_not_come(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, score: float, expected: set[str]
) -> None:
    """The FAIL is one only where the disk is quick enough: a busy machine answers ERROR."""
    submit(launch(make()), see("top", score))
    part = next_part(socket)[1]
    assert part["reason"] in expected
    assert part["verdict"] != "PASS"
    assert part["views"][1] == {"camera": "side", "frame_id": None, "seq": None, "verdict": None, "reason": None,
                                "score": None, "threshold": None}  # fmt: skip


@pytest.mark.parametrize("window_ms", [60])
def test_view_under_way_at_the_end_of_the_window_is_named_and_its_own_verdict_comes_after(
    make: Make, launch: Launch, see: See, socket: RecordingSocket
) -> None:
    late = see("side")
    submit(publisher := launch(make()), see("top"))
    part = next_part(socket)[1]
    assert (part["reason"], part["message"]) == (
        "VIEW_LATE", "no verdict within the window on the view of camera side",
    )  # fmt: skip
    assert part["views"][1]["frame_id"] == "f-side"
    publisher.submit(late)
    assert verdicts([socket.next()]) == [("f-side", "PASS", "OK")]


def test_part_that_its_last_view_decides_after_its_window_is_no_pass(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, parts: Parts, ledger: Ledger
) -> None:
    """Its window ends while the publisher is busy: the views come first, in one batch."""
    views = [see("top", age_s=59.0), see("side")]
    (part,) = [ticket for ticket in ledger.open_tickets() if ticket.is_of_part]
    object.__setattr__(part, "deadline_monotonic_ns", 1)
    publisher = make()
    submit(publisher, *views)
    launch(publisher)
    message = next_part(socket)[1]
    assert (message["verdict"], message["score"]) == ("ERROR", None)
    assert message["reason"] in {"DEADLINE", "VIEW_LATE"}


def test_open_part_is_answered_shutdown_by_a_stop_after_its_views(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, end: End, ledger: Ledger
) -> None:
    publisher = launch(make())
    publisher.submit(see("top"))
    socket.next()
    see("side")  # is being judged
    end(publisher)
    sent = verdicts(socket.all())
    assert sent == [("f-side", "ERROR", "SHUTDOWN"), ("p1", "ERROR", "VIEW_ERROR")]
    assert ledger.open_tickets() == []


def test_open_part_and_its_views_are_answered_by_a_stop_when_the_disk_hangs(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, recorder: StubRecorder, ledger: Ledger
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    see("top")
    see("side")
    publisher.stop(within_s=0.0)
    publisher.join(WAIT_S)
    sent = verdicts(socket.all())
    assert sorted(sent) == [
        ("f-side", "ERROR", "SHUTDOWN"), ("f-top", "ERROR", "SHUTDOWN"), ("p1", "ERROR", "VIEW_ERROR"),
    ]  # fmt: skip
    assert sent[-1][0] == "p1"
    assert ledger.open_tickets() == []
    assert ledger.account().balances


def test_part_is_simulated_when_one_of_its_views_is(
    make: Make, launch: Launch, see: See, socket: RecordingSocket
) -> None:
    submit(launch(make()), see("top"), see("side", simulated=True))
    assert next_part(socket)[1]["simulated"] is True


def test_part_is_answered_by_a_stop_though_a_frame_comes_until_the_last(
    make: Make, launch: Launch, see: See, recorder: StubRecorder, socket: RecordingSocket, ledger: Ledger,
    accept: Accept, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    see("top")
    recorder.hangs = True
    look = ledger.open_tickets

    def look_late() -> list[Ticket]:
        accept("late", "side")
        return look()

    monkeypatch.setattr(ledger, "open_tickets", look_late)
    publisher = make()
    publisher.stop()
    launch(publisher).join(WAIT_S)
    assert look() == []
    assert ("p1", "ERROR", "SHUTDOWN") in verdicts(socket.all())


def test_part_of_an_earlier_run_is_answered_restart(
    make: Make, launch: Launch, see: See, socket: RecordingSocket, ledger: Ledger
) -> None:
    see("top")
    record = next(ticket for ticket in ledger.open_tickets() if ticket.is_of_part).to_record()
    other = Ledger(DEADLINES_MS | {"part/body": 60_000}, [record])
    ticket = other.adopt(record)
    assert ticket.is_of_part
    publisher = make()
    publisher._ledger = other
    launch(publisher).submit(error_outcome(ticket, Reason.RESTART, "restarted"))
    topic, message = next_part(socket)
    assert (topic, message["reason"], message["frame_id"], message["views"]) == ("part/body", "RESTART", "p1", [])


def test_fail_at_the_end_of_a_window_has_the_time_of_an_error(see: See, ledger: Ledger, parts: Parts) -> None:
    see("top")
    (part,) = [ticket for ticket in ledger.open_tickets() if ticket.is_of_part]
    decided = parts.expire(part.number)
    assert decided is not None
    deadline = part.deadline_monotonic_ns
    outcomes = {verdict: replace(decide_part(part, decided), verdict=verdict) for verdict in Verdict}
    assert {verdict.value: outcome.due_ns - deadline for verdict, outcome in outcomes.items()} == {
        "PASS": 0, "FAIL": 20_000_000, "ERROR": 0,
    }  # fmt: skip


def test_part_by_trigger_has_the_part_id_that_any_of_its_views_carries(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket, ledger: Ledger
) -> None:
    parts = Parts(
        [Group("body", ("top", "side"), "trigger_id")],
        lambda group, view: ledger.accept(build_part_frame(group, view)).number,
    )
    publisher = make()
    publisher._parts = parts
    views = [judged("f1", camera="top", trigger_id="t1"), judged("f2", camera="side", trigger_id="t1", part_id="p1")]
    for outcome in views:
        assert parts.admit(outcome.ticket.number, outcome.ticket.frame) is None
    submit(launch(publisher), *views)
    part = next_part(socket)[1]
    assert (part["frame_id"], part["trigger_id"], part["part_id"], part["verdict"]) == ("t1", "t1", "p1", "PASS")
