"""A trigger is opened or clearly refused; a frame is its trigger's, its own, or refused: never guessed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inspector.config import Camera, Station
from inspector.journal.writer import OpenFrame
from inspector.service.flow.ledger import Ledger, Ticket, enter, expire
from inspector.service.orders import triggers as module
from inspector.service.orders.arrivals import Attached
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Parts
from inspector.service.orders.triggers import Triggers
from inspector.types import Frame, Reason, Verdict

MakeFrame = Callable[..., Frame]
NO_PARTS = Parts([], lambda group, view: 0)
CAMERAS = {
    "top": Camera(triggers="software", deadline_ms=3000),
    "side": Camera(triggers="hardware", deadline_ms=3000),
}


class Desk:
    """Triggers over a ledger; what is fired and what is put on record is kept."""

    def __init__(self, ledger: Ledger, offline: Offline) -> None:
        self.ledger = ledger
        self.fired: list[tuple[str, Mapping[str, Any], int]] = []
        self.recorded: list[tuple[int, str]] = []
        self.judged: list[Ticket] = []  # those that waited for their announcement
        self.away: set[str] = set()  # cameras that are not connected
        self.is_durable = True
        self.never_durable = ""  # a camera
        self.unseen = ""  # a camera whose view its part refuses
        self.triggers = Triggers(
            CAMERAS, ledger, station="press-3", offline=offline, open_ticket=self._open,
            attach=self._attach, fire=lambda *told: self.fired.append(told),
            is_connected=lambda camera: camera not in self.away,
        )  # fmt: skip

    def _open(self, frame: Frame, timeout_ms: int) -> tuple[int, threading.Event]:
        recorded = threading.Event()
        if self.is_durable and frame.camera != self.never_durable:
            recorded.set()
        return self.ledger.await_frame(frame, timeout_ms, self._record).number, recorded

    def _attach(self, number: int, trigger_id: str, part_id: str | None) -> Attached | None:
        ticket = self.ledger.attach(number, trigger_id, part_id, self._record)
        if ticket is None:
            return None
        recorded = threading.Event()
        if self.is_durable:
            recorded.set()
        return Attached(recorded, lambda: self.judged.append(ticket))

    def _record(self, ticket: Ticket) -> None:
        if ticket.frame.camera == self.unseen:
            raise ValueError("part body 'p1' is answered already")
        self.recorded.append((ticket.number, ticket.frame.frame_id))

    def fire(self, trigger_id: str = "t1", **fields: Any) -> dict[str, Any]:
        return self.triggers.answer_trigger({"camera": "top", "trigger_id": trigger_id} | fields, "plc")

    def announce(self, trigger_id: str = "t1", **fields: Any) -> dict[str, Any]:
        return self.triggers.answer_announce({"camera": "side", "trigger_id": trigger_id} | fields, "plc")

    def enter(self, frame: Frame) -> tuple[Ticket, str | None]:
        ticket, refusal = enter(self.ledger, self.triggers, NO_PARTS, frame, self._record)
        assert refusal is None or refusal.reason is Reason.TRIGGER_MISMATCH
        return ticket, refusal and refusal.why

    def answer(self, ticket: Ticket, verdict: Verdict = Verdict.PASS, reason: Reason = Reason.OK) -> None:
        assert self.ledger.claim(ticket)
        self.ledger.close(ticket, verdict, reason)
        assert self.ledger.account().balances


@pytest.fixture
def desk(ledger: Ledger, offline: Offline) -> Desk:
    return Desk(ledger, offline)


# ---------------------------------------------------------------- requests


def test_camera_is_fired_once_the_trigger_is_on_record(desk: Desk) -> None:
    before = time.time_ns()
    assert desk.fire("t1", part_id="p1", timeout_ms=500) == {"camera": "top", "trigger_id": "t1", "timeout_ms": 500}
    assert desk.recorded == [(1, "trigger-t1")]
    ((camera, message, until_ns),) = desk.fired
    assert camera == "top"
    assert before <= message["told_utc_ns"] <= time.time_ns()
    assert {**message, "told_utc_ns": 0} == {
        "schema": 1, "station": "press-3", "camera": "top", "trigger_id": "t1", "part_id": "p1", "timeout_ms": 500,
        "told_utc_ns": 0,
    }  # fmt: skip
    (ticket,) = desk.ledger.open_tickets()
    assert ticket.awaits_frame
    assert until_ns == ticket.deadline_monotonic_ns == ticket.frame.received_monotonic_ns + 500_000_000
    assert desk.announce("t2")["timeout_ms"] == 3000  # the camera's deadline
    assert len(desk.fired) == 1


def test_camera_is_not_fired_when_the_trigger_is_not_on_record(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 0.0)
    desk.is_durable = False
    with pytest.raises(ValueError, match="not on record"):
        desk.fire()
    assert desk.fired == []
    assert len(desk.ledger.open_tickets()) == 1  # and is answered


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"camera": "rear"}, r"camera: must be one of \['top', 'side'\], or a list of such, got 'rear'"),
        ({"camera": [["top"]]}, r"camera: must be one of .* got \['top'\]"),
        ({"camera": []}, r"camera: a list must name at least one camera, and none twice, got \[\]"),
        ({"camera": ["top", "top"]}, "camera: a list must name at least one camera, and none twice"),
        ({"camera": "side"}, r"cameras.side.triggers must be software in the station file, is hardware"),
        ({"trigger_id": ""}, "trigger_id: must be text of 1 to 256 characters, or a whole number, got ''"),
        ({"trigger_id": None}, "trigger_id: must be text"),
        ({"part_id": 1.5}, "part_id: must be text"),
        ({"timeout_ms": 0}, "timeout_ms: must be a whole number from 1 to 600000, got 0"),
        ({"timeout_ms": True}, "timeout_ms: must be"),
    ],
)
def test_request_that_breaks_a_rule_opens_nothing(desk: Desk, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        desk.fire(**fields)
    assert desk.ledger.open_tickets() == []


def test_timeout_is_by_default_the_deadline_in_force_and_bounded(
    desk: Desk, make_station: Callable[..., Station]
) -> None:
    for number, (deadline_ms, timeout_ms) in enumerate(((700, 700), (10**7, 600_000))):
        cameras = {"top": {"triggers": "software", "deadline_ms": deadline_ms}}
        desk.triggers.reconfigure(make_station(cameras=cameras))
        assert desk.fire(f"t{number}")["timeout_ms"] == timeout_ms


def test_id_is_refused_while_its_trigger_is_open_and_free_afterwards(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    with pytest.raises(ValueError, match="trigger_id: 't1' of camera top is open already"):
        desk.fire("t1")
    ticket, _ = desk.enter(make_frame("f1", trigger_id="t1"))
    with pytest.raises(ValueError, match="is open already"):
        desk.fire("t1")
    desk.answer(ticket)
    desk.fire("t1")
    assert desk.ledger.account().triggers["top"] == 2


def test_offline_camera_takes_no_trigger(desk: Desk, offline: Offline) -> None:
    offline.answer_offline({"camera": "top"}, "anna")
    with pytest.raises(ValueError, match="camera top: offline, takes no triggers"):
        desk.fire()
    desk.announce()


def test_no_trigger_is_opened_when_the_station_stops_or_too_many_are_open(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_OPEN", 2)
    desk.fire("t1")
    desk.fire("t2")
    with pytest.raises(ValueError, match="at most 2 triggers may be open"):
        desk.fire("t3")
    desk.triggers.close()
    with pytest.raises(ValueError, match="SHUTDOWN"):
        desk.announce()


def test_second_announcement_is_refused_while_the_first_waits_for_its_frame(desk: Desk, make_frame: MakeFrame) -> None:
    desk.announce("t1")
    with pytest.raises(ValueError, match="trigger 't1' still waits for its frame"):
        desk.announce("t2")
    desk.enter(make_frame("f1", "side", captured_utc_ns=time.time_ns()))
    desk.announce("t2")


# ---------------------------------------------------------------- groups


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both cameras are fired by software."""
    monkeypatch.setitem(CAMERAS, "side", Camera(triggers="software", deadline_ms=5000))


