"""A line that asks part by part always gets an answer, and never a PASS that is late, in doubt or of another part."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from inspector.client import Gap, HeartbeatLost, Subscriber, Verdict, inbox
from inspector.testing.fake_station import (
    WAIT_S,
    Answers,
    Station,
    make_fail,
    make_result,
    next_verdict,
    wait_for_events,
)

Make = Callable[..., Subscriber]


def test_wait_for_gives_its_parts_verdict_and_keeps_the_other_events(station: Station, subscriber: Subscriber) -> None:
    station.publish(make_result(11), make_result(1, "side", part_id="p12"), make_result(12))
    verdict = subscriber.wait_for("top", part_id="p12", timeout_s=WAIT_S)
    assert (verdict.camera, verdict.seq, verdict.passed) == ("top", 12, True)
    assert [next_verdict(subscriber).seq for _ in range(2)] == [11, 1]
    assert subscriber.receive(0.05) is None


@pytest.mark.parametrize("ids", [{"frame_id": "f11"}, {"trigger_id": "t"}, {"frame_id": "f11", "part_id": "p11"}])
def test_wait_for_finds_a_verdict_that_came_before(
    station: Station, subscriber: Subscriber, ids: dict[str, str]
) -> None:
    station.publish(make_result(11, trigger_id="t"), make_result(12))
    wait_for_events(subscriber, 2)
    assert subscriber.wait_for("top", **ids, timeout_s=WAIT_S).seq == 11


def test_wait_for_answers_error_when_no_verdict_comes_or_one_of_other_ids(
    station: Station, subscriber: Subscriber
) -> None:
    station.publish(make_result(11, part_id="p1"), make_result(12, part_id=None))
    started = time.monotonic()
    verdict = subscriber.wait_for("top", frame_id="f12", part_id="p1", timeout_s=0.2)
    assert 0.15 < time.monotonic() - started < 2.0
    assert (verdict.verdict, verdict.reason, verdict.local, verdict.passed) == ("ERROR", "NO_ANSWER", True, False)
    assert (verdict.camera, verdict.frame_id, verdict.part_id) == ("top", "f12", "p1")
    assert verdict.message == "made by the subscriber: no verdict was received in time"


def test_wait_for_ends_at_once_when_the_heartbeat_is_lost(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.3)
    station.status()
    started = time.monotonic()
    verdict = subscriber.wait_for("top", frame_id="f1", timeout_s=WAIT_S)
    assert time.monotonic() - started < WAIT_S / 2
    assert (verdict.reason, verdict.doubt) == ("NO_ANSWER", "the heartbeat is lost")
    assert subscriber.receive(0) == HeartbeatLost("no status")


def test_pass_in_hand_does_not_pass_when_the_heartbeat_was_lost_since(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    station.publish(make_result(1))
    time.sleep(1.2)
    verdict = subscriber.wait_for("top", frame_id="f1", timeout_s=WAIT_S)
    assert (verdict.passed, verdict.doubt) == (False, "PASS was received, but the heartbeat is lost")


def test_replayed_pass_is_no_answer_and_a_replayed_fail_is_one(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(13))
    next_verdict(subscriber)
    answers.give(answers.take(), {"ok": True, "results": [make_result(11), make_fail(12)]})
    verdict = subscriber.wait_for("top", frame_id="f11", timeout_s=WAIT_S)
    assert (verdict.verdict, verdict.doubt) == ("ERROR", "PASS was received, but it is a replay")
    assert verdict.raw["verdict"] == "PASS"
    assert subscriber.wait_for("top", frame_id="f12", timeout_s=WAIT_S).verdict == "FAIL"


@pytest.mark.parametrize(
    ("doubtful", "doubt"),
    [({"simulated": True}, "the frame is simulated"), ({"malformed": True}, "a malformed message was received")],
)
def test_wait_for_answers_error_when_a_pass_is_in_doubt(
    station: Station, subscriber: Subscriber, doubtful: dict[str, bool], doubt: str
) -> None:
    if doubtful.pop("malformed", False):
        station.send("result/top", b"{")
    station.publish(make_result(11, **doubtful))
    verdict = subscriber.wait_for("top", frame_id="f11", timeout_s=WAIT_S)
    assert verdict.verdict == "ERROR"
    assert verdict.doubt is not None
    assert verdict.doubt.startswith(f"PASS was received, but {doubt}")


@pytest.mark.parametrize(("second", "verdict"), [(make_fail, "FAIL"), (make_result, "ERROR")])
def test_wait_for_does_not_pass_when_two_frames_have_the_ids(
    station: Station, subscriber: Subscriber, second: Callable[..., dict[str, Any]], verdict: str
) -> None:
    station.publish(make_result(11, part_id="p"), second(12, part_id="p"), make_result(13))
    wait_for_events(subscriber, 3)
    assert subscriber.wait_for("top", part_id="p", timeout_s=WAIT_S).verdict == verdict
    assert next_verdict(subscriber).seq == 13


FINAL = "it shares an id with a part that was answered NO_ANSWER"


def test_late_pass_never_passes_when_its_ids_were_answered_before(station: Station, subscriber: Subscriber) -> None:
    assert subscriber.wait_for("top", part_id="pallet", timeout_s=0).reason == "NO_ANSWER"
    for seq in (11, 12):
        station.publish(make_result(seq, part_id="pallet"))
        assert subscriber.wait_for("top", part_id="pallet", timeout_s=WAIT_S).doubt == f"PASS was received, but {FINAL}"
    station.publish(make_result(13, part_id="pallet"), make_result(14, part_id="pallet"), make_result(15))
    verdict = subscriber.wait_for("top", part_id="pallet", frame_id="f13", timeout_s=WAIT_S)
    assert verdict.doubt == f"PASS was received, but {FINAL}"
    late, other = next_verdict(subscriber), next_verdict(subscriber)
    assert (late.seq, late.passed, late.doubt) == (14, False, FINAL)
    assert (other.seq, other.passed) == (15, True)


def test_all_ids_of_a_part_are_final_once_a_verdict_ties_them(station: Station, subscriber: Subscriber) -> None:
    assert subscriber.wait_for("top", trigger_id="t1", timeout_s=0).reason == "NO_ANSWER"
    station.publish(make_result(11, trigger_id="t1", part_id="p"), make_result(12, trigger_id="t2", part_id="p"))
    station.publish(make_result(13, trigger_id="t2", part_id=None), make_result(14, "side", trigger_id="t2"))
    assert [next_verdict(subscriber).passed for _ in range(4)] == [False, False, False, True]


def test_ids_that_a_verdict_tied_before_are_final_too(station: Station, subscriber: Subscriber) -> None:
    station.publish(make_fail(11, trigger_id="t1", part_id="p"))
    assert next_verdict(subscriber).verdict == "FAIL"
    assert subscriber.wait_for("top", trigger_id="t1", timeout_s=0.05).reason == "NO_ANSWER"
    station.publish(make_result(12, trigger_id="t2", part_id="p"))
    assert next_verdict(subscriber).doubt == FINAL


def test_pass_that_was_found_in_time_does_not_pass_when_it_is_handed_out_after_it(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = subscriber._follower.find_answer

    def find_slowly(*arguments: Any) -> Verdict | None:
        if answer := find(*arguments):
            time.sleep(0.6)  # as if this process were stopped here
        return answer

    station.publish(make_result(11))
    wait_for_events(subscriber, 1)
    monkeypatch.setattr(subscriber._follower, "find_answer", find_slowly)
    answer = subscriber.wait_for("top", frame_id="f11", timeout_s=0.5)
    assert (answer.passed, answer.doubt) == (False, "PASS was received, but not in time")
    assert answer.raw["verdict"] == "PASS"


def test_wait_for_is_refused_when_no_id_or_no_time_is_given(subscriber: Subscriber) -> None:
    with pytest.raises(ValueError, match="wait_for: must be called with frame_id, part_id or trigger_id"):
        subscriber.wait_for("top", timeout_s=0)
    with pytest.raises(ValueError, match="wait_for: timeout_s must be a number, got nan"):
        subscriber.wait_for("top", frame_id="f1", timeout_s=float("nan"))


def test_oldest_events_are_dropped_and_counted_when_only_wait_for_is_used(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_MAX_EVENTS", 5)
    station.publish(*(make_result(seq) for seq in range(11, 21)))
    assert subscriber.wait_for("top", frame_id="f20", timeout_s=WAIT_S).passed
    assert subscriber.dropped == 5
    assert [next_verdict(subscriber).seq for _ in range(4)] == [16, 17, 18, 19]


def test_dropped_verdicts_come_as_replays_when_there_is_room(
    station: Station, subscriber: Subscriber, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_MAX_EVENTS", 8)
    station.publish(*(make_result(seq) for seq in range(11, 23)))
    limit = time.monotonic() + WAIT_S
    while subscriber.dropped < 4:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert answers.none_waits()  # there is no room for them
    assert [next_verdict(subscriber).seq for _ in range(8)] == list(range(15, 23))
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 14)
    answers.give(answers.take(), {"ok": True, "results": [make_result(seq) for seq in range(11, 15)]})
    replays = [next_verdict(subscriber) for _ in range(4)]
    assert [(verdict.seq, verdict.replay) for verdict in replays] == [(seq, True) for seq in range(11, 15)]
    assert answers.requests == [{"request": "replay", "camera": "top", "from_seq": 11}]
