"""Only a PASS that nothing speaks against passes; silence, doubt and rubbish are told, and never raise."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from fake_station import WAIT_S, Answers, Station, make_fail, make_result

from inspector.client import (
    Event,
    Gap,
    HeartbeatBack,
    HeartbeatLost,
    Lost,
    Restarted,
    StatusChanged,
    Subscriber,
    Verdict,
)
from inspector.client import subscriber as subscriber_module

Collect = Callable[[Subscriber], list[Event]]
Make = Callable[..., Subscriber]


def next_verdict(subscriber: Subscriber) -> Verdict:
    while not isinstance(event := subscriber.receive(WAIT_S), Verdict):
        assert event is not None
    return event


# ---------------------------------------------------------------- verdicts


def test_verdict_holds_what_the_wire_holds(station: Station, subscriber: Subscriber) -> None:
    wire = make_result(11, trigger_id="t1", warn=True, message="schön", regions=[{"peak": 1.0}])
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
    station.status()
    station.publish(make_result(1, simulated=True))
    assert next_verdict(subscriber).passed


def test_nothing_passes_when_the_station_is_in_fault(station: Station, subscriber: Subscriber) -> None:
    station.status(state="FAULT")
    station.publish(make_result(11))
    verdict = next_verdict(subscriber)
    assert (verdict.passed, verdict.doubt) == (False, "the station is in FAULT")


# ---------------------------------------------------------------- malformed messages

BAD_RESULTS: list[Any] = [
    b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"null", b"[]", b"7", b"{}",
    *(make_result(11) | change for change in (
        {"schema": 2}, {"seq": "11"}, {"seq": True}, {"seq": 11.0}, {"seq": 0}, {"camera": "side"}, {"camera": None},
        {"verdict": "pass"}, {"verdict": 1}, {"verdict": ["PASS"]}, {"score": float("nan")}, {"score": "0.5"},
        {"score": None}, {"threshold": float("inf")}, {"reason_code": 1}, {"reason_code": False}, {"replay": 0},
        {"replay": None}, {"simulated": "no"}, {"part_id": 7}, {"frame_id": None}, {"boot_id": None}, {"warn": 1},
    )),
    *({key: value for key, value in make_result(11).items() if key != missing}
      for missing in ("schema", "seq", "camera", "verdict", "replay", "simulated", "boot_id", "reason_code")),
]  # fmt: skip


def test_malformed_results_are_counted_and_doubted_until_the_next_status(
    station: Station, subscriber: Subscriber
) -> None:
    for number, body in enumerate(BAD_RESULTS):
        station.send("result/top", body)
        station.publish(make_result(11 + 2 * number))
        station.status()
        station.publish(make_result(12 + 2 * number))
        first, second = next_verdict(subscriber), next_verdict(subscriber)
        assert (first.passed, first.doubt) == (False, "a malformed message came"), body
        assert second.passed, body
        assert subscriber.malformed == number + 1


def test_malformed_status_is_counted_and_is_no_sign_of_life(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.4)
    station.status()
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    bad: list[Any] = [
        b"{", b"[]", {}, *(station.build_status() | change for change in (
            {"schema": None}, {"lifebit": True}, {"lifebit": "1"}, {"state": 3}, {"boot_id": None}, {"last_seq": []},
            {"last_seq": {"top": "1"}}, {"last_seq": {"top": -1}}, {"last_seq": {"top": True}}, {"last_result": []},
        )),
    ]  # fmt: skip
    for body in bad:
        station.send("status", body)
    for parts in ([b"status"], [b"result/top", b"{}", b"{}"]):
        station.publisher.send_multipart(parts)
    assert subscriber.receive(WAIT_S) == HeartbeatLost("no status")
    assert subscriber.malformed == len(bad) + 2


@pytest.mark.parametrize("last", [{}, 1], ids=repr)
def test_last_result_of_another_version_is_counted_and_the_status_counts(
    station: Station, make_subscriber: Make, last: Any
) -> None:
    subscriber = make_subscriber()
    station.status(last_result={"top": last})
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    station.publish(make_result(1))
    assert next_verdict(subscriber).passed
    assert subscriber.malformed == 1


def test_unreadable_result_is_asked_for_when_the_status_comes(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.send("result/top", b"{")
    station.last_seq["top"] = 11
    station.status()
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 11)
    answers.give(answers.take(subscriber), b"rubbish")
    assert subscriber.receive(0.2) is None
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
    subscriber = make_subscriber(heartbeat_s=0.3)
    station.status()
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    assert subscriber.receive(WAIT_S) == HeartbeatLost("no status")
    station.publish(make_result(1))
    verdict = next_verdict(subscriber)
    assert (verdict.passed, verdict.doubt) == (False, "the heartbeat is lost")
    station.status(moves=False)
    assert subscriber.receive(0.2) is None  # it speaks, but stands where it stood
    station.status()
    assert subscriber.receive(WAIT_S) == HeartbeatBack()
    station.publish(make_result(2))
    assert next_verdict(subscriber).passed


def test_heartbeat_is_lost_when_the_lifebit_stands_still(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.6)
    station.status()
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    event, deadline = None, time.monotonic() + WAIT_S
    while event is None and time.monotonic() < deadline:
        station.status(moves=False)
        event = subscriber.receive(0.05)
    assert event == HeartbeatLost("the lifebit stands still")


def test_heartbeat_is_kept_when_the_subscriber_was_away_for_longer(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.3)
    station.status()
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    time.sleep(0.4)
    station.status()
    time.sleep(0.1)
    assert subscriber.receive(0) is None


def test_state_is_told_with_its_status_when_it_changes(
    station: Station, subscriber: Subscriber, collect: Collect
) -> None:
    for state in ("RUNNING", "DEGRADED", "DEGRADED", "RUNNING"):
        station.status(state=state, last_error=f"in {state}")
    events = collect(subscriber)
    assert [(event.state, event.status["last_error"]) for event in events if isinstance(event, StatusChanged)] == [
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
    while len(subscriber._events) < 2:
        subscriber._pump(0.1)
    assert subscriber.wait_for("top", **ids, timeout_s=0).seq == 11


def test_wait_for_answers_error_when_no_verdict_comes_or_one_of_other_ids(
    station: Station, subscriber: Subscriber
) -> None:
    station.publish(make_result(11, part_id="p1"), make_result(12, part_id=None))
    started = time.monotonic()
    verdict = subscriber.wait_for("top", frame_id="f12", part_id="p1", timeout_s=0.2)
    assert 0.15 < time.monotonic() - started < 2.0
    assert (verdict.verdict, verdict.reason, verdict.local, verdict.passed) == ("ERROR", "NO_ANSWER", True, False)
    assert (verdict.camera, verdict.frame_id, verdict.part_id) == ("top", "f12", "p1")
    assert verdict.message == "made by the subscriber: no verdict within 0.2 s"


def test_wait_for_ends_at_once_when_the_heartbeat_is_lost(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.3)
    station.status()
    started = time.monotonic()
    verdict = subscriber.wait_for("top", frame_id="f1", timeout_s=WAIT_S)
    assert time.monotonic() - started < WAIT_S / 2
    assert (verdict.reason, verdict.doubt) == ("NO_ANSWER", "the heartbeat is lost")
    assert isinstance(subscriber.receive(0), StatusChanged)
    assert subscriber.receive(0) == HeartbeatLost("no status")


def test_pass_in_hand_does_not_pass_when_the_heartbeat_was_lost_since(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=0.3)
    station.status()
    station.publish(make_result(1))
    assert isinstance(subscriber.receive(WAIT_S), StatusChanged)
    time.sleep(0.4)
    verdict = subscriber.wait_for("top", frame_id="f1", timeout_s=0)
    assert (verdict.passed, verdict.doubt) == (False, "PASS came, but the heartbeat is lost")


def test_replayed_pass_is_no_answer_and_a_replayed_fail_is_one(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(13))
    next_verdict(subscriber)
    answers.give(answers.take(subscriber), {"ok": True, "results": [make_result(11), make_fail(12)]})
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
    assert (verdict.verdict, verdict.doubt) == ("ERROR", f"PASS came, but {doubt}")


@pytest.mark.parametrize(("second", "verdict"), [(make_fail, "FAIL"), (make_result, "ERROR")])
def test_wait_for_does_not_pass_when_two_frames_have_the_ids(
    station: Station, subscriber: Subscriber, second: Callable[..., dict[str, Any]], verdict: str
) -> None:
    station.publish(make_result(11, part_id="p"), second(12, part_id="p"), make_result(13))
    while len(subscriber._events) < 3:
        subscriber._pump(0.1)
    assert subscriber.wait_for("top", part_id="p", timeout_s=0).verdict == verdict
    assert next_verdict(subscriber).seq == 13


def test_late_pass_never_passes_when_its_ids_were_answered_before(station: Station, subscriber: Subscriber) -> None:
    assert subscriber.wait_for("top", part_id="pallet", timeout_s=0).reason == "NO_ANSWER"
    for seq in (11, 12):
        station.publish(make_result(seq, part_id="pallet"))
        verdict = subscriber.wait_for("top", part_id="pallet", timeout_s=WAIT_S)
        assert verdict.doubt == "PASS came, but these ids were answered NO_ANSWER before"
    station.publish(make_result(13, part_id="pallet"))
    assert subscriber.wait_for("top", part_id="pallet", frame_id="f13", timeout_s=WAIT_S).passed


def test_wait_for_is_refused_when_no_id_is_given(subscriber: Subscriber) -> None:
    with pytest.raises(ValueError, match="wait_for: must be given frame_id, part_id or trigger_id"):
        subscriber.wait_for("top", timeout_s=0)


def test_oldest_events_are_dropped_and_counted_when_only_wait_for_is_used(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "_MAX_EVENTS", 5)
    station.publish(*(make_result(seq) for seq in range(11, 21)))
    assert subscriber.wait_for("top", frame_id="f20", timeout_s=WAIT_S).passed
    assert subscriber.dropped == 5
    assert [next_verdict(subscriber).seq for _ in range(4)] == [16, 17, 18, 19]


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
    assert subscriber._context.closed
    with pytest.raises(zmq.ZMQError):
        subscriber.receive(0)


def test_endpoint_that_is_none_is_refused_and_nothing_stays_open() -> None:
    with pytest.raises(zmq.ZMQError):
        Subscriber("nonsense")


def test_events_are_frozen_and_hashable(subscriber: Subscriber) -> None:
    events = [Gap("top", 1, 2), Lost("top", 1, 2, "x"), HeartbeatBack(), HeartbeatLost("x"), Restarted("a", "b"),
              StatusChanged("RUNNING", {}), subscriber.wait_for("top", frame_id="x", timeout_s=0)]  # fmt: skip
    assert len(set(events)) == 7
    assert not any(hasattr(event, "__dict__") for event in events)
