"""What a frame shows as a whole is measured and held against what good frames show."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from inspector.config import EXPECTATIONS, Bound, ExpectedFrames, Preprocessing, Recipe
from inspector.detection.looks import Expectation, References, compute_look, find_outside
from inspector.errors import FrameMismatchError, ImageHealthError, RecipeError, UnlikeGoodError
from inspector.recipe.references import dump_references, load_expectation
from inspector.training.expectations import adopt_expectation
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]
HW = (240, 320)


def draw_part(seed: int, hw: tuple[int, int] = HW) -> Pixels:
    """A bright disc with a bar in it, on a warm grey ground, and noise; light and place differ a little."""
    rng = np.random.default_rng(seed)
    frame = np.full((*hw, 3), (110, 100, 90), np.float32)
    middle = (hw[1] // 2 + int(rng.integers(-6, 7)), hw[0] // 2 - 20 + int(rng.integers(-6, 7)))
    cv2.circle(frame, middle, hw[0] // 4, (190, 180, 170), -1)
    cv2.line(frame, middle, (middle[0] + hw[0] // 5, middle[1]), (60, 60, 60), 5)
    frame = cv2.GaussianBlur(frame, (0, 0), 0.8) * rng.uniform(0.95, 1.05) + rng.normal(0, 2, frame.shape)
    return np.clip(frame, 0, 255).astype(np.uint8)


GOOD = draw_part(1000)


def build_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"schema": 1, "recipe_id": "part", "backbone": "resnet18", "weights_sha256": "0" * 64}
                                 | changes)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """What it expects is set from forty good frames."""
    looks = [compute_look(draw_part(seed), PixelFormat.RGB8) for seed in range(40)]
    return adopt_expectation(build_recipe(), looks, folder)


@pytest.fixture
def expectation(recipe: Recipe, folder: Path) -> Expectation:
    loaded = load_expectation(recipe, folder)
    assert loaded is not None
    return loaded


def edit(recipe: Recipe, folder: Path, **changes: Any) -> Expectation:
    assert recipe.expected_frames is not None
    expected = ExpectedFrames.model_validate(recipe.expected_frames.model_dump() | changes)
    loaded = load_expectation(recipe.model_copy(update={"expected_frames": expected}), folder)
    assert loaded is not None
    return loaded


def check(
    expectation: Expectation, pixels: Pixels, pixel_format: PixelFormat = PixelFormat.RGB8
) -> UnlikeGoodError | None:
    return expectation.check(np.ascontiguousarray(pixels), pixel_format, Preprocessing())


# ---------------------------------------------------------------- frames that show no part, or not this one

FRAMES: dict[str, tuple[Callable[[], Pixels], type[Exception]]] = {
    "black": (lambda: np.zeros_like(GOOD), ImageHealthError),
    "a lens cap": (lambda: np.random.default_rng(0).integers(0, 4, GOOD.shape, dtype=np.uint8), ImageHealthError),
    "white": (lambda: np.full_like(GOOD, 255), ImageHealthError),
    "grey": (lambda: np.full_like(GOOD, 127), ImageHealthError),
    "its mean colour": (lambda: np.full_like(GOOD, GOOD.mean((0, 1)).astype(np.uint8)), ImageHealthError),
    "noise": (lambda: np.random.default_rng(0).integers(0, 256, GOOD.shape, dtype=np.uint8), ImageHealthError),
    "dark": (lambda: (GOOD * 0.3).astype(np.uint8), ImageHealthError),
    "overexposed": (lambda: np.clip(GOOD * 3.0, 0, 255).astype(np.uint8), ImageHealthError),
    "out of focus": (lambda: cv2.GaussianBlur(GOOD, (0, 0), 4), ImageHealthError),
    "red and blue changed": (lambda: GOOD[..., ::-1], ImageHealthError),
    "lost packets": (lambda: np.concatenate([GOOD[:30], np.zeros_like(GOOD[30:])]), ImageHealthError),
    "lost lines": (lambda: np.concatenate([GOOD[:80], np.repeat(GOOD[80:81], 160, axis=0)]), ImageHealthError),
    "an empty belt": (
        lambda: np.clip(np.full(GOOD.shape, (110, 100, 90)) + np.random.default_rng(0).normal(0, 2, GOOD.shape), 0, 255)
        .astype(np.uint8),
        ImageHealthError,
    ),
    "moved by a third": (lambda: np.roll(GOOD, (80, 107), (0, 1)), UnlikeGoodError),
    "upside down": (lambda: GOOD[::-1, ::-1], UnlikeGoodError),
    "a quarter turn": (lambda: cv2.resize(np.rot90(GOOD), HW[::-1]), UnlikeGoodError),
    "height and width swapped": (lambda: GOOD.reshape(HW[1], HW[0], 3), FrameMismatchError),
    "one pixel": (lambda: GOOD[:1, :1], FrameMismatchError),
    "a corner": (lambda: GOOD[:120, :160], FrameMismatchError),
    "a thumbnail": (lambda: cv2.resize(GOOD, (40, 30), interpolation=cv2.INTER_AREA), FrameMismatchError),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_frame_is_refused_when_it_shows_no_part_or_not_this_one(expectation: Expectation, name: str) -> None:
    make, error = FRAMES[name]
    with pytest.raises(error) as caught:
        check(expectation, make())
    assert type(caught.value) is error


def test_good_frames_are_not_refused_when_bounds_come_from_forty_others(expectation: Expectation) -> None:
    for seed in range(500, 540):
        assert check(expectation, draw_part(seed)) is None


def test_small_defects_are_left_to_the_network(expectation: Expectation) -> None:
    scratched = draw_part(700)
    cv2.line(scratched, (120, 80), (160, 120), (20, 20, 20), 2)
    assert check(expectation, scratched) is None


def draw_spot(pixels: Pixels) -> None:
    cv2.circle(pixels, (280, 40), 20, (230, 230, 230), -1)


def draw_scratches(pixels: Pixels) -> None:
    for x in range(60, 120, 12):
        cv2.line(pixels, (x, 70), (x + 40, 110), (20, 20, 20), 3)


@pytest.mark.parametrize(("draw", "name"), [(draw_spot, "layout"), (draw_scratches, "texture")])
def test_large_defects_are_shown_to_the_network_and_refused_if_it_sees_none(
    expectation: Expectation, draw: Callable[[Pixels], None], name: str
) -> None:
    damaged = draw_part(700)
    draw(damaged)
    doubt = check(expectation, damaged)
    assert doubt is not None
    assert f"{name} must be at most" in str(doubt)


def test_part_that_lacks_texture_or_is_moved_is_refused_though_it_has_a_defect(expectation: Expectation) -> None:
    damaged = draw_part(700)
    draw_spot(damaged)
    with pytest.raises(UnlikeGoodError):
        check(expectation, np.roll(damaged, (80, 107), (0, 1)))


def test_message_names_value_and_bound(expectation: Expectation) -> None:
    with pytest.raises(ImageHealthError, match=r"brightness must be [\d.]+ to [\d.]+, got 0;"):
        check(expectation, np.zeros_like(GOOD))


# ---------------------------------------------------------------- the same look for the same scene


def test_look_is_the_same_when_channels_come_as_bgr() -> None:
    rgb, bgr = (
        compute_look(GOOD[..., ::step].copy(), kind) for step, kind in ((1, PixelFormat.RGB8), (-1, PixelFormat.BGR8))
    )
    assert rgb.statistics == pytest.approx(bgr.statistics, abs=0.01)
    assert rgb.layout == pytest.approx(bgr.layout, abs=0.02)


def test_look_of_16_bits_is_that_of_8_when_the_range_says_so() -> None:
    grey = np.ascontiguousarray(GOOD[..., 1])
    eight = compute_look(grey, PixelFormat.MONO8)
    sixteen = compute_look(grey.astype(np.uint16) * 16, PixelFormat.MONO16, (0, 255 * 16))
    assert eight.statistics == sixteen.statistics
    assert np.array_equal(eight.layout, sixteen.layout)


def test_statistics_have_their_units() -> None:
    rows = np.tile(np.array([[0, 100, 255, 100], [100, 255, 100, 0]], np.uint8), (40, 20))
    statistics = compute_look(rows, PixelFormat.MONO8).statistics
    assert (statistics["height"], statistics["width"]) == (80, 80)
    assert statistics["brightness"] == pytest.approx((0 + 100 + 255 + 100) / 4)
    assert (statistics["black_share"], statistics["white_share"]) == (0.25, 0.25)
    assert statistics["sharpness"] == pytest.approx(2 * (100 + 155 + 155 + 100) / 4, abs=2)
    assert (statistics["red"], statistics["blue"], statistics["repeated_share"]) == (0, 0, 0)


@pytest.mark.parametrize("hw", [(1, 1), (1, 50), (50, 1), (2, 2), (3000, 3)])
def test_look_of_any_size_is_finite(hw: tuple[int, int]) -> None:
    look = compute_look(np.full(hw, 7, np.uint8), PixelFormat.MONO8)
    assert np.isfinite([*look.statistics.values(), *look.texture, *look.layout]).all()


def test_value_that_is_not_a_number_is_outside() -> None:
    outside = find_outside({"texture": Bound(high=2.0)}, {"texture": float("nan")})
    assert outside == {"texture": "texture must be at most 2, got nan"}


# ---------------------------------------------------------------- edited by hand, switched off, altered


def test_bound_moves_when_it_is_edited(recipe: Recipe, folder: Path) -> None:
    assert recipe.expected_frames is not None
    dark = (GOOD * 0.8).astype(np.uint8)
    wide = {name: bound.model_dump() for name, bound in recipe.expected_frames.bounds.items()}
    with pytest.raises(ImageHealthError, match="brightness"):
        check(edit(recipe, folder), dark)
    wide["brightness"] = {"low": 20, "high": 250}
    check(edit(recipe, folder, bounds=wide), dark)


def test_bound_is_off_only_when_it_is_named(recipe: Recipe, folder: Path) -> None:
    assert recipe.expected_frames is not None
    bounds = {name: bound.model_dump() for name, bound in recipe.expected_frames.bounds.items()}
    with pytest.raises(ValidationError, match=r"each value must have a bound.*got none for \['layout'\]"):
        edit(recipe, folder, bounds={name: bound for name, bound in bounds.items() if name != "layout"})
    with pytest.raises(ValidationError, match=r"to disable this bound, add it to expected_frames\.off"):
        edit(recipe, folder, bounds=bounds | {"layout": {}})
    check(edit(recipe, folder, off=["layout", "texture"]), GOOD[::-1, ::-1])
    with pytest.raises(ValidationError, match="off"):
        edit(recipe, folder, off=["everything"])


def test_other_sizes_are_refused_when_good_frames_had_several(folder: Path) -> None:
    sizes = [HW, (200, 320)]
    looks = [compute_look(draw_part(seed, sizes[seed % 2]), PixelFormat.RGB8) for seed in range(20)]
    recipe = adopt_expectation(build_recipe(), looks, folder)
    assert recipe.expected_frames is not None
    assert recipe.expected_frames.sizes_hw == ((200, 320), HW)
    expectation = load_expectation(recipe, folder)
    assert expectation is not None
    check(expectation, draw_part(99, sizes[1]))
    with pytest.raises(
        FrameMismatchError, match=r"sizes_hw: good frames had \[200, 320\] or \[240, 320\], got \[220, 320\]"
    ):
        check(expectation, draw_part(99, (220, 320)))


SMALL = References(np.zeros(7), np.eye(7), np.zeros((1, 3)), np.ones(128))
"""Of another version: layouts have other values."""


def test_file_of_references_is_refused_when_it_is_altered_or_missing(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.expected_frames is not None
    path = tmp_path / recipe.expected_frames.references
    with pytest.raises(RecipeError, match="cannot be read"):
        load_expectation(recipe, tmp_path)
    path.write_bytes(b"something else")
    with pytest.raises(RecipeError, match="altered"):
        load_expectation(recipe, tmp_path)
    for content, why in ((b"something else", "cannot be read"), (dump_references(SMALL), "layouts must be finite")):
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        expected = recipe.expected_frames.model_copy(update={"references_sha256": sha256})
        with pytest.raises(RecipeError, match=why):
            load_expectation(recipe.model_copy(update={"expected_frames": expected}), tmp_path)


def test_recipe_without_expectations_expects_nothing(tmp_path: Path) -> None:
    assert load_expectation(build_recipe(), tmp_path) is None
    assert len(EXPECTATIONS) == 12