@pytest.mark.usefixtures("group")
def test_group_is_fired_by_one_request_and_each_camera_owes_one_verdict(desk: Desk, make_frame: MakeFrame) -> None:
    answer = desk.fire("t1", camera=["top", "side"], part_id="p1")
    assert answer == {"camera": ["top", "side"], "trigger_id": "t1", "timeout_ms": 5000}  # the longest
    assert desk.recorded == [(1, "trigger-t1"), (2, "trigger-t1")]
    assert [(camera, message["camera"], message["timeout_ms"]) for camera, message, _ in desk.fired] == [
        ("top", "top", 3000), ("side", "side", 5000),
    ]  # fmt: skip
    side, _ = desk.enter(make_frame("f1", "side", trigger_id="t1"))
    top, _ = desk.enter(make_frame("f2", "top", trigger_id="t1"))
    assert [(each.number, each.frame.camera, each.frame.part_id) for each in (side, top)] == [
        (2, "side", "p1"), (1, "top", "p1"),
    ]  # fmt: skip
    desk.answer(side)
    desk.answer(top, Verdict.ERROR, Reason.DEADLINE)
    assert desk.ledger.account().trigger_results == {("top", Verdict.ERROR): 1, ("side", Verdict.PASS): 1}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("cause", ["offline", "open", "kind", "unknown", "full", "away"])
