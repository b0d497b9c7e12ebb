"""An offline camera that must be fired takes pictures for people: frames of no trigger, which nothing can let pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inspector.config import Camera
from inspector.service.flow.ledger import Ledger, enter
from inspector.service.orders import firing as module
from inspector.service.orders.firing import OfflinePictures
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.orders.snapshots import Snapshots
from inspector.service.orders.triggers import Triggers
from inspector.types import Frame, Reason

CAMERAS = {"top": Camera(triggers="software", deadline_ms=700), "side": Camera(triggers="hardware")}


class Fired(list[tuple[str, Mapping[str, Any], int]]):
    """What cameras were told."""

    def __call__(self, *told: Any) -> None:
        self.append(told)


@pytest.fixture
def fired() -> Fired:
    return Fired()


@pytest.fixture
def pictures(offline: Offline, fired: Fired) -> OfflinePictures:
    return OfflinePictures(CAMERAS, offline, fired, station="press-3")


def test_camera_that_must_be_fired_is_fired_while_it_is_offline_and_no_other(
    pictures: OfflinePictures, offline: Offline, fired: Fired
) -> None:
    pictures.ask("top", None)
    assert fired == []
    offline.answer_offline({}, "anna")
    before_ns = time.monotonic_ns()
    for camera in ("top", "side", "gone"):
        pictures.ask(camera, None)
    ((camera, message, until_ns),) = fired
    assert (camera, message["camera"], message["part_id"], message["timeout_ms"]) == ("top", "top", None, 700)
    assert message["trigger_id"].startswith("picture-")
    assert 0 < until_ns - before_ns < 10**9
    offline.answer_online({}, "anna")
    pictures.ask("top", None)
    assert len(fired) == 1


def test_frame_of_such_a_picture_is_never_judged_and_no_trigger_is_counted(
    pictures: OfflinePictures, offline: Offline, fired: Fired, ledger: Ledger, make_frame: Callable[..., Frame]
) -> None:
    triggers = Triggers(
        CAMERAS, ledger, station="press-3", offline=offline, open_ticket=lambda *_: pytest.fail("opened"),
        attach=lambda *_: None, fire=fired, is_connected=lambda _: True,
    )  # fmt: skip
    offline.answer_offline({}, "anna")
    pictures.ask("top", None)
    frame = make_frame("f1", trigger_id=fired[0][1]["trigger_id"])
    assert offline.refuse(frame)
    offline.answer_online({}, "anna")  # it comes late
    ticket, refusal = enter(ledger, triggers, Parts([], lambda *_: 0), frame, lambda _: None)
    assert refusal is not None
    assert (refusal.reason, ticket.frame.trigger_id, ticket.of_trigger) == (Reason.TRIGGER_MISMATCH, None, False)
    assert ledger.account().triggers["top"] == 0
    assert ledger.account().balances


def test_no_other_picture_is_asked_for_while_one_may_still_come(
    pictures: OfflinePictures, offline: Offline, fired: Fired, make_frame: Callable[..., Frame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    offline.answer_offline({}, "anna")
    now_ns, first = 10**12, make_frame("f1")
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: now_ns)
    for last, after_ms, expected in ((None, 0, 1), (None, 9_999, 1), (None, 1, 2), (first, 0, 3), (first, 1, 3)):
        now_ns += after_ms * 1_000_000
        pictures.ask("top", last)
        assert len(fired) == expected


def test_each_snapshot_asks_for_the_next_picture(
    pictures: OfflinePictures, offline: Offline, fired: Fired, make_frame: Callable[..., Frame]
) -> None:
    snapshots = Snapshots(CAMERAS, pictures.ask)
    offline.answer_offline({}, "anna")
    with pytest.raises(ValueError, match="no frame with pixels has come yet"):
        snapshots.answer({"camera": "top"}, "anna")
    assert len(fired) == 1
    snapshots.note(make_frame("f1"))
    assert snapshots.answer({"camera": "top"}, "anna")["frame_id"] == "f1"
    assert len(fired) == 2
