"""Parts that were answered NO_ANSWER are remembered for good, in memory that does not grow."""

from __future__ import annotations

import pytest

from inspector.client.finals import Finals, Ids


def test_id_is_final_for_its_camera_and_its_kind_alone() -> None:
    finals = Finals()
    assert not finals.holds("top", ("a", "b", "c"))
    finals.close("top", ("a", None, "c"))
    for ids, is_final in [(("a", None, None), True), ((None, None, "c"), True), (("c", "a", "a"), False)]:
        assert finals.holds("top", ids) is is_final
    assert not finals.holds("side", ("a", None, "c"))


def test_no_id_is_forgotten_after_a_hundred_thousand_others_and_hardly_any_is_taken_for_one() -> None:
    finals = Finals()
    for number in range(100_000):
        finals.close("top", (None, None, f"t{number}"))
    assert all(finals.holds("top", (None, None, f"t{number}")) for number in range(0, 100_000, 1000))
    assert sum(finals.holds("top", (None, None, f"u{number}")) for number in range(10_000)) == 0
    assert len(finals._bits) == 4 << 20


@pytest.mark.parametrize("order", ["before", "after"])
def test_ids_that_verdicts_tie_are_final_together(order: str) -> None:
    finals = Finals()
    ties: list[Ids] = [("f1", "p", "t1"), ("f2", "p", "t2"), ("f3", "q", "t2"), ("f4", "r", "t4")]
    if order == "after":
        finals.close("top", (None, None, "t1"))
    for ids in ties:
        finals.tie("top", ids)
    if order == "before":
        finals.close("top", (None, None, "t1"))
    assert all(finals.holds("top", (None, part, None)) for part in ("p", "q"))
    assert not finals.holds("top", (None, "r", None))
    assert not finals.holds("side", (None, "p", None))


@pytest.mark.parametrize("odd", ["\ud800", "", "'", "a\0b", "é" * 256])
def test_any_text_is_an_id(odd: str) -> None:
    finals = Finals()
    finals.close("top", (odd, None, None))
    assert finals.holds("top", (odd, None, None))
    assert not finals.holds("top", (odd + "x", None, None))
