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


def test_ties_of_ids_that_many_verdicts_share_are_found_by_their_ids_and_not_by_looking_at_all() -> None:
    finals = Finals()
    for number in range(20_000):  # twenty carriers that come round again and again, and a chain of parts
        finals.tie("top", (f"f{number}", f"carrier-{number % 20}", None))
    looked_up: list[object] = []

    class Ties(dict):  # type: ignore[type-arg]
        def get(self, key: object, default: object = None) -> object:
            looked_up.append(key)
            return super().get(key, default)

    finals._tied = Ties(finals._tied)
    finals.close("top", (None, "carrier-3", None))
    assert len(looked_up) == len(set(looked_up)) == 1 + 500  # the carrier and the frames that it still has
    assert finals.holds("top", ("f19983", None, None))
    assert not finals.holds("top", ("f19984", "carrier-4", None))
    assert sum(map(len, finals._tied.values())) == 2 * 10_000


@pytest.mark.parametrize("odd", ["\ud800", "", "'", "a\0b", "é" * 256])
def test_any_text_is_an_id(odd: str) -> None:
    finals = Finals()
    finals.close("top", (odd, None, None))
    assert finals.holds("top", (odd, None, None))
    assert not finals.holds("top", (odd + "x", None, None))