def test_group_is_refused_whole_when_its_last_camera_cannot_be_fired(
    desk: Desk, offline: Offline, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    names = ["top", "rear" if cause == "unknown" else "side"]
    if cause == "offline":
        offline.answer_offline({"camera": "side"}, "anna")
    if cause == "away":
        desk.away = {"side"}
    if cause == "kind":
        monkeypatch.setitem(CAMERAS, "side", Camera(triggers="hardware"))
    if cause == "full":
        monkeypatch.setattr(module, "_MAX_OPEN", 1)
    if cause in {"open", "full"}:
        desk.fire("t1" if cause == "open" else "t0", camera="side")
    before = len(desk.fired), desk.ledger.open_tickets()
    expected = {"offline": "side: offline", "open": "camera side is open", "kind": "cameras.side.triggers must be",
                "unknown": "got 'rear'", "full": "camera side: at most 1",
                "away": "camera side: its source is not"}  # fmt: skip
    with pytest.raises(ValueError, match=expected[cause]):
        desk.fire("t1", camera=names)
    assert (len(desk.fired), desk.ledger.open_tickets()) == before


@pytest.mark.usefixtures("group")
def test_no_camera_of_a_group_is_fired_when_one_is_not_on_record(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 0.0)
    monkeypatch.setattr(desk, "never_durable", "side")
    with pytest.raises(ValueError, match="not on record"):
        desk.fire("t1", camera=["top", "side"])
    assert desk.fired == []
    assert len(desk.ledger.open_tickets()) == 2  # and each is answered


@pytest.mark.usefixtures("group")
def test_no_camera_of_a_group_is_fired_when_its_part_refuses_a_later_one_and_what_is_open_is_told(desk: Desk) -> None:
    desk.unseen = "side"
    with pytest.raises(ValueError, match="camera side: part body 'p1' is answered already; no camera is fired, top"):
        desk.fire("t1", camera=["top", "side"])
    assert desk.fired == []
    (ticket,) = desk.ledger.open_tickets()  # which ends NO_FRAME
    assert (ticket.frame.camera, ticket.awaits_frame) == ("top", True)
    desk.unseen = "top"
    with pytest.raises(ValueError, match=r"^part body 'p1' is answered already$"):
        desk.fire("t2", camera=["top", "side"])
    assert len(desk.ledger.open_tickets()) == 1


def test_group_is_announced_as_one_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAMERAS, "top", Camera(triggers="hardware"))
    desk.announce("t1", camera="side")
    with pytest.raises(ValueError, match="camera side: trigger 't1' still waits"):
        desk.announce("t2", camera=["top", "side"])
    assert len(desk.ledger.open_tickets()) == 1
    desk.answer(desk.ledger.open_tickets()[0], Verdict.ERROR, Reason.NO_FRAME)
    desk.announce("t2", camera=["top", "side"])
    assert [each.frame.camera for each in desk.ledger.open_tickets()] == ["top", "side"]


