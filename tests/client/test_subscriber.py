"""Only a PASS that nothing speaks against passes; silence, doubt and rubbish are told, and never raise."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

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
)
from inspector.testing.fake_station import WAIT_S, Answers, Station, make_result, next_verdict, wait_for_state

Make = Callable[..., Subscriber]


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
        assert (first.passed, first.doubt) == (False, f"a malformed message was received: {told.why}"), body
        assert second.passed, body
        assert subscriber.malformed == number + 1


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
    for _ in range(20):  # on a machine that is too slow for a while the messages themselves come too late
        station.settle(subscriber)
        lost = receive_while_alive(station, subscriber, moves=False)
        if "arrive too late" not in str(lost):
            break
    assert lost == HeartbeatLost("the lifebit does not change")


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
