"""Who still owes whom a verdict."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest

from inspector.config import Camera
from inspector.journal.writer import OpenFrame
from inspector.service.flow.ledger import Account, Ledger, Outcome, Ticket, enter, error_outcome
from inspector.service.orders.offline import Offline
from inspector.service.orders.parts import Group, Parts, Refusal, build_part_frame
from inspector.service.orders.triggers import Triggers
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat, Reason, Verdict

Accept = Callable[..., Ticket]

LEFT_OPEN = OpenFrame(
    number=7,
    camera="top",
    frame_id="f7",
    part_id="p7",
    trigger_id="t7",
    captured_utc_ns=5,
    received_utc_ns=6,
    deadline_ms=2000,
    simulated=True,
)


def test_ledger_balances_and_closes_each_frame_once_when_asked_twice() -> None:
    ledger = Ledger({"a": 50})
    first, second = (ledger.accept(build_frame("a", n, None, PixelFormat.MONO8)) for n in "12")
    ledger.close(first, Verdict.PASS, Reason.OK)
    account = ledger.account()
    assert account.received == {"a": 2}
    assert account.results == {("a", Verdict.PASS, Reason.OK): 1}
    assert account.in_flight == {"a": 1}
    with pytest.raises(KeyError):
        ledger.close(first, Verdict.FAIL, Reason.DEFECT)
    assert ledger.expired(time.monotonic_ns()) == []
    assert ledger.expired(time.monotonic_ns() + 60_000_000) == [second]


def test_account_is_zero_for_every_camera_when_nothing_came() -> None:
    zero = {"a": 0, "b": 0}
    assert Ledger({"a": 1, "b": 1}).account() == Account(zero, {}, zero, triggers=zero, triggers_open=zero)


def test_deadline_counts_from_reception_when_cameras_have_their_own(make_frame: Callable[..., Frame]) -> None:
    ledger = Ledger({"top": 1000, "side": 20})
    top, side = make_frame("t", "top", age_s=5.0), make_frame("s", "side", age_s=5.0)
    assert ledger.accept(top).deadline_monotonic_ns == top.received_monotonic_ns + 1_000_000_000
    assert ledger.accept(side).deadline_monotonic_ns == side.received_monotonic_ns + 20_000_000


def test_tickets_expire_at_their_deadline_oldest_first_when_open(ledger: Ledger, accept: Accept) -> None:
    young, closed, old, older = (accept(n, age_s=age) for n, age in (("1", 0), ("2", 70), ("3", 70), ("4", 80)))
    ledger.close(closed, Verdict.ERROR, Reason.DEADLINE)
    assert ledger.expired(time.monotonic_ns()) == [old, older]
    assert ledger.expired(young.deadline_monotonic_ns - 1) == [old, older]
    assert ledger.expired(young.deadline_monotonic_ns) == [young, old, older]
    assert ledger.open_tickets() == [young, old, older]


def test_ticket_is_open_until_closed_when_two_frames_have_one_name(ledger: Ledger, accept: Accept) -> None:
    first, second = accept("same"), accept("same")
    ledger.close(first, Verdict.FAIL, Reason.DEFECT)
    assert (ledger.is_open(first), ledger.is_open(second)) == (False, True)
    assert ledger.open_tickets() == [second]


def test_account_keeps_cameras_apart_when_both_have_results(ledger: Ledger, accept: Accept) -> None:
    for camera, verdict, reason in (
        ("top", Verdict.PASS, Reason.OK),
        ("top", Verdict.PASS, Reason.OK),
        ("side", Verdict.ERROR, Reason.OVERLOAD),
    ):
        ledger.close(accept("x", camera), verdict, reason)
    accept("open", "side")
    account = ledger.account()
    assert account.received == {"top": 2, "side": 2}
    assert account.results == {("top", Verdict.PASS, Reason.OK): 2, ("side", Verdict.ERROR, Reason.OVERLOAD): 1}
    assert account.in_flight == {"top": 0, "side": 1}


def test_account_is_a_snapshot_when_the_ledger_goes_on(ledger: Ledger, accept: Accept) -> None:
    before = ledger.account()
    ledger.close(accept("x"), Verdict.PASS, Reason.OK)
    assert (before.received["top"], before.results, before.in_flight["top"]) == (0, {}, 0)


def test_each_ticket_is_closed_once_when_threads_race_for_it(ledger: Ledger, accept: Accept) -> None:
    tickets = [accept(f"f{number}") for number in range(300)]
    refused: list[int] = []
    start = threading.Barrier(4)

    def close_all() -> None:
        start.wait(5)
        for ticket in tickets:
            try:
                ledger.close(ticket, Verdict.PASS, Reason.OK)
            except KeyError:
                refused.append(ticket.number)

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(refused) == 3 * 300
    assert ledger.account().results == {("top", Verdict.PASS, Reason.OK): 300}


def test_outcome_is_an_error_and_says_why_when_a_frame_cannot_be_judged(accept: Accept) -> None:
    ticket = accept("x")
    assert error_outcome(ticket, Reason.OVERLOAD, "full") == Outcome(
        ticket, Verdict.ERROR, Reason.OVERLOAD, "full", judgement=None, judge=None, latency_ms={}
    )


# ---------------------------------------------------------------- left open by an earlier run


def test_numbers_go_on_above_those_left_open_when_told_of_them(make_frame: Callable[..., Frame]) -> None:
    ledger = Ledger({"top": 1000}, [LEFT_OPEN])
    assert [ledger.accept(make_frame(name)).number for name in "ab"] == [8, 9]
    assert Ledger({"top": 1000}).accept(make_frame("a")).number == 1


def test_frame_left_open_is_owed_its_verdict_within_its_deadline_when_adopted() -> None:
    ledger = Ledger({"top": 1000}, [LEFT_OPEN])
    assert ledger.is_open_number(LEFT_OPEN.number)
    before = time.monotonic_ns()
    ticket = ledger.adopt(LEFT_OPEN)
    assert (ledger.left_open, ledger.is_open_number(LEFT_OPEN.number)) == ({}, True)
    assert before <= ticket.deadline_monotonic_ns - 2_000_000_000 <= time.monotonic_ns()  # its own, not the camera's
    assert ticket.frame.pixels is None
    assert ticket.frame.nbytes == 0
    assert ledger.is_open(ticket)
    account = ledger.account()
    assert (account.received, account.in_flight, account.balances) == ({"top": 1}, {"top": 1}, True)
    ledger.close(ticket, Verdict.ERROR, Reason.RESTART)
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.RESTART): 1}


def test_record_is_the_one_it_came_from_when_a_frame_was_adopted(ledger: Ledger) -> None:
    assert ledger.adopt(LEFT_OPEN).to_record() == LEFT_OPEN


def test_record_says_all_that_a_restart_needs_when_a_frame_is_accepted(
    ledger: Ledger, make_frame: Callable[..., Frame]
) -> None:
    details = {"part_id": "p1", "trigger_id": "t1", "captured_utc_ns": 5, "received_utc_ns": 6, "simulated": True}
    record = ledger.accept(make_frame("f1", "side", **details)).to_record()
    assert dataclasses.asdict(record) == details | {
        "number": 1,
        "camera": "side",
        "frame_id": "f1",
        "deadline_ms": 60_000,
    }


def test_account_counts_a_camera_that_is_no_more_when_a_frame_of_it_was_left_open(ledger: Ledger) -> None:
    ticket = ledger.adopt(dataclasses.replace(LEFT_OPEN, camera="gone"))
    account = ledger.account()
    assert (account.received["gone"], account.in_flight["gone"], account.balances) == (1, 1, True)
    ledger.close(ticket, Verdict.ERROR, Reason.RESTART)
    account = ledger.account()
    assert (account.received["gone"], account.in_flight["gone"], account.balances) == (1, 0, True)


# ---------------------------------------------------------------- the account


def test_account_balances_when_every_frame_is_answered_or_open(ledger: Ledger, accept: Accept) -> None:
    assert ledger.account().balances
    for verdict, reason in ((Verdict.PASS, Reason.OK), (Verdict.FAIL, Reason.DEFECT), (Verdict.ERROR, Reason.STALE)):
        ledger.close(accept("x"), verdict, reason)
    accept("open", "side")
    assert ledger.account().balances


@pytest.mark.parametrize(
    ("received", "passed", "in_flight"),
    [
        ({"top": 3, "side": 0}, 1, {"top": 1, "side": 0}),  # one vanished
        ({"top": 2, "side": 0}, 2, {"top": 1, "side": 0}),  # one was answered twice
        ({"top": 2, "side": 1}, 1, {"top": 1, "side": 0}),
        ({"top": 3, "side": 1}, 1, {"top": 1, "side": 2}),  # right in sum, wrong for each camera
    ],
)
def test_account_does_not_balance_when_counts_are_wrong(
    received: dict[str, int], passed: int, in_flight: dict[str, int]
) -> None:
    assert not Account(received, {("top", Verdict.PASS, Reason.OK): passed}, in_flight).balances


def test_ticket_is_recorded_before_anyone_can_close_it(ledger: Ledger, make_frame: Callable[..., Frame]) -> None:
    seen: list[tuple[int, bool]] = []
    ticket = ledger.accept(make_frame("f1"), lambda ticket: seen.append((ticket.number, ledger.is_open(ticket))))
    assert seen == [(ticket.number, False)]
    assert ledger.is_open(ticket)


def test_bytes_of_open_frames_are_counted_until_they_are_closed(
    ledger: Ledger, make_frame: Callable[..., Frame]
) -> None:
    first, second = ledger.accept(make_frame("f1", size=10)), ledger.accept(make_frame("f2", "side", size=30))
    assert (ledger.open_bytes, ledger.open_bytes_of) == (40, {"top": 10, "side": 30})
    ledger.close(first, Verdict.PASS, Reason.OK)
    assert (ledger.open_bytes, ledger.open_bytes_of) == (30, {"top": 0, "side": 30})
    ledger.close(second, Verdict.PASS, Reason.OK)
    assert (ledger.open_bytes, ledger.open_bytes_of) == (0, {"top": 0, "side": 0})


HARDWARE = Camera(triggers="hardware", deadline_ms=1000, announce_within_ms=500)


class Intake:
    """Frames of cameras `top` and `side` as they are entered; part `body` is what both see."""

    def __init__(self, ledger: Ledger, triggers: Triggers) -> None:
        self.recorded: list[tuple[int, str]] = []
        self.parts = Parts([Group("body", ("top", "side", "back"), "part_id")], self._open_part)
        self._ledger = ledger
        self._triggers = triggers

    def enter(self, frame: Frame) -> tuple[Ticket, Refusal | None]:
        return enter(self._ledger, self._triggers, self.parts, frame, self._record)

    def _open_part(self, group: Group, view: Frame) -> int:
        return self._ledger.accept(build_part_frame(group, view), self._record).number

    def _record(self, ticket: Ticket) -> None:
        self.recorded.append((ticket.number, ticket.frame.frame_id))


@pytest.fixture
def intake(offline: Offline) -> Intake:
    ledger = Ledger({"top": 1000, "side": 1000, "back": 1000, "part/body": 3000})
    cameras = {"top": Camera(triggers="software"), "side": Camera(), "back": HARDWARE}
    triggers = Triggers(cameras, ledger, station="press-3", offline=offline,
                        open_ticket=lambda *_: (0, threading.Event()), attach=lambda *_: None,
                        fire=lambda *_: None, is_connected=lambda _: True)  # fmt: skip
    return Intake(ledger, triggers)


def test_part_is_owed_a_verdict_and_on_record_before_its_first_view(
    intake: Intake, make_frame: Callable[..., Frame]
) -> None:
    first = make_frame("f1", "top", part_id="p1", age_s=0.5)
    ticket, refusal = intake.enter(first)
    assert refusal is None
    assert intake.enter(make_frame("f2", "side", part_id="p1"))[1] is None
    assert intake.recorded == [(2, "p1"), (1, "f1"), (3, "f2")]
    part, view, _ = intake._ledger.open_tickets()
    assert view is ticket
    assert part.is_of_part
    assert (part.frame.camera, part.frame.pixels, part.frame.part_id) == ("part/body", None, "p1")
    assert part.deadline_monotonic_ns == first.received_monotonic_ns + 3_000_000_000
    account = intake._ledger.account()
    assert account.received == {"top": 1, "side": 1, "back": 0, "part/body": 1}
    assert account.balances


def test_view_whose_trigger_is_told_later_is_its_parts_once_it_is_told(
    intake: Intake, make_frame: Callable[..., Frame]
) -> None:
    waiting, refusal = intake.enter(make_frame("f1", "back", captured_utc_ns=time.time_ns()))
    assert (waiting.awaits_trigger, refusal) == (True, None)  # not NO_PART_ID: it may yet be told
    assert intake._ledger.account().received == {"top": 0, "side": 0, "back": 1, "part/body": 0}

    def admit(ticket: Ticket) -> None:
        assert intake.parts.admit_trigger(ticket.number, ticket.frame, awaits_frame=False) is None

    assert intake._ledger.attach(waiting.number, "t1", "p1", admit) is not None
    assert intake._ledger.account().received == {"top": 0, "side": 0, "back": 1, "part/body": 1}
    assert intake.enter(make_frame("f2", "back", part_id="p1", trigger_id="t1"))[1] == Refusal(
        Reason.TRIGGER_MISMATCH, "trigger 't1' is not open: never told, answered already, or it has its frame"
    )
    (part,) = [ticket for ticket in intake._ledger.open_tickets() if ticket.is_of_part]
    decided = intake.parts.expire(part.number)
    assert decided is not None
    assert (decided.reason, decided.message) == (Reason.VIEW_DOUBLED, "camera back gave two views: 'f1' and 'f2'")


def test_view_that_waits_for_its_trigger_is_its_parts_at_once_where_it_says_which_it_is(
    intake: Intake, make_frame: Callable[..., Frame]
) -> None:
    first, refusal = intake.enter(make_frame("f1", "back", part_id="p1", captured_utc_ns=time.time_ns()))
    assert (first.awaits_trigger, first.deadline_ms, refusal) == (True, 500, None)
    assert intake.recorded == [(2, "p1"), (1, "f1")]
    doubled, refusal = intake.enter(make_frame("f2", "back", part_id="p1", captured_utc_ns=time.time_ns()))
    assert refusal == Refusal(Reason.VIEW_DOUBLED, "camera back gave two views: 'f1' and 'f2'")
    assert not doubled.awaits_trigger
    assert intake._ledger.attach(doubled.number, "t2", None) is None  # nobody can have it judged

    def admit(ticket: Ticket) -> None:
        assert intake.parts.admit_trigger(ticket.number, ticket.frame, awaits_frame=False) is None

    assert intake._ledger.attach(first.number, "t1", None, admit) is not None  # still one view
    assert intake._ledger.account().received == {"top": 0, "side": 0, "back": 2, "part/body": 1}


def test_frame_that_was_answered_before_it_could_wait_stays_answered(
    intake: Intake, make_frame: Callable[..., Frame]
) -> None:
    ticket = intake._ledger.accept(make_frame("f1", "back"))
    assert intake._ledger.claim(ticket)
    assert intake._ledger.await_trigger(ticket, 500) is ticket
    assert not intake._ledger.awaits_trigger(ticket.number)


def test_frame_that_cannot_be_a_view_is_entered_and_says_why(intake: Intake, make_frame: Callable[..., Frame]) -> None:
    intake.enter(make_frame("f1", "side", part_id="p1"))
    refusals = [
        intake.enter(frame)[1]
        for frame in (
            make_frame("f2", "side", part_id="p1"),
            make_frame("f3", "side"),
            make_frame("f4", "top", part_id="p9", trigger_id="never told"),
        )
    ]
    assert [refusal and refusal.reason for refusal in refusals] == [
        Reason.VIEW_DOUBLED, Reason.NO_PART_ID, Reason.TRIGGER_MISMATCH,
    ]  # fmt: skip
    assert intake._ledger.account().received == {"top": 1, "side": 3, "back": 0, "part/body": 2}
