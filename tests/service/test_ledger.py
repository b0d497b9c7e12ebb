"""Who still owes whom a verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from inspector.service.ledger import Account, Ledger, Outcome, Ticket, error_outcome
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat, Reason, Verdict

Accept = Callable[..., Ticket]


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
    assert Ledger({"a": 1, "b": 1}).account() == Account({"a": 0, "b": 0}, {}, {"a": 0, "b": 0})


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
        ticket, Verdict.ERROR, Reason.OVERLOAD, "full", judgement=None, latency_ms={}
    )
