"""A verdict that contradicts itself is no verdict."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from inspector.client import Malformed, Subscriber
from inspector.client.messages import MalformedError, load, parse_status, parse_verdict
from inspector.testing.fake_station import WAIT_S, Station, make_result, next_verdict
from inspector.types import Reason, Region, Result, Verdict

CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "recorded: must be true: only an ERROR may be sent before it is recorded, got False with PASS": {"recorded": False},
    "score: must be a number not above the threshold for a PASS, got 1.5 with PASS": {"score": 1.5},
    "score: must be a number not above the threshold for a PASS, got None with PASS": {"score": None},
    "threshold: must be a number for a PASS, got None with PASS": {"threshold": None},
    "margin: must be score minus threshold, got None with PASS": {"margin": None},
    "margin: must be score minus threshold, got 0.5 with PASS": {"margin": 0.5},
    "margin: must be score minus threshold, got inf with PASS": {"margin": float("inf")},
    "regions: must be an empty list for a PASS, got [{}] with PASS": {"regions": [{}]},
    "regions: must be an empty list for a PASS, got None with PASS": {"regions": None},
    "reason: must be OK for a PASS and only for a PASS, got 'DEFECT' with PASS": {"reason": "DEFECT"},
    "reason: must be OK for a PASS and only for a PASS, got 'OK' with FAIL": {"verdict": "FAIL"},
    "reason_code: must be 0 for a PASS and only for a PASS, got 1 with PASS": {"reason_code": 1},
    "reason_code: must be 0 for a PASS and only for a PASS, got 0 with ERROR":
        {"verdict": "ERROR", "reason": "DEADLINE", "reason_code": 0},
    **{f"{key}: must be text for a PASS (a recipe judged it), got {value!r} with PASS": {key: value}
       for key in ("recipe_id", "recipe_sha256", "model_sha256") for value in (None, "", 7)},
}  # fmt: skip


@pytest.mark.parametrize("rule", CONTRADICTIONS)
def test_verdict_that_contradicts_itself_is_malformed(rule: str) -> None:
    with pytest.raises(MalformedError) as raised:
        parse_verdict(make_result(11, **CONTRADICTIONS[rule]), "top", "press-3")
    assert str(raised.value) == rule


@pytest.mark.parametrize("key", ["margin", "regions", "recipe_id", "recipe_sha256", "model_sha256", "recorded"])
def test_pass_that_lacks_what_a_pass_must_have_is_malformed(key: str) -> None:
    result = {name: value for name, value in make_result(11).items() if name != key}
    with pytest.raises(MalformedError, match=f"^{key}: must be "):
        parse_verdict(result, "top", "press-3")


def test_contradiction_is_told_with_its_rule_and_never_passes(station: Station, subscriber: Subscriber) -> None:
    station.publish(make_result(11, recorded=False))
    rule = "recorded: must be true: only an ERROR may be sent before it is recorded, got False with PASS"
    assert subscriber.receive(WAIT_S) == Malformed(rule)
    answer = subscriber.wait_for("top", frame_id="f11", timeout_s=0.1)
    assert (answer.reason, answer.doubt) == ("NO_ANSWER", f"a malformed message was received: {rule}")
    assert subscriber.malformed == 1


RESULT = Result(
    station="press-3", boot_id="b1", seq=1, camera="top", frame_id="f", part_id=None, trigger_id=None,
    verdict=Verdict.PASS, reason=Reason.OK, score=0.1 + 0.2, threshold=0.7, regions=(), captured_utc_ns=0,
    received_utc_ns=1, published_utc_ns=2, deadline_ms=2000, recipe_id="lens", recipe_sha256="a", model_sha256="b",
)  # fmt: skip
ERROR: dict[str, Any] = {"verdict": Verdict.ERROR, "score": None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"score": 0.7, "warn": True},
        {"score": 0, "threshold": 1},
        {"simulated": True},
        {"verdict": Verdict.FAIL, "reason": Reason.DEFECT, "score": 0.8, "regions": (Region((0, 0, 9, 9), 0.8, 81),)},
        ERROR | {"reason": Reason.NOT_READY, "recorded": False, "threshold": None, "recipe_id": None},
        ERROR | {"reason": Reason.DEADLINE, "score": 0.3, "recorded": False, "message": "judged, but too late"},
    ],
)
def test_what_a_station_publishes_is_sound(changes: dict[str, Any]) -> None:
    result = dataclasses.replace(RESULT, **changes)
    verdict = parse_verdict(load(json.dumps(result.to_wire()).encode()), "top", "press-3")
    assert (verdict.verdict, verdict.reason_code) == (result.verdict.value, int(result.reason))


def test_replay_of_an_early_version_that_does_not_say_recorded_is_sound() -> None:
    result = {name: value for name, value in make_result(11).items() if name != "recorded"}
    assert parse_verdict(result, "top", "press-3", replayed=True).replay


def make_part(seq: int = 1, *cameras: str, **changes: Any) -> dict[str, Any]:
    """A PASS of part `body` that these cameras see."""
    views = [{"camera": camera, "frame_id": "f", "seq": 3, "verdict": "PASS", "reason": "OK"} for camera in cameras]
    return make_result(seq, "part/body", views=views, **changes)


def test_pass_of_a_part_is_sound_when_all_its_views_passed() -> None:
    verdict = parse_verdict(make_part(1, "top", "left"), "part/body", "press-3")
    assert (verdict.camera, verdict.passed) == ("part/body", True)


@pytest.mark.parametrize(
    "views",
    [
        [],
        [{}],
        "top",
        make_part(1, "top")["views"],
        make_part(1, "top", "top")["views"],
        *([*make_part(1, "top", "left")["views"], make_part(1, "right")["views"][0] | change]
          for change in ({"verdict": "FAIL", "reason": "DEFECT"}, {"verdict": None, "reason": None, "seq": None},
                         {"verdict": "ERROR"}, {"seq": 0}, {"reason": "DEADLINE"}, {"camera": "top"})),
    ],
    ids=str,
)  # fmt: skip
def test_pass_of_a_part_is_malformed_when_a_view_is_missing_doubled_or_no_pass(views: Any) -> None:
    with pytest.raises(MalformedError, match=r"^views: must be PASS of two or more cameras for a PASS of a part"):
        parse_verdict(make_part() | {"views": views}, "part/body", "press-3")
    no_pass = {"verdict": "ERROR", "reason": "VIEW_MISSING", "reason_code": 14}
    assert not parse_verdict(make_part() | {"views": views} | no_pass, "part/body", "press-3").passed


def test_pass_of_a_frame_that_has_views_is_malformed() -> None:
    with pytest.raises(MalformedError, match=r"^views: must be"):
        parse_verdict(make_result(1, views=make_part(1, "top", "left")["views"]), "top", "press-3")


def test_part_passes_only_with_the_cameras_that_the_status_names(station: Station, subscriber: Subscriber) -> None:
    parts = {"body": {"cameras": ["top", "left", "right"]}}
    station.status(parts=parts)
    station.publish(make_part(1, "right", "top", "left"), make_part(2, "top", "left"))
    station.send("result/part/body", make_part(3, "right", "top", "left"))  # no topic of a part
    station.publish(make_part(1, "top", "left") | {"camera": "part/door"})
    verdicts = [next_verdict(subscriber) for _ in range(3)]
    assert [(each.camera, each.seq, each.passed) for each in verdicts] == [
        ("part/body", 1, True), ("part/body", 2, False), ("part/door", 1, False),
    ]  # fmt: skip
    expected = "the station says its cameras are ['left', 'right', 'top'], not ['top', 'left']"
    assert verdicts[1].doubt == expected


@pytest.mark.parametrize("parts", [7, {"body": None}, {"body": {}}, {"body": {"cameras": "top"}},
                                   {"body": {"cameras": [1]}}], ids=str)  # fmt: skip
def test_status_whose_parts_are_none_is_malformed(station: Station, parts: Any) -> None:
    with pytest.raises(MalformedError):
        parse_status(station.build_status(parts=parts))


def test_part_is_heard_alone_when_it_alone_is_wanted(station: Station) -> None:
    with Subscriber(station.results, station="press-3", cameras=["part/body"], heartbeat_s=5.0) as subscriber:
        station.join(2)
        station.settle(subscriber, parts={"body": {"cameras": ["top", "left"]}})
        station.publish(
            make_result(1),
            make_part(1, "top", "left") | {"camera": "part/body2"},
            make_part(1, "top", "left", part_id="p7"),
        )
        assert subscriber.wait_for("part/body", part_id="p7", timeout_s=WAIT_S).passed
        station.status(parts={"body": {"cameras": ["top", "left"]}})
        assert subscriber.malformed == 0
