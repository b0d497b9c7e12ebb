"""Bounds are set from few good frames or many, and the share of good frames they refuse is stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspector.config import EXPECTATIONS, Bound, Preprocessing, Recipe
from inspector.detection.looks import Look, compute_look, find_outside
from inspector.training.expectations import adopt_expectation, count_outside, fit, measure_looks
from inspector.training.thresholds.policy import compute_false_reject_bound
from inspector.types import PixelFormat

NAMES = [name for name in EXPECTATIONS if name not in {"texture", "layout"}]


def build_look(rng: np.random.Generator, heavy: bool) -> Look:
    """A look whose values are normal, or have tails as heavy as Student's t of three degrees of freedom."""
    draw = (lambda size: rng.standard_t(3, size)) if heavy else rng.standard_normal
    values = dict(zip(NAMES, np.abs(100 + 5 * draw(len(NAMES))), strict=True))
    return Look(values, draw(7) * 0.2 + 3, draw(128) * 0.2 + 1)


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("count", [8, 30])
def test_stated_bound_holds_in_nineteen_of_twenty_draws(heavy: bool, count: int) -> None:
    rng = np.random.default_rng(count)
    broken, draws = 0, 60
    for _ in range(draws):
        looks = [build_look(rng, heavy) for _ in range(count)]
        stated = compute_false_reject_bound(count_outside(looks), count)
        bounds, references = fit(looks)
        others = [build_look(rng, heavy) for _ in range(150)]
        broken += np.mean([bool(find_outside(bounds, references.measure(look))) for look in others]) > stated
    # 5 % of 60 are 3; more than 7 would come once in a hundred tries if the bound held no better than it says.
    assert broken <= 7


def test_margin_shrinks_when_frames_are_more() -> None:
    looks = [build_look(np.random.default_rng(0), heavy=False)]
    looks += [
        Look({name: value + 10 for name, value in looks[0].statistics.items()}, looks[0].texture, looks[0].layout)
    ]
    few, many = (fit(looks * count)[0]["red"].high for count in (2, 50))
    assert few is not None
    assert many is not None
    highest = looks[1].statistics["red"]
    assert few - highest == pytest.approx(5 * (1 + 12 / 4), abs=0.1)
    assert many - highest == pytest.approx(5 * (1 + 12 / 100), abs=0.1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_frames_that_are_all_alike_leave_room_for_light_that_drifts(count: int) -> None:
    frame = np.random.default_rng(0).integers(90, 110, (64, 96, 3), dtype=np.uint8)
    bounds, references = fit([compute_look(frame, PixelFormat.RGB8)] * count)
    for factor in (0.95, 1.05):
        look = compute_look((frame * factor).astype(np.uint8), PixelFormat.RGB8)
        assert not find_outside(bounds, references.measure(look))
    dark = compute_look((frame * 0.5).astype(np.uint8), PixelFormat.RGB8)
    assert "brightness" in find_outside(bounds, references.measure(dark))


@pytest.mark.parametrize("sizes", [[(40, 30)] * 2 + [(30, 40)] * 3, [(40, 30), (30, 40)] * 2])
def test_sizes_are_a_list_when_there_were_several_and_each_came_again(
    tmp_path: Path, sizes: list[tuple[int, int]]
) -> None:
    looks = [compute_look(np.full(size, 100, np.uint8), PixelFormat.MONO8) for size in sizes]
    recipe = Recipe(recipe_id="r", backbone="resnet18", weights_sha256="0" * 64)
    expected = adopt_expectation(recipe, looks, tmp_path).expected_frames
    assert expected is not None
    assert expected.sizes_hw == ((30, 40), (40, 30))


def test_bound_edited_by_hand_is_named_when_bounds_are_set_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks = [compute_look(np.full((64, 64), 100, np.uint8), PixelFormat.MONO8)] * 4
    recipe = adopt_expectation(Recipe(recipe_id="r", backbone="resnet18", weights_sha256="0" * 64), looks, tmp_path)
    expected = recipe.expected_frames
    assert expected is not None
    assert expected.list_widened() == []
    edited = expected.model_copy(update={"bounds": expected.bounds | {"brightness": Bound(low=1, high=254)}})
    assert edited.list_widened() == ["brightness"]
    adopt_expectation(recipe.model_copy(update={"expected_frames": edited}), looks, tmp_path)
    assert "expected_frames.bounds.brightness: it had been edited to {'low': 1.0, 'high': 254.0}" in caplog.text


def test_sizes_are_a_range_when_nearly_each_frame_has_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(90, 110, (int(h), int(w)), dtype=np.uint8) for h, w in rng.integers(100, 200, (20, 2))]
    recipe = Recipe(recipe_id="r", backbone="resnet18", weights_sha256="0" * 64)
    looks = [compute_look(frame, PixelFormat.MONO8) for frame in frames]
    expected = adopt_expectation(recipe, looks, tmp_path).expected_frames
    assert expected is not None
    assert expected.sizes_hw is None
    heights = [frame.shape[0] for frame in frames]
    bound = expected.bounds["height"]
    assert bound.low is not None
    assert bound.high is not None
    assert 50 < bound.low < min(heights) <= max(heights) < bound.high < 400
    assert (expected.n_good, expected.false_error_bound) == (
        20, pytest.approx(compute_false_reject_bound(expected.n_outside, 20)),
    )  # fmt: skip


def test_what_was_switched_off_stays_off_when_bounds_are_set_anew(tmp_path: Path) -> None:
    looks = [compute_look(np.full((64, 64), 100, np.uint8), PixelFormat.MONO8)] * 4
    recipe = Recipe(recipe_id="r", backbone="resnet18", weights_sha256="0" * 64)
    recipe = adopt_expectation(recipe, looks, tmp_path)
    assert recipe.expected_frames is not None
    changed = recipe.expected_frames.model_copy(update={"off": ("repeated",)})
    anew = adopt_expectation(recipe.model_copy(update={"expected_frames": changed}), looks, tmp_path)
    assert anew.expected_frames is not None
    assert anew.expected_frames.off == ("repeated",)


def test_frames_that_cannot_be_judged_are_not_measured(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    assert measure_looks([tmp_path / "torn.png", tmp_path / "missing.png"], Preprocessing()) == []
