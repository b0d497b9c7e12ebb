"""Only a PASS that nothing speaks against passes; silence, doubt and rubbish are told, and never raise."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from fake_station import WAIT_S, Answers, Station, make_fail, make_result

from inspector.client import (
    Event,
    Foreign,
    Gap,
    HeartbeatBack,
    HeartbeatLost,
    Lost,
    Malformed,
    Restarted,
    StatusChanged,
    Subscriber,
    Verdict,
    inbox,
)

Collect = Callable[[Subscriber], list[Event]]
Make = Callable[..., Subscriber]


def next_verdict(subscriber: Subscriber) -> Verdict:
    while not isinstance(event := subscriber.receive(WAIT_S), Verdict):
        assert event is not None
    return event


def wait_for_state(subscriber: Subscriber, state: str) -> None:
    """Until the subscriber's thread has read it; nothing is fetched."""
    limit = time.monotonic() + WAIT_S
    while subscriber._follower._state != state:
        assert time.monotonic() < limit
        time.sleep(0.01)


def wait_for_events(subscriber: Subscriber, number: int) -> None:
    """Until so many wait to be fetched."""
    limit = time.monotonic() + WAIT_S
    while len(subscriber._follower._inbox._items) < number:
        assert time.monotonic() < limit
        time.sleep(0.01)


# ---------------------------------------------------------------- verdicts


def test_verdict_holds_what_the_wire_holds(station: Station, subscriber: Subscriber) -> None:
    wire = make_result(11, trigger_id="t1", warn=True, message="schön", latency_ms={"total": 1.0})
    station.publish(wire)
    verdict = next_verdict(subscriber)
    fields = {field.name for field in dataclasses.fields(Verdict)} - {"raw", "doubt", "local"}
    assert {name: getattr(verdict, name) for name in fields} == {name: wire[name] for name in fields}
    assert verdict.raw == wire
    assert (verdict.passed, verdict.doubt, verdict.local) == (True, None, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "FAIL", "reason": "DEFECT", "reason_code": 1},
        {"verdict": "ERROR", "reason": "DEADLINE", "reason_code": 11, "score": None},
        {"replay": True},
        {"simulated": True},
    ],
)
def test_nothing_passes_but_a_live_pass_of_a_real_part(
    station: Station, subscriber: Subscriber, changes: dict[str, Any]
) -> None:
    station.publish(make_result(11, **changes), make_result(12))
    assert [next_verdict(subscriber).passed for _ in range(2)] == [False, True]
    assert subscriber.malformed == 0


