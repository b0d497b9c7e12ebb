"""Each verdict comes once; what is missing is told, asked for, and told again where it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inspector.client import Event, Gap, Lost, Restarted, StatusChanged, Subscriber, Verdict, connections
from inspector.testing.fake_station import WAIT_S, Answers, Station, make_fail, make_result

Collect = Callable[[Subscriber], list[Event]]
Make = Callable[..., Subscriber]


def seqs(events: list[Event]) -> list[tuple[int, bool]]:
    return [(event.seq, event.replay) for event in events if isinstance(event, Verdict)]


def next_events(subscriber: Subscriber, number: int) -> list[Event]:
    events = [subscriber.receive(WAIT_S) for _ in range(number)]
    assert None not in events
    return events  # type: ignore[return-value]


def replay(*numbers: int, **more: Any) -> dict[str, Any]:
    return {"ok": True, "results": [make_result(number, replay=True) for number in numbers]} | more


# ---------------------------------------------------------------- where it begins


def test_newest_verdict_alone_comes_as_a_replay_when_the_station_ran_before(
    station: Station, make_subscriber: Make, collect: Collect, answers: Answers
) -> None:
    subscriber = make_subscriber()
    station.last_seq["top"] = 10
    newest = {"top": make_result(10, replay=True), "side": None}
    events = station.settle(subscriber, last_result=newest)
    assert [type(event) for event in events] == [Verdict, StatusChanged]
    station.publish(make_result(11))
    events += collect(subscriber)
    assert seqs(events) == [(10, True), (11, False)]
    assert [event.passed for event in events if isinstance(event, Verdict)] == [False, True]
    assert answers.none_waits()


def test_first_result_is_the_beginning_when_it_comes_before_a_status(
    station: Station, make_subscriber: Make, collect: Collect, answers: Answers
) -> None:
    subscriber = make_subscriber()
    station.publish(make_result(7))
    (verdict, *_) = collect(subscriber)
    assert isinstance(verdict, Verdict)
    assert (verdict.seq, verdict.passed, verdict.doubt) == (7, False, "no heartbeat yet")
    assert answers.none_waits()


def test_kept_place_is_gone_on_from_when_it_is_given(station: Station, make_subscriber: Make, answers: Answers) -> None:
    subscriber = make_subscriber(from_seq={"top": 9})
    station.last_seq["top"] = 10
    station.status(last_result={"top": make_result(10, replay=True)})
    assert subscriber.receive(WAIT_S) == Gap("top", 9, 10)
    answers.give(answers.take(), replay(9, 10))
    assert seqs(next_events(subscriber, 2)) == [(9, True), (10, True)]


def test_other_cameras_are_not_heard_of_when_some_are_named(
    station: Station, make_subscriber: Make, collect: Collect
) -> None:
    subscriber = make_subscriber(cameras=["top"])
    station.publish(make_result(1), make_result(1, "top2"), make_result(5, "side"), make_result(2))
    station.last_seq |= {"side": 9, "top2": 9}
    assert seqs(collect(subscriber)) == [(1, False), (2, False)]
    station.last_seq |= {"side": 20, "top2": 20}
    assert collect(subscriber) == []
    assert subscriber.malformed == 0


# ---------------------------------------------------------------- once


def test_verdict_comes_once_when_the_station_repeats_it(
    station: Station, subscriber: Subscriber, collect: Collect
) -> None:
    station.publish(make_result(11), make_result(11), make_result(12), make_result(11), make_result(9))
    station.last_seq["top"] = 12
    assert seqs(collect(subscriber)) == [(11, False), (12, False)]


def test_late_verdict_comes_once_and_not_again_when_it_is_replayed_too(
    station: Station, subscriber: Subscriber, answers: Answers, collect: Collect
) -> None:
    station.publish(make_result(14), make_result(12))
    station.last_seq["top"] = 14
    assert next_events(subscriber, 1) == [Gap("top", 11, 13)]
    assert seqs(next_events(subscriber, 2)) == [(14, False), (12, False)]
    answers.give(answers.take(), replay(11, 12, 13, 14, 15))
    assert seqs(next_events(subscriber, 2)) == [(11, True), (13, True)]
    station.publish(make_result(13), make_result(15))
    assert seqs(collect(subscriber)) == [(15, False)]  # fetched along, but not missing then: it is no replay
    assert answers.requests == [{"request": "replay", "camera": "top", "from_seq": 11}]


# ---------------------------------------------------------------- gaps


def test_gap_is_told_at_once_and_filled_by_replays_that_do_not_pass(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(13))
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 12)
    (live,) = next_events(subscriber, 1)
    assert isinstance(live, Verdict)
    assert (live.seq, live.passed) == (13, True)
    answers.give(answers.take(), {"ok": True, "results": [make_result(11), make_fail(12)]})
    first, second = next_events(subscriber, 2)
    assert isinstance(first, Verdict)
    assert isinstance(second, Verdict)
    assert (first.seq, first.verdict, first.replay, first.passed) == (11, "PASS", True, False)
    assert first.raw["replay"] is True
    assert (second.seq, second.verdict, second.replay) == (12, "FAIL", True)


def test_lost_last_verdict_is_noticed_when_the_status_names_it(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.last_seq["top"] = 11
    station.status()
    assert subscriber.receive(WAIT_S) == Gap("top", 11, 11)
    answers.give(answers.take(), replay(11))
    assert seqs(next_events(subscriber, 1)) == [(11, True)]


def test_results_go_on_and_what_is_missing_is_lost_when_no_answer_comes(
    station: Station, subscriber: Subscriber, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_REPLAY_TIMEOUT_S", 0.3)
    station.publish(make_result(13), make_result(14))
    assert next_events(subscriber, 1) == [Gap("top", 11, 12)]
    assert seqs(next_events(subscriber, 2)) == [(13, False), (14, False)]
    assert subscriber.receive(WAIT_S) == Lost("top", 11, 12, "no answer to the replay")
    answers.give(answers.take(), replay(11, 12))
    station.publish(make_result(15))
    assert seqs(next_events(subscriber, 1)) == [(15, False)]
    assert subscriber.receive(0.1) is None  # too late is lost: it was told so


def test_gap_is_lost_at_once_when_there_is_nobody_to_ask(
    station: Station, make_subscriber: Make, collect: Collect
) -> None:
    subscriber = make_subscriber(requests=None)
    station.publish(make_result(1), make_result(3))
    assert Lost("top", 2, 2, "no requests endpoint was given") in collect(subscriber)


@pytest.mark.parametrize(
    ("answer", "why", "malformed"),
    [
        ({"ok": False, "error": "camera: unknown"}, "the replay was refused: camera: unknown", 0),
        ({"ok": True}, "the replay was malformed: results: must be", 1),
        ({"ok": True, "results": {}}, "the replay was malformed: results: must be", 1),
        ({"results": []}, "the replay was malformed: ok: must be", 1),
        ({"ok": True, "results": []}, "they are not in the replay", 0),
        ({"ok": True, "results": [], "more": True}, "they are not in the replay", 0),
        ({"ok": True, "results": [7, make_result(11, "side")]}, "they are not in the replay", 1),
    ],
)
def test_gap_is_lost_when_the_answer_does_not_hold_it(
    station: Station, subscriber: Subscriber, answers: Answers, answer: Any, why: str, malformed: int
) -> None:
    station.publish(make_result(12))
    next_events(subscriber, 2)
    answers.give(answers.take(), answer)
    lost = subscriber.receive(WAIT_S)
    assert isinstance(lost, Lost)
    assert (lost.first_seq, lost.last_seq, lost.why[: len(why)]) == (11, 11, why)
    assert subscriber.malformed == malformed
    assert answers.none_waits()


def test_only_what_a_replay_lacks_is_lost_when_it_holds_the_rest(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(16))
    next_events(subscriber, 2)
    answers.give(answers.take(), replay(11, 13, 14))
    events = next_events(subscriber, 5)
    assert seqs(events) == [(11, True), (13, True), (14, True)]
    assert [(lost.first_seq, lost.last_seq) for lost in events if isinstance(lost, Lost)] == [(12, 12), (15, 15)]


def test_pages_follow_one_another_when_the_answer_says_more(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(16))
    next_events(subscriber, 2)
    answers.give(answers.take(), replay(11, 13, more=True))
    events = next_events(subscriber, 3)
    answers.give(answers.take(), replay(14, 15, 16, more=False))
    events += next_events(subscriber, 2)
    assert seqs(events) == [(11, True), (13, True), (14, True), (15, True)]
    assert [event for event in events if isinstance(event, Lost)] == [Lost("top", 12, 12, "they are not in the replay")]
    assert [request["from_seq"] for request in answers.requests] == [11, 14]


def test_one_request_is_under_way_for_each_camera_when_gaps_follow_one_another(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(12), make_result(14), make_result(1, "side"), make_result(3, "side"))
    next_events(subscriber, 7)
    envelopes = [answers.take(), answers.take()]
    assert answers.none_waits()
    answers.give(envelopes[0], replay(11))  # made before the second gap was known
    assert seqs(next_events(subscriber, 1)) == [(11, True)]
    answers.give(answers.take(), replay(13))
    assert seqs(next_events(subscriber, 1)) == [(13, True)]
    asked = [(request["camera"], request["from_seq"]) for request in answers.requests]
    assert asked == [("top", 11), ("side", 2), ("top", 13)]


# ---------------------------------------------------------------- restarts


def restart(station: Station, seq: int, **changes: Any) -> dict[str, Any]:
    station.boot_id = "b2"
    return make_result(seq, boot_id="b2", **changes)


def test_numbers_go_on_and_gaps_are_found_over_a_restart(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.publish(make_result(11), restart(station, 13))
    first, restarted, gap, second = next_events(subscriber, 4)
    assert [seqs([event]) for event in (first, second)] == [[(11, False)], [(13, False)]]
    assert restarted == Restarted("b1", "b2")
    assert gap == Gap("top", 12, 12)


def test_numbers_given_anew_are_taken_and_fetched_when_a_restart_lost_unrecorded_results(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    unrecorded = {"verdict": "ERROR", "reason": "NOT_READY", "reason_code": 40, "score": None, "recorded": False}
    station.publish(make_result(11), *(make_result(seq, **unrecorded) for seq in (12, 13)))
    next_events(subscriber, 3)
    station.publish(restart(station, 13))  # 12 of the new start was lost on the way, 13 is another frame's
    restarted, gap, verdict = next_events(subscriber, 3)
    assert restarted == Restarted("b1", "b2")
    assert gap == Gap("top", 12, 12)
    assert isinstance(verdict, Verdict)
    assert (verdict.seq, verdict.boot_id, verdict.passed) == (13, "b2", False)  # its heartbeat is not there yet
    answers.give(answers.take(), {"ok": True, "results": [make_result(12, boot_id="b2")]})
    assert seqs(next_events(subscriber, 1)) == [(12, True)]


@pytest.mark.parametrize("status_first", [True, False])
def test_verdicts_are_taken_when_a_restart_began_a_new_journal(
    station: Station, subscriber: Subscriber, collect: Collect, answers: Answers, status_first: bool
) -> None:
    station.publish(make_result(11))
    fresh = restart(station, 1)
    if status_first:
        station.status(last_seq={"top": 0})
    station.publish(fresh, restart(station, 2), fresh)
    station.last_seq["top"] = 2
    events = collect(subscriber)
    assert seqs(events) == [(11, False), (1, False), (2, False)]
    assert [event for event in events if isinstance(event, Restarted | Gap)] == [Restarted("b1", "b2")]


def test_nothing_is_lost_when_the_station_is_killed_before_it_answers_the_replay(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.last_seq["top"] = 12
    station.status()
    assert next_events(subscriber, 1) == [Gap("top", 11, 12)]
    answers.take()
    station.publish(restart(station, 13))
    assert next_events(subscriber, 2) == [Restarted("b1", "b2"), Gap("top", 11, 12)]
    assert seqs(next_events(subscriber, 1)) == [(13, False)]
    answers.give(answers.take(), replay(11, 12))
    assert seqs(next_events(subscriber, 2)) == [(11, True), (12, True)]


def test_what_is_missing_is_told_once_more_when_a_restart_gives_its_numbers_anew(
    station: Station, subscriber: Subscriber, answers: Answers
) -> None:
    station.last_seq["top"] = 12
    station.status()
    assert next_events(subscriber, 1) == [Gap("top", 11, 12)]
    old = answers.take()
    station.publish(restart(station, 12))
    *events, verdict = next_events(subscriber, 4)
    lost = Lost("top", 12, 12, "the station restarted")  # 11 may be on record; 12 is not, or 13 would follow
    assert events == [Restarted("b1", "b2"), lost, Gap("top", 11, 11)]
    assert seqs([verdict]) == [(12, False)]
    answers.give(old, replay(11))
    answers.give(answers.take(), {"ok": True, "results": [make_result(11, boot_id="b2")]})
    (replayed,) = next_events(subscriber, 1)
    assert isinstance(replayed, Verdict)
    assert replayed.boot_id == "b2"
