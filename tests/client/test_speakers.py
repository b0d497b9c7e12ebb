"""One station's word counts, and one process's heartbeat; who else speaks is refused and told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from inspector.client import (
    Event,
    Foreign,
    Gap,
    HeartbeatLost,
    Lost,
    Malformed,
    Restarted,
    StatusChanged,
    Subscriber,
    Verdict,
)
from inspector.client.speakers import Speakers
from inspector.testing.fake_station import WAIT_S, Answers, Station, make_result, next_verdict, wait_for_events

Make = Callable[..., Subscriber]
OTHER = {"station": "press-4", "boot_id": "c1"}


# ---------------------------------------------------------------- another station


def test_another_station_is_refused_counted_and_told_once_and_ours_passes(
    station: Station, subscriber: Subscriber
) -> None:
    for seq in (11, 12):
        station.status(**OTHER, state="FAULT")
        station.publish(make_result(seq + 100, **OTHER))
        station.send("result/top", make_result(seq + 200, **OTHER, recorded=False, score="broken in its own way"))
    station.publish(make_result(11))
    assert subscriber.receive(WAIT_S) == Foreign("press-4", "c1")
    verdict = next_verdict(subscriber)
    assert (verdict.seq, verdict.passed) == (11, True)
    assert (subscriber.foreign, subscriber.malformed) == (6, 0)
    assert subscriber.receive(0.05) is None


def test_another_station_keeps_no_heartbeat(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber(heartbeat_s=1.0)
    station.settle(subscriber)
    stands_at = station.lifebit
    events: list[Event] = []
    limit = time.monotonic() + WAIT_S
    while not (events and isinstance(events[-1], HeartbeatLost)):
        assert time.monotonic() < limit, events
        station.status(**OTHER)
        station.status(lifebit=stands_at)
        events += [event] if (event := subscriber.receive(0.05)) else []
    assert events == [Foreign("press-4", "c1"), HeartbeatLost("the lifebit does not change")]


def test_first_station_is_kept_and_nothing_passes_while_another_speaks_when_none_is_named(
    station: Station, make_subscriber: Make
) -> None:
    subscriber = make_subscriber(station=None)
    station.settle(subscriber)
    station.publish(make_result(1))
    assert next_verdict(subscriber).passed
    station.status(**OTHER)
    station.publish(make_result(2), make_result(1, camera="side"), make_result(2, camera="side", **OTHER))
    assert subscriber.receive(WAIT_S) == Foreign("press-4", "c1")
    doubt = "another station also publishes here, 'press-4': name yours with station="
    assert [next_verdict(subscriber).doubt for _ in range(2)] == [doubt, doubt]
    assert subscriber.receive(0.05) is None


def test_replay_of_another_station_is_refused(station: Station, subscriber: Subscriber, answers: Answers) -> None:
    station.publish(make_result(12))
    events = [subscriber.receive(WAIT_S) for _ in range(2)]
    answers.give(answers.take(), {"ok": True, "results": [make_result(11, **OTHER)]})
    events = [subscriber.receive(WAIT_S) for _ in range(2)]
    assert events == [
        Lost("top", 11, 11, "they are not in the replay"),
        Malformed("replay: must contain only valid results of this station"),
    ]


def test_last_result_of_another_station_is_refused(station: Station, make_subscriber: Make) -> None:
    subscriber = make_subscriber()
    station.last_seq["top"] = 10
    events = station.settle(subscriber, last_result={"top": make_result(10, **OTHER)})
    assert [type(event) for event in events] == [StatusChanged]
    assert subscriber.malformed == 1


# ---------------------------------------------------------------- another process


def test_two_processes_of_one_name_are_doubt_and_neither_keeps_the_others_heartbeat(
    station: Station, subscriber: Subscriber
) -> None:
    new: dict[str, Any] = {"boot_id": "b2"}
    station.status(**new)
    station.settle(subscriber, **new, state="READY")
    station.status(moves=False)
    station.publish(make_result(11), make_result(12, **new))
    assert subscriber.receive(WAIT_S) == Foreign("press-3", "b1")
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 11)
    verdict = next_verdict(subscriber)
    assert (verdict.seq, verdict.passed, verdict.doubt) == (12, False, "two processes publish as 'press-3'")
    assert subscriber.foreign == 2


def test_verdict_of_the_process_before_does_not_pass_when_it_is_handed_out_after_a_restart(
    station: Station, subscriber: Subscriber
) -> None:
    station.publish(make_result(11))
    station.status(boot_id="b2")
    station.publish(make_result(12, boot_id="b2"))
    wait_for_events(subscriber, 3)
    events = [subscriber.receive(WAIT_S) for _ in range(3)]
    assert [event.doubt for event in events if isinstance(event, Verdict)] == ["no heartbeat yet"] * 2
    assert Restarted("b1", "b2") in events


def test_malformed_message_is_no_new_process(station: Station, subscriber: Subscriber) -> None:
    station.send("result/top", make_result(11, boot_id="b2", recorded=False))
    station.status()
    station.publish(make_result(11))
    assert isinstance(subscriber.receive(WAIT_S), Malformed)
    assert next_verdict(subscriber).passed


def test_former_process_counts_again_only_once_the_present_one_is_silent() -> None:
    speakers = Speakers("press-3", 2.0)
    for boot_id, now in (("b1", 0.0), ("b2", 1.0)):
        assert not speakers.refuses("press-3", boot_id, now)
        speakers.accept("press-3", boot_id, now)
    assert speakers.refuses("press-3", "b1", 3.0)
    assert speakers.find_doubt(5.0) == "two processes publish as 'press-3'"
    assert speakers.find_doubt(5.1) is None
    assert not speakers.refuses("press-3", "b1", 3.1)
    speakers.accept("press-3", "b1", 3.1)
    assert speakers.refuses("press-3", "b2", 3.2)


@pytest.mark.parametrize("number", [1000])
def test_strangers_take_no_memory_without_end(number: int) -> None:
    speakers = Speakers(None, 2.0)
    for count in range(number):
        speakers.accept("press-3", f"b{count}", 0.0)
        assert not speakers.is_told("press-4", f"c{count}")
    assert len(speakers._former) == len(speakers._told) == 100