def test_simulated_pass_passes_when_the_subscriber_was_told_so(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(accept_simulated=True)
    station.settle(subscriber)
    station.publish(make_result(1, simulated=True))
    assert next_verdict(subscriber).passed


@pytest.mark.parametrize("state", ["STARTING", "STOPPING", "FAULT", "WHATEVER", ""])
def test_nothing_passes_when_the_station_is_not_in_a_state_to_judge(
    station: Station, subscriber: Subscriber, state: str
) -> None:
    station.status(state=state)
    station.publish(make_result(11))
    verdict = next_verdict(subscriber)
    assert (verdict.passed, verdict.doubt) == (False, f"the station is in {state}")


@pytest.mark.parametrize("state", ["READY", "RUNNING", "DEGRADED"])
def test_pass_passes_when_the_station_judges(station: Station, subscriber: Subscriber, state: str) -> None:
    station.status(state=state)
    station.publish(make_result(11))
    assert next_verdict(subscriber).passed


def test_pass_of_a_station_that_stopped_before_it_was_fetched_does_not_pass(
    station: Station, subscriber: Subscriber
) -> None:
    station.publish(make_result(11))
    station.status(state="STOPPING")
    wait_for_state(subscriber, "STOPPING")
    assert next_verdict(subscriber).doubt == "the station is in STOPPING"


# ---------------------------------------------------------------- malformed messages

BAD_RESULTS: list[Any] = [
    b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"null", b"[]", b"7", b"{}",
    *(make_result(11) | change for change in (
        {"schema": 2}, {"seq": "11"}, {"seq": True}, {"seq": 11.0}, {"seq": 0}, {"camera": "side"}, {"camera": None},
        {"verdict": "pass"}, {"verdict": 1}, {"verdict": ["PASS"]}, {"score": float("nan")}, {"score": "0.5"},
        {"score": None}, {"threshold": float("inf")}, {"reason_code": 1}, {"reason_code": False}, {"replay": 0},
        {"replay": None}, {"simulated": "no"}, {"part_id": 7}, {"frame_id": None}, {"boot_id": None}, {"warn": 1},
        {"schema": True}, {"station": None}, {"station": 3}, {"published_utc_ns": 1.5}, {"published_utc_ns": True},
        {"seq": 10**30}, {"score": 10**400}, {"score": True}, {"recorded": None}, {"recorded": 1},
    )),
    json.dumps(make_result(11)).replace('"verdict": "PASS"', '"verdict": "FAIL", "verdict": "PASS"').encode(),
    *({key: value for key, value in make_result(11).items() if key != missing}
      for missing in ("schema", "station", "seq", "camera", "verdict", "replay", "simulated", "boot_id", "reason_code",
                      "recorded", "published_utc_ns")),
]  # fmt: skip


def test_malformed_results_are_counted_and_doubted_until_the_next_status(
    station: Station, subscriber: Subscriber
) -> None:
    for number, body in enumerate(BAD_RESULTS):
        station.send("result/top", body)
        station.publish(make_result(11 + 2 * number))
        station.status()
        station.publish(make_result(12 + 2 * number))
        told = subscriber.receive(WAIT_S)
        first, second = next_verdict(subscriber), next_verdict(subscriber)
        assert isinstance(told, Malformed), body
        assert (first.passed, first.doubt) == (False, f"a malformed message came: {told.why}"), body
        assert second.passed, body
        assert subscriber.malformed == number + 1


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "recorded: must be true: only an ERROR may leave before it is on record, got False with PASS": {"recorded": False},
    "score: must be a number up to the threshold for a PASS, got 1.5 with PASS": {"score": 1.5},
    "score: must be a number up to the threshold for a PASS, got None with PASS": {"score": None},
    "threshold: must be a number for a PASS, got None with PASS": {"threshold": None},
    "margin: must be score minus threshold, got None with PASS": {"margin": None},
    "margin: must be score minus threshold, got 0.5 with PASS": {"margin": 0.5},
    "margin: must be score minus threshold, got inf with PASS": {"margin": float("inf")},
    "regions: must be an empty list for a PASS, got [{}] with PASS": {"regions": [{}]},
    "regions: must be an empty list for a PASS, got None with PASS": {"regions": None},
    "reason: must be OK for a PASS and for nothing else, got 'DEFECT' with PASS": {"reason": "DEFECT"},
    "reason: must be OK for a PASS and for nothing else, got 'OK' with FAIL": {"verdict": "FAIL"},
    "reason_code: must be 0 for a PASS and for nothing else, got 1 with PASS": {"reason_code": 1},
    "reason_code: must be 0 for a PASS and for nothing else, got 0 with ERROR":
        {"verdict": "ERROR", "reason": "DEADLINE", "reason_code": 0},
    **{f"{key}: must be text for a PASS: a recipe judged it, got {value!r} with PASS": {key: value}
       for key in ("recipe_id", "recipe_sha256", "model_sha256") for value in (None, "", 7)},
}  # fmt: skip


@pytest.mark.parametrize("rule", CONTRADICTIONS)
def test_verdict_that_contradicts_itself_is_malformed_and_the_rule_is_told(
    station: Station, subscriber: Subscriber, rule: str
) -> None:
    station.publish(make_result(11, **CONTRADICTIONS[rule]))
    assert subscriber.receive(WAIT_S) == Malformed(rule)
    answer = subscriber.wait_for("top", frame_id="f11", timeout_s=0.1)
    assert (answer.reason, answer.doubt) == ("NO_ANSWER", f"a malformed message came: {rule}")
    assert subscriber.malformed == 1


