"""Ids of triggers are known for so long; an open one is never forgotten."""

from __future__ import annotations

import pytest

from inspector.service.orders import known as module
from inspector.service.orders.known import KnownTriggers
from inspector.service.orders.matching import Trigger


def build_trigger(number: int) -> Trigger:
    return Trigger("top", f"t{number}", None, 1000, 1, 2, number)


def test_the_oldest_that_is_answered_is_forgotten_and_no_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    known = KnownTriggers(lambda number: number == 1)
    for number in range(7):
        known.note(build_trigger(number))
    assert [n for n in range(7) if known.find("top", f"t{n}") is not None] == [1, 4, 5, 6]
    assert known.is_open("top", "t1")
    assert not known.is_open("top", "t6")
    assert not known.is_open("side", "t1")


def test_all_open_ones_are_kept_when_there_are_more_than_may_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    known = KnownTriggers(lambda number: True)
    for number in range(7):
        known.note(build_trigger(number))
    assert all(known.is_open("top", f"t{n}") for n in range(7))


def test_id_of_an_earlier_run_takes_no_frame() -> None:
    known = KnownTriggers(lambda number: number == 4)
    known.remember("top", [("t1", 0, True), ("t2", 4, False)])
    found = [known.find("top", each) for each in ("t1", "t2")]
    assert [(each.has_frame, each.takes_frame) for each in found if each] == [(True, False), (False, False)]
    assert [known.is_open("top", each) for each in ("t1", "t2")] == [False, True]
