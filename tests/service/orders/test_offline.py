"""While a camera is offline nothing of it passes; it stays so over a restart when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Camera
from inspector.errors import InspectorError
from inspector.journal.events import Kind
from inspector.service.orders.offline import FILE, Offline, read_kept
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Frame

Noted = list[tuple[Any, ...]]
MakeFrame = Callable[..., Frame]


@pytest.fixture
def restart(tmp_path: Path, metrics: Metrics, noted: Noted) -> Callable[[], Offline]:
    """The same station, started again."""

    def restart() -> Offline:
        noted.clear()
        note = lambda *words, **details: noted.append((*words, details))  # noqa: E731
        return Offline({"top": Camera(), "side": Camera()}, tmp_path / FILE, note=note, metrics=metrics)

    return restart


def absent(offline: Offline) -> dict[str, bool]:
    """Whether it is kept, of each camera that is offline."""
    return {name: each["keep"] for name, each in offline.describe()["offline"].items()}


def test_one_camera_or_all_go_offline_and_come_back_and_each_is_on_record(
    offline: Offline, noted: Noted, make_frame: MakeFrame, registry: CollectorRegistry
) -> None:
    before = time.time_ns()
    answer = offline.answer_offline({"camera": "top"}, "anna")
    assert before <= answer["offline"]["top"].pop("since_utc_ns") <= time.time_ns()
    assert answer == {"offline": {"top": {"who": "anna", "keep": False}}}
    assert offline.refuse(make_frame("f1")) == "camera top is offline: anna asked for it"
    assert offline.refuse(make_frame("f1", "side")) is None
    shown = {name: registry.get_sample_value("inspector_camera_offline", {"camera": name}) for name in ("top", "side")}
    assert shown == {"top": 1, "side": 0}
    assert absent(offline) == {"top": False}
    assert list(offline.answer_offline({}, "bert")["offline"]) == ["top", "side"]
    assert offline.describe()["offline"]["top"]["who"] == "anna"  # offline since she asked
    assert offline.answer_online({"camera": None}, "carl") == {"offline": {}}
    assert [(kind, outcome, who, camera) for kind, outcome, who, camera, _ in noted] == [
        (Kind.CAMERA, "offline", "anna", "top"),
        (Kind.CAMERA, "offline", "bert", "side"),
        (Kind.CAMERA, "online", "carl", "top"),
        (Kind.CAMERA, "online", "carl", "side"),
    ]


def test_only_frames_received_after_it_came_back_are_judged(offline: Offline, make_frame: MakeFrame) -> None:
    under_way = make_frame("before")
    offline.answer_offline({}, "anna")
    held = make_frame("while")
    offline.answer_online({}, "anna")
    old = "captured or received before camera top was back online"
    assert [offline.refuse(frame) for frame in (under_way, held, make_frame("after"))] == [old, old, None]


def test_frame_of_a_web_is_not_judged_when_some_of_its_lines_came_before(
    offline: Offline, make_frame: MakeFrame
) -> None:
    offline.answer_offline({}, "anna")
    began = time.monotonic_ns()
    offline.answer_online({}, "anna")
    assert offline.refuse(make_frame("after", began_monotonic_ns=began)) is not None
    assert offline.refuse(make_frame("after", began_monotonic_ns=time.monotonic_ns())) is None


def test_frame_captured_before_it_came_back_is_not_judged_as_long_as_it_may_have_been_held(
    offline: Offline, make_frame: MakeFrame
) -> None:
    offline.answer_offline({}, "anna")
    captured = time.time_ns()
    offline.answer_online({}, "anna")
    frame = make_frame("held", captured_utc_ns=captured)
    assert offline.refuse(frame) is not None
    assert offline.refuse(make_frame("new", captured_utc_ns=time.time_ns() + 1)) is None
    # A minute is the camera's max_age_ms: from then on such a frame is STALE, or its clock is none to go by.
    later = replace(frame, received_monotonic_ns=frame.received_monotonic_ns + 61_000_000_000)
    assert offline.refuse(later) is None


def test_online_of_a_camera_that_is_not_offline_changes_nothing(
    offline: Offline, noted: Noted, make_frame: MakeFrame
) -> None:
    frame = make_frame("f1")
    offline.answer_online({}, "anna")
    assert offline.refuse(frame) is None
    assert noted == []


# ---------------------------------------------------------------- over a restart


def test_camera_stays_offline_over_a_restart_only_when_it_is_to_be_kept(
    offline: Offline, restart: Callable[[], Offline], noted: Noted, make_frame: MakeFrame
) -> None:
    offline.answer_offline({"camera": "top", "keep": True}, "anna")
    offline.answer_offline({"camera": "side"}, "bert")
    assert absent(offline) == {"top": True, "side": False}
    again = restart()
    assert absent(again) == {"top": True}
    assert again.describe()["offline"]["top"] == offline.describe()["offline"]["top"]
    assert noted == [(Kind.CAMERA, "kept", "anna", "top", {})]
    assert again.refuse(make_frame("f1")) is not None
    again.answer_online({"camera": "top"}, "anna")
    assert absent(restart()) == {}


def test_camera_is_kept_until_online_once_a_request_asked_for_it(
    offline: Offline, restart: Callable[[], Offline], noted: Noted
) -> None:
    for keep in ({"keep": False}, {"keep": True}, {"keep": True}, {"keep": False}, {}):
        offline.answer_offline({"camera": "top", **keep}, "anna")
    assert [details for *_, details in noted] == [{"keep": False}, {"keep": True}]
    assert absent(offline) == {"top": True}
    again = restart()
    assert absent(again) == {"top": True}
    again.answer_online({"camera": "top"}, "anna")
    assert absent(restart()) == {}


def test_camera_is_offline_but_the_request_fails_when_it_cannot_be_kept(
    offline: Offline, tmp_path: Path, make_frame: MakeFrame
) -> None:
    (tmp_path / f".{FILE}.new").mkdir()
    with pytest.raises(ValueError, match="offline now, but a restart may not know of it"):
        offline.answer_offline({"camera": "top", "keep": True}, "anna")
    assert offline.refuse(make_frame("f1")) is not None
    assert absent(offline) == {"top": False}


def test_camera_stays_offline_when_the_file_cannot_be_written(
    offline: Offline, tmp_path: Path, make_frame: MakeFrame
) -> None:
    offline.answer_offline({"camera": "top", "keep": True}, "anna")
    (tmp_path / f".{FILE}.new").mkdir()
    with pytest.raises(ValueError, match="still offline"):
        offline.answer_online({"camera": "top"}, "anna")
    assert offline.refuse(make_frame("f1")) is not None


@pytest.mark.parametrize("content", ["", "[]", '{"cameras": {"top": 7}}', '{"cameras": {"top": {"who": "a"}}}', "\xff"])
def test_all_cameras_are_offline_when_the_file_is_damaged_until_somebody_asks(
    tmp_path: Path, restart: Callable[[], Offline], content: str
) -> None:
    (tmp_path / FILE).write_text(content, encoding="latin-1")
    with pytest.raises(InspectorError, match=r"offline\.json: cannot be read"):
        read_kept(tmp_path / FILE)
    damaged = restart()
    assert absent(damaged) == {"top": True, "side": True}
    damaged.answer_online({"camera": "top"}, "anna")
    assert absent(restart()) == {"side": True}


def test_camera_that_the_station_no_longer_has_stays_on_file(
    tmp_path: Path, offline: Offline, metrics: Metrics, restart: Callable[[], Offline]
) -> None:
    offline.answer_offline({"keep": True}, "anna")
    smaller = Offline({"top": Camera()}, tmp_path / FILE, note=lambda *_, **__: None, metrics=metrics)
    assert absent(smaller) == {"top": True}
    smaller.answer_online({}, "anna")
    assert absent(restart()) == {"side": True}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"camera": "rear"}, r"camera: must be one of \['top', 'side'\], or left out for all, got 'rear'"),
        ({"camera": ["top"]}, "camera: must be one of"),
        ({"keep": 1}, "keep: must be true or false, got 1"),
    ],
)
def test_request_that_breaks_a_rule_changes_nothing(offline: Offline, request_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        offline.answer_offline(request_, "anna")
    assert absent(offline) == {}