@pytest.mark.parametrize("key", ["margin", "regions", "recipe_id", "recipe_sha256", "model_sha256", "recorded"])
def test_pass_that_lacks_what_a_pass_must_have_is_malformed(station: Station, subscriber: Subscriber, key: str) -> None:
    station.publish({name: value for name, value in make_result(11).items() if name != key})
    told = subscriber.receive(WAIT_S)
    assert isinstance(told, Malformed)
    assert told.why.startswith(f"{key}: must be ")


def test_malformed_status_is_counted_and_is_no_sign_of_life(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    bad: list[Any] = [
        b"{", b"[]", {}, *(station.build_status() | change for change in (
            {"schema": None}, {"station": None}, {"published_utc_ns": None}, {"lifebit": True}, {"lifebit": "1"},
            {"state": 3}, {"boot_id": None}, {"last_seq": []}, {"last_seq": {"top": "1"}}, {"last_seq": {"top": -1}},
            {"last_seq": {"top": True}}, {"last_result": []},
        )),
    ]  # fmt: skip
    for body in bad:
        station.send("status", body)
    for parts in ([b"status"], [b"result/top", b"{}", b"{}"]):
        station.publisher.send_multipart(parts)
    assert isinstance(subscriber.receive(WAIT_S), Malformed)  # told once
    assert subscriber.receive(WAIT_S) == HeartbeatLost("no status")
    assert subscriber.malformed == len(bad) + 2


@pytest.mark.parametrize("last", [{}, 1], ids=repr)
def test_last_result_of_another_version_is_counted_and_the_status_counts(
    station: Station, make_subscriber: Make, last: Any
) -> None:
    subscriber = make_subscriber()
    station.last_seq["top"] = 1
    station.status(last_result={"top": last})
    station.settle(subscriber)
    station.publish(make_result(2))
    assert next_verdict(subscriber).passed
    assert subscriber.malformed == 1


def test_unreadable_result_is_asked_for_when_the_status_comes(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.send("result/top", b"{")
    station.last_seq["top"] = 11
    station.status()
    assert isinstance(subscriber.receive(WAIT_S), Malformed)
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 11)
    answers.give(answers.take(), b"rubbish")
    assert isinstance(subscriber.receive(WAIT_S), Malformed)
    assert subscriber.malformed == 2


# ---------------------------------------------------------------- heartbeat


def test_silence_is_a_lost_heartbeat_when_no_station_is_there(make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.3)
    started = time.monotonic()
    assert subscriber.receive(WAIT_S) == HeartbeatLost("no status")
    assert 0.2 < time.monotonic() - started < 2.0
    assert subscriber.receive(0.5) is None  # told once


def test_heartbeat_is_lost_and_comes_back_when_the_station_falls_silent(
    station: Station, make_subscriber: Make
) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    assert subscriber.receive(WAIT_S) == HeartbeatLost("no status")
    station.publish(make_result(1))
    verdict = next_verdict(subscriber)
    assert (verdict.passed, verdict.doubt) == (False, "the heartbeat is lost")
    for _ in range(10):
        station.status(moves=False)
        assert subscriber.receive(0.03) is None  # it speaks, but stands where it stood
    assert receive_while_alive(station, subscriber) == HeartbeatBack()
    station.publish(make_result(2))
    assert next_verdict(subscriber).passed


def receive_while_alive(station: Station, subscriber: Subscriber, **changes: Any) -> Event:
    """The next event, while the station sends statuses."""
    limit = time.monotonic() + WAIT_S
    while (event := subscriber.receive(0.03)) is None:
        assert time.monotonic() < limit
        station.status(**changes)
    return event


def test_heartbeat_is_lost_when_the_lifebit_stands_still(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    assert receive_while_alive(station, subscriber, moves=False) == HeartbeatLost("the lifebit stands still")


def test_heartbeat_is_heard_while_the_user_is_away(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=2.0)
    station.settle(subscriber)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        station.status()
        time.sleep(0.03)
    station.publish(make_result(1))
    assert next_verdict(subscriber).passed


def test_verdict_that_nobody_fetched_in_time_does_not_pass(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    station.publish(make_result(1), make_result(2))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        station.status()
        time.sleep(0.03)
    assert not next_verdict(subscriber).passed
    assert subscriber.wait_for("top", frame_id="f2", timeout_s=WAIT_S).reason == "NO_ANSWER"


def test_state_is_told_with_its_status_when_it_changes(station: Station, subscriber: Subscriber) -> None:
    for state in ("RUNNING", "DEGRADED", "DEGRADED", "RUNNING"):
        station.status(state=state, last_error=f"in {state}")
    events = [event for _ in range(2) if isinstance(event := subscriber.receive(WAIT_S), StatusChanged)]
    assert subscriber.receive(0.1) is None
    assert [(event.state, event.status["last_error"]) for event in events] == [
        ("DEGRADED", "in DEGRADED"), ("RUNNING", "in RUNNING"),
    ]  # fmt: skip


# ---------------------------------------------------------------- wait_for


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
    assert verdict.message == "made by the subscriber: no verdict came in time"


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
    assert (verdict.passed, verdict.doubt) == (False, "PASS came, but the heartbeat is lost")


def test_replayed_pass_is_no_answer_and_a_replayed_fail_is_one(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(13))
    next_verdict(subscriber)
    answers.give(answers.take(), {"ok": True, "results": [make_result(11), make_fail(12)]})
    verdict = subscriber.wait_for("top", frame_id="f11", timeout_s=WAIT_S)
    assert (verdict.verdict, verdict.doubt) == ("ERROR", "PASS came, but it is a replay")
    assert verdict.raw["verdict"] == "PASS"
    assert subscriber.wait_for("top", frame_id="f12", timeout_s=WAIT_S).verdict == "FAIL"


@pytest.mark.parametrize(
    ("doubtful", "doubt"),
    [({"simulated": True}, "the frame is simulated"), ({"malformed": True}, "a malformed message came")],
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
    assert verdict.doubt.startswith(f"PASS came, but {doubt}")


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
        assert subscriber.wait_for("top", part_id="pallet", timeout_s=WAIT_S).doubt == f"PASS came, but {FINAL}"
    station.publish(make_result(13, part_id="pallet"), make_result(14, part_id="pallet"), make_result(15))
    verdict = subscriber.wait_for("top", part_id="pallet", frame_id="f13", timeout_s=WAIT_S)
    assert verdict.doubt == f"PASS came, but {FINAL}"
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
    assert (answer.passed, answer.doubt) == (False, "PASS came, but not in time")
    assert answer.raw["verdict"] == "PASS"


def test_wait_for_is_refused_when_no_id_or_no_time_is_given(subscriber: Subscriber) -> None:
    with pytest.raises(ValueError, match="wait_for: must be given frame_id, part_id or trigger_id"):
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


# ---------------------------------------------------------------- its life


def test_events_are_iterated_until_it_is_closed(station: Station, subscriber: Subscriber) -> None:
    station.publish(make_result(11), make_result(12))
    got = []
    with subscriber:
        for event in subscriber:
            assert isinstance(event, Verdict)
            got.append(event.seq)
            if event.seq == 12:
                subscriber.close()
    assert got == [11, 12]
    assert not subscriber._pump.is_alive()
    with pytest.raises(zmq.ZMQError):
        subscriber.receive(0)
    assert subscriber.wait_for("top", frame_id="f12", timeout_s=WAIT_S).doubt == "the subscriber is closed"


def test_endpoint_that_is_none_is_refused_and_nothing_stays_open() -> None:
    with pytest.raises(zmq.ZMQError):
        Subscriber("nonsense")


def test_events_are_frozen_and_hashable(subscriber: Subscriber) -> None:
    events = [Gap("top", 1, 2), Lost("top", 1, 2, "x"), HeartbeatBack(), HeartbeatLost("x"), Restarted("a", "b"),
              StatusChanged("RUNNING", {}), Malformed("x"), Foreign("a", "b"),
              subscriber.wait_for("top", frame_id="x", timeout_s=0)]  # fmt: skip
    assert len(set(events)) == 9
    assert not any(hasattr(event, "__dict__") for event in events)
