"""Live pictures: the newest frame, as often and as long as somebody asked for, and nothing that waits or judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.journal.events import Kind
from inspector.service.orders import live as module
from inspector.service.orders.live import Live
from inspector.service.orders.snapshots import Snapshots
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat

MakeFrame = Callable[..., Frame]


class Desk:
    """Live pictures of `top` and `side` by a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.noted: list[Any] = []
        self.renewed: list[str] = []
        self.snapshots = Snapshots(("top", "side"), lambda camera, last: self.renewed.append(camera))
        self.live = Live(
            {"top": None, "side": None}, self.snapshots, station="press-3",
            note=lambda *what, **details: self.noted.append((*what, details)),
        )  # fmt: skip
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def ask(self, **fields: Any) -> dict[str, Any]:
        return self.live.answer({"camera": "top"} | fields, "anna")

    def take(self) -> str | None:
        """Frame of the picture that is due."""
        picture = self.live.take_due()
        return None if picture is None else str(picture.message["frame_id"])


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_picture_is_the_newest_frame_reduced_and_says_nothing_of_a_verdict(desk: Desk) -> None:
    assert desk.ask(rate_hz=4, seconds=10, width=320) == {
        "camera": "top", "rate_hz": 4.0, "seconds": 10.0, "width": 320,
    }  # fmt: skip
    assert desk.noted == [(Kind.CAMERA, "live", "anna", "top", {"rate_hz": 4.0, "seconds": 10.0})]
    pixels = np.full((100, 640, 3), 128, np.uint8)
    desk.snapshots.note(build_frame("top", "f1", pixels, PixelFormat.RGB8, captured_utc_ns=7))
    picture = desk.live.take_due()
    assert picture is not None
    assert picture.camera == "top"
    assert cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (50, 320, 3)
    assert picture.message.pop("received_utc_ns") > 0
    assert picture.message == {
        "schema": 1, "station": "press-3", "camera": "top", "frame_id": "f1", "captured_utc_ns": 7, "left_s": 10.0,
    }  # fmt: skip


def test_frames_between_two_pictures_are_not_shown_and_none_is_shown_twice(desk: Desk, make_frame: MakeFrame) -> None:
    assert desk.take() is None  # nobody asked
    desk.ask(rate_hz=5, seconds=1)
    assert desk.take() is None  # no frame yet
    desk.now += 0.25
    for name in ("f1", "f2", "f3"):
        desk.snapshots.note(make_frame(name))
    assert desk.take() == "f3"
    desk.snapshots.note(make_frame("f4"))
    assert desk.take() is None  # too early
    assert desk.live.choose_wait_s() == pytest.approx(0.2)
    desk.now += 0.2
    assert desk.take() == "f4"
    desk.now += 0.2
    assert desk.take() is None  # the same frame


def test_pictures_end_by_themselves_and_the_last_request_counts(desk: Desk, make_frame: MakeFrame) -> None:
    desk.ask(rate_hz=5, seconds=600)
    desk.ask(rate_hz=5, seconds=1)
    desk.snapshots.note(make_frame("f1"))
    desk.now += 1.01
    assert desk.take() is None
    assert desk.live.choose_wait_s() == 0.2


def test_cameras_take_turns(desk: Desk, make_frame: MakeFrame) -> None:
    for camera in ("top", "side"):
        desk.ask(camera=camera, rate_hz=5)
        desk.snapshots.note(make_frame(f"{camera}-1", camera))
    assert {desk.take(), desk.take()} == {"top-1", "side-1"}
    assert desk.take() is None


def test_camera_is_asked_for_a_new_frame_once_for_each_picture_and_while_somebody_looks(desk: Desk) -> None:
    assert desk.take() is None
    desk.ask(rate_hz=5, seconds=0.3)
    for _ in range(10):
        desk.take()
        desk.now += 0.05
    assert desk.renewed == ["top", "top"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"camera": "rear"}, r"camera: must be one of \['top', 'side'\], got 'rear'"),
        ({"rate_hz": 5.1}, "rate_hz: must be a number above 0, up to 5, got 5.1"),
        ({"rate_hz": 0}, "rate_hz: must be"),
        ({"rate_hz": True}, "rate_hz: must be"),
        ({"rate_hz": float("nan")}, "rate_hz: must be"),
        ({"seconds": 601}, "seconds: must be a number above 0, up to 600, got 601"),
        ({"seconds": "60"}, "seconds: must be"),
        ({"width": 15}, "width: must be a whole number from 16 to 8192, got 15"),
    ],
)
def test_request_that_breaks_a_rule_shows_nothing(desk: Desk, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        desk.ask(**fields)
    assert desk.noted == []