# ---------------------------------------------------------------- frames


def test_frame_takes_its_triggers_place_and_ids(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1", part_id="p1")
    desk.fire("t2")
    first, why = desk.enter(make_frame("f1", trigger_id="t2", part_id="p2"))
    second, _ = desk.enter(make_frame("f2", trigger_id="t1"))
    assert why is None
    assert (first.number, first.frame.part_id, first.frame.trigger_id) == (2, "p2", "t2")
    assert (second.number, second.frame.part_id, second.frame.frame_id) == (1, "p1", "f2")
    assert second.deadline_ms == 60_000  # the ledger's: the frame's own, no more the trigger's
    assert desk.recorded == [(1, "trigger-t1"), (2, "trigger-t2"), (2, "f1"), (1, "f2")]
    assert desk.ledger.open_bytes == 20
    desk.answer(first)
    desk.answer(second, Verdict.FAIL, Reason.DEFECT)
    account = desk.ledger.account()
    assert (account.received["top"], account.triggers["top"], account.triggers_open["top"]) == (2, 2, 0)
    assert account.trigger_results == {("top", Verdict.PASS): 1, ("top", Verdict.FAIL): 1}


@pytest.mark.parametrize("what", ["never told", "twice", "late", "about to be answered"])
def test_frame_of_a_trigger_that_is_not_open_is_refused_without_its_id(
    desk: Desk, make_frame: MakeFrame, what: str
) -> None:
    if what != "never told":
        desk.fire("t1")
    if what == "twice":
        desk.enter(make_frame("f0", trigger_id="t1"))
    if what == "late":
        desk.answer(desk.ledger.open_tickets()[0], Verdict.ERROR, Reason.NO_FRAME)
    if what == "about to be answered":
        assert desk.ledger.claim(desk.ledger.open_tickets()[0])
    ticket, why = desk.enter(make_frame("f1", trigger_id="t1"))
    assert why == "trigger 't1' is not open: never told, answered already, or it has its frame"
    assert (ticket.frame.frame_id, ticket.frame.trigger_id, ticket.of_trigger) == ("f1", None, False)


def test_trigger_is_answered_between_the_look_and_the_frame(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    frame = make_frame("f1", trigger_id="t1")
    match = desk.triggers.match(frame)
    assert match.number == 1
    desk.answer(desk.ledger.open_tickets()[0], Verdict.ERROR, Reason.NO_FRAME)
    assert desk.ledger.fill(1, match.frame) is None


def test_publisher_cannot_answer_no_frame_once_the_frame_is_there(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    (waiting,) = desk.ledger.open_tickets()
    ticket, _ = desk.enter(make_frame("f1", trigger_id="t1"))
    assert not desk.ledger.claim(waiting)
    assert desk.ledger.claim(ticket)
    assert not desk.ledger.claim(ticket)


def test_frame_of_another_part_answers_its_trigger_with_an_error(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1", part_id="p1")
    ticket, why = desk.enter(make_frame("f1", trigger_id="t1", part_id="p2"))
    assert why == "part_id: must be the trigger's, 'p1', got 'p2'"
    assert (ticket.number, ticket.frame.part_id, ticket.frame.trigger_id) == (1, "p1", "t1")


def test_frame_without_id_of_a_camera_fired_by_software_is_its_own(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    ticket, why = desk.enter(make_frame("f1"))
    assert (ticket.number, ticket.of_trigger, why) == (2, False, None)


def test_frame_of_a_camera_without_triggers_keeps_whatever_id_it_has(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CAMERAS, "top", Camera())
    ticket, why = desk.enter(make_frame("f1", trigger_id="any"))
    assert (ticket.frame.trigger_id, ticket.of_trigger, why) == ("any", False, None)


def test_announced_frame_is_told_by_the_one_open_announcement_and_its_time(desk: Desk, make_frame: MakeFrame) -> None:
    desk.announce("t1")
    old = make_frame("old", "side", captured_utc_ns=desk.ledger.open_tickets()[0].frame.received_utc_ns - 1)
    assert desk.enter(old)[1] == "captured before trigger 't1' was told"
    undated = "whose trigger it is cannot be told: no trigger_id, and no captured_utc_ns"
    assert desk.enter(make_frame("undated", "side"))[1] == undated
    ticket, why = desk.enter(make_frame("f1", "side", captured_utc_ns=time.time_ns() + 1))
    assert (ticket.frame.frame_id, ticket.frame.trigger_id, why) == ("f1", "t1", None)
    again, why = desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns() + 1))
    assert (again.of_trigger, why) == (False, "no trigger is announced that waits for a frame")


@pytest.mark.parametrize("camera", ["top", "side"])
def test_frame_that_comes_after_its_triggers_time_is_refused_though_nobody_has_noticed_yet(
    desk: Desk, make_frame: MakeFrame, camera: str
) -> None:
    (desk.fire if camera == "top" else desk.announce)("t1", timeout_ms=50)
    (waiting,) = desk.ledger.open_tickets()
    ids = {"trigger_id": "t1"} if camera == "top" else {"captured_utc_ns": time.time_ns() + 1}
    ticket, why = desk.enter(make_frame("f1", camera, age_s=-1, **ids))
    assert why is not None
    assert (ticket.of_trigger, ticket.frame.trigger_id) == (False, None)
    assert desk.ledger.claim(waiting)  # NO_FRAME


def test_frame_captured_after_the_time_of_an_announcement_is_not_its_own(desk: Desk, make_frame: MakeFrame) -> None:
    desk.announce("t1", timeout_ms=500)
    told = desk.ledger.open_tickets()[0].frame.received_utc_ns
    late = make_frame("late", "side", captured_utc_ns=told + 500_000_001)
    assert desk.enter(late)[1] == "captured after the time of trigger 't1' was over"
    assert desk.enter(make_frame("f1", "side", captured_utc_ns=told + 500_000_000))[1] is None


# ---------------------------------------------------------------- announced after the signal


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of `side` wait for their announcement."""
    monkeypatch.setitem(CAMERAS, "side", Camera(triggers="hardware", deadline_ms=3000, announce_within_ms=500))


@pytest.mark.usefixtures("late")
def test_frame_that_waits_is_judged_once_its_trigger_is_announced(desk: Desk, make_frame: MakeFrame) -> None:
    given = time.time_ns()
    waiting, why = desk.enter(make_frame("f1", "side", part_id="p1", captured_utc_ns=given + 5))
    assert (waiting.awaits_trigger, waiting.deadline_ms, why) == (True, 500, None)
    answer = desk.announce("t1", given_utc_ns=given, timeout_ms=100)
    assert answer == {"camera": "side", "trigger_id": "t1", "timeout_ms": 100}
    (ticket,) = desk.judged
    assert (ticket.number, ticket.frame.frame_id, ticket.frame.trigger_id, ticket.frame.part_id) == (
        1,
        "f1",
        "t1",
        "p1",
    )
    assert ticket.deadline_monotonic_ns == ticket.frame.received_monotonic_ns + 60_000_000_000  # its camera's
    assert desk.recorded == [(1, "f1"), (1, "f1")]
    assert not desk.ledger.claim(waiting)  # what gave it up comes too late
    with pytest.raises(ValueError, match="trigger_id: 't1' of camera side is open already"):
        desk.announce("t1", given_utc_ns=given)
    desk.answer(ticket)
    account = desk.ledger.account()
    assert (account.received["side"], account.triggers["side"]) == (1, 1)
    assert account.trigger_results == {("side", Verdict.PASS): 1}


@pytest.mark.usefixtures("late")
def test_frame_that_nobody_announces_is_answered_trigger_mismatch(desk: Desk, make_frame: MakeFrame) -> None:
    desk.enter(make_frame("f1", "side", captured_utc_ns=time.time_ns()))
    (ticket,) = desk.ledger.expired(time.monotonic_ns() + 500_000_000)
    outcome = expire(ticket)
    assert (outcome.verdict, outcome.reason) == (Verdict.ERROR, Reason.TRIGGER_MISMATCH)
    assert outcome.message == "no trigger of this frame was announced within 500 ms"


@pytest.mark.usefixtures("late")
def test_late_announcement_takes_the_frame_of_its_window_and_no_other(desk: Desk, make_frame: MakeFrame) -> None:
    first, second = time.time_ns() - 100_000_000, time.time_ns() - 50_000_000
    for name, given in (("f1", first), ("f2", second)):
        desk.enter(make_frame(name, "side", captured_utc_ns=given + 1_000_000))
    with pytest.raises(ValueError, match=r"2 frames were captured within 500 ms of given_utc_ns, f1, f2: which is"):
        desk.announce("t1", given_utc_ns=first, timeout_ms=500)
    desk.announce("t2", given_utc_ns=second, timeout_ms=40)
    desk.announce("t1", given_utc_ns=first, timeout_ms=40)
    assert [(each.frame.frame_id, each.frame.trigger_id) for each in desk.judged] == [("f2", "t2"), ("f1", "t1")]


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    "what", ["answered", "about to be", "its trigger's", "another part", "no time", "future", "group"]
)
def test_late_announcement_is_refused_and_nothing_is_opened(desk: Desk, make_frame: MakeFrame, what: str) -> None:
    given = time.time_ns() - 1_000_000
    fields: dict[str, Any] = {"given_utc_ns": given, "timeout_ms": 200}
    why = "frame f1 was captured then, and is answered already or has its trigger"
    if what in {"answered", "about to be", "its trigger's", "another part"}:
        ticket, _ = desk.enter(make_frame("f1", "side", part_id="p1", captured_utc_ns=given + 1))
        if what == "answered":
            desk.answer(ticket, Verdict.ERROR, Reason.TRIGGER_MISMATCH)
        if what == "about to be":
            assert desk.ledger.claim(ticket)
        if what == "its trigger's":
            desk.announce("t0", **fields)
        if what == "another part":
            fields["part_id"], why = "p2", "part_id: must be the frame's, 'p1', got 'p2'"
    if what == "no time":
        fields["given_utc_ns"], why = given - 200_000_000, "no frame was captured within timeout_ms of it"
    if what == "future":
        fields["given_utc_ns"], why = time.time_ns() + 10**9, "given_utc_ns: must be past, got .* the clocks differ"
    if what == "group":
        fields["camera"], why = ["side", "top"], "given_utc_ns: must be told of one camera at a time"
    before = desk.ledger.account().triggers
    with pytest.raises(ValueError, match=why):
        desk.announce("t1", **fields)
    assert desk.ledger.account().triggers == before


@pytest.mark.usefixtures("late")
def test_late_announcement_still_waits_for_a_frame_that_is_slower(desk: Desk, make_frame: MakeFrame) -> None:
    given = time.time_ns() - 50_000_000
    answer = desk.announce("t1", given_utc_ns=given, timeout_ms=5000)
    assert 4000 < answer["timeout_ms"] <= 4950  # what is left of it
    next_, _ = desk.enter(make_frame("f2", "side", captured_utc_ns=given + 5_000_000_001))
    assert next_.awaits_trigger  # captured after the time that was asked for
    ticket, why = desk.enter(make_frame("f1", "side", captured_utc_ns=given + 5_000_000_000))
    assert (ticket.frame.trigger_id, ticket.awaits_trigger, why) == ("t1", False, None)


@pytest.mark.usefixtures("late")
def test_frame_waits_when_the_announcement_before_is_answered_as_it_comes(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.announce("t1")
    (waiting,) = desk.ledger.open_tickets()
    looks = iter([True])  # and from then on it is answered
    look = desk.ledger.can_fill
    monkeypatch.setattr(desk.ledger, "can_fill", lambda *args: next(looks, False) and look(*args))
    ticket, why = desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns() + 1))
    assert (ticket.awaits_trigger, ticket.frame.trigger_id, why) == (True, None, None)
    assert desk.ledger.claim(waiting)


@pytest.mark.usefixtures("late")
def test_announcement_of_a_signal_to_come_never_takes_the_frame_that_waits(desk: Desk, make_frame: MakeFrame) -> None:
    desk.enter(make_frame("f1", "side", captured_utc_ns=time.time_ns() - 1))
    desk.announce("t1")
    assert desk.judged == []
    ticket, _ = desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns() + 1))
    assert (ticket.frame.frame_id, ticket.frame.trigger_id) == ("f2", "t1")


@pytest.mark.usefixtures("late")
def test_announcement_that_waits_is_not_forgotten_when_an_earlier_frame_gets_its_own(
    desk: Desk, make_frame: MakeFrame
) -> None:
    given = time.time_ns() - 1_000_000
    desk.enter(make_frame("f1", "side", captured_utc_ns=given + 1))
    desk.announce("t2")
    desk.announce("t1", given_utc_ns=given, timeout_ms=1)
    with pytest.raises(ValueError, match="trigger 't2' still waits for its frame"):
        desk.announce("t3")
    ticket, _ = desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns() + 1))
    assert (ticket.frame.frame_id, ticket.frame.trigger_id) == ("f2", "t2")


@pytest.mark.usefixtures("late")
def test_frame_whose_announcement_is_not_on_record_is_not_judged(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 0.0)
    given = time.time_ns()
    desk.enter(make_frame("f1", "side", captured_utc_ns=given))
    desk.is_durable = False
    with pytest.raises(ValueError, match="not on record"):
        desk.announce("t1", given_utc_ns=given)
    assert desk.judged == []
    (ticket,) = desk.ledger.open_tickets()  # its deadline answers it ERROR
    assert ticket.frame.trigger_id == "t1"


def test_late_announcement_is_refused_when_frames_do_not_wait(desk: Desk, make_frame: MakeFrame) -> None:
    given = time.time_ns()
    ticket, why = desk.enter(make_frame("f1", "side", captured_utc_ns=given))
    assert (ticket.awaits_trigger, why) == (False, "no trigger is announced that waits for a frame")
    with pytest.raises(
        ValueError, match="answered already or has its trigger: announce sooner, or set announce_within_ms"
    ):
        desk.announce("t1", given_utc_ns=given)


def test_late_frame_is_not_taken_for_a_later_trigger_of_the_same_id(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    captured = time.time_ns()
    desk.answer(desk.ledger.open_tickets()[0], Verdict.ERROR, Reason.NO_FRAME)
    desk.fire("t1")
    ticket, why = desk.enter(make_frame("late", trigger_id="t1", captured_utc_ns=captured))
    assert (ticket.of_trigger, why) == (False, "captured before trigger 't1' was told")
    assert desk.enter(make_frame("f1", trigger_id="t1", captured_utc_ns=time.time_ns() + 1))[1] is None


def test_frame_without_time_of_an_id_that_was_used_before_is_refused(desk: Desk, make_frame: MakeFrame) -> None:
    desk.fire("t1")
    desk.answer(desk.ledger.open_tickets()[0], Verdict.ERROR, Reason.NO_FRAME)
    desk.fire("t1")
    ticket, why = desk.enter(make_frame("late", trigger_id="t1"))
    assert why == (
        "whose trigger it is cannot be told: another frame of trigger 't1' may still come, and no captured_utc_ns"
    )
    assert (ticket.of_trigger, ticket.frame.trigger_id) == (False, None)


def test_id_that_an_earlier_run_left_open_is_refused_until_it_is_answered(offline: Offline) -> None:
    left = OpenFrame(4, "top", "trigger-t1", None, "t1", 0, 0, 3000, False)
    desk = Desk(Ledger({"top": 3000, "side": 3000}, [left]), offline)
    desk.triggers.remember("top", [("t1", 4, False)])
    with pytest.raises(ValueError, match=r"^trigger_id: 't1' of camera top is open already$"):
        desk.fire("t1")
    ticket = desk.ledger.adopt(left)
    with pytest.raises(ValueError, match="is open already"):
        desk.fire("t1")
    desk.answer(ticket, Verdict.ERROR, Reason.RESTART)
    desk.fire("t1")
    assert [ticket.number for ticket in desk.ledger.open_tickets()] == [5]


def test_frame_of_a_trigger_of_an_earlier_run_is_not_taken_for_a_later_one_of_the_same_id(
    desk: Desk, make_frame: MakeFrame
) -> None:
    desk.triggers.remember("top", [("t1", 0, True)])
    captured = time.time_ns()
    desk.fire("t1")
    assert desk.enter(make_frame("old", trigger_id="t1", captured_utc_ns=captured))[1] == (
        "captured before trigger 't1' was told"
    )
    assert desk.enter(make_frame("f1", trigger_id="t1", captured_utc_ns=time.time_ns()))[1] is None


def test_frame_of_the_next_signal_is_not_taken_for_an_announcement_that_was_refused(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECORD_S", 0.0)
    desk.is_durable = False
    with pytest.raises(ValueError, match="not on record"):
        desk.announce("t1")
    ticket, why = desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns()))
    assert (ticket.of_trigger, why) == (False, "no trigger is announced that waits for a frame")
    with pytest.raises(ValueError, match="'t1' of camera side is open already"):
        desk.announce("t1")


def test_frame_without_time_is_the_later_triggers_where_the_one_before_of_its_id_had_its_frame(
    desk: Desk, make_frame: MakeFrame
) -> None:
    for number in range(3):  # a PLC that counts in a circle, and a camera program without a clock
        desk.fire("t1")
        ticket, why = desk.enter(make_frame(f"f{number}", trigger_id="t1"))
        assert (ticket.of_trigger, why) == (True, None)
        desk.answer(ticket)


def test_announcement_of_a_group_that_was_refused_takes_no_frame(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CAMERAS, "top", Camera(triggers="hardware", deadline_ms=3000))
    desk.unseen = "top"
    with pytest.raises(ValueError, match="camera top: part body 'p1' is answered already; no camera is fired, side: "):
        desk.announce("t1", camera=["side", "top"])
    ticket, why = desk.enter(make_frame("f1", "side", captured_utc_ns=time.time_ns()))
    assert (ticket.of_trigger, why) == (False, "no trigger is announced that waits for a frame")


def test_announcement_that_waits_is_not_hidden_by_one_that_was_refused(
    desk: Desk, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch, late: None
) -> None:
    given = time.time_ns()
    desk.enter(make_frame("f1", "side", captured_utc_ns=given))
    desk.announce("t2")
    monkeypatch.setattr(module, "_RECORD_S", 0.0)
    desk.is_durable = False
    with pytest.raises(ValueError, match="not on record"):
        desk.announce("t1", given_utc_ns=given)
    assert desk.enter(make_frame("f2", "side", captured_utc_ns=time.time_ns()))[0].frame.trigger_id == "t2"


class Doubts:
    """Parts that are told which triggers had a frame too many."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, int]] = []

    def admit(self, number: int, frame: Frame) -> None:
        pass

    def has_id(self, frame: Frame) -> bool:
        return False

    def note_surplus(self, number: int, own_number: int, frame: Frame) -> None:
        self.noted.append((number, own_number))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("order", ["before", "after"])
def test_frame_that_waits_is_one_too_many_of_the_trigger_in_whose_time_it_was_captured(
    desk: Desk, make_frame: MakeFrame, order: str
) -> None:
    parts: Any = Doubts()
    given = time.time_ns()

    def come(name: str) -> None:
        frame = make_frame(name, "side", captured_utc_ns=time.time_ns())
        enter(desk.ledger, desk.triggers, parts, frame, lambda ticket: None)

    if order == "before":
        desk.announce("t1")
        come("f1")
    else:
        come("f1")
        desk.announce("t1", given_utc_ns=given)
    assert parts.noted == []
    come("f2")
    assert parts.noted == [(1, 2)]
