"""Whose a frame may be that no trigger waits for."""

from __future__ import annotations

import pytest

from inspector.service.orders.matching import Trigger, refuse_frame
from inspector.sources.base import build_frame
from inspector.types import PixelFormat

TOLD, LAST = 1000, 2000
TRIGGER = Trigger("top", "t1", "p1", 1, TOLD, LAST, 7)


@pytest.mark.parametrize(
    ("trigger_id", "captured_utc_ns", "number"),
    [
        ("t1", TOLD, 7),
        ("t1", LAST + 1, 7),
        ("t1", TOLD - 1, None),
        ("t1", 0, 7),
        (None, TOLD, 7),
        (None, LAST, 7),
        (None, LAST + 1, None),
        (None, TOLD - 1, None),
        (None, 0, 7),
    ],
)
def test_refused_frame_is_one_too_many_of_its_trigger_where_its_time_does_not_speak_against_it(
    trigger_id: str | None, captured_utc_ns: int, number: int | None
) -> None:
    ids = {"trigger_id": trigger_id, "captured_utc_ns": captured_utc_ns}
    match = refuse_frame(build_frame("top", "f2", None, PixelFormat.MONO8, **ids), [None, TRIGGER])
    assert (match.surplus_of, match.number, match.frame.trigger_id) == (number, None, None)
    assert match.refusal


def test_frame_of_a_trigger_that_nobody_told_is_of_no_part() -> None:
    match = refuse_frame(build_frame("top", "f2", None, PixelFormat.MONO8, trigger_id="t9"), [None, None])
    assert (match.surplus_of, match.frame.trigger_id) == (None, None)
