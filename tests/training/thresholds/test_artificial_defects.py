"""Artificial defects: as large, as strong and where they are said to be, in every pixel format."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from inspector.errors import TrainingError
from inspector.training.thresholds.artificial_defects import CONTRASTS, ArtificialDefect, DefectKind, add, draw_defects

GREY = 100


def defect_of(kind: DefectKind = DefectKind.SPOT, **changes: Any) -> ArtificialDefect:
    values = {"kind": kind, "size_px": 10.0, "contrast": 40.0, "length_px": 10.0, "angle": 0.0}
    return ArtificialDefect(**(values | changes))


def draw(defect: ArtificialDefect, centre: tuple[float, float] = (40.0, 50.0), grey: int = GREY) -> Any:
    """What is added to an even frame, (80, 100)."""
    pixels = np.full((80, 100), grey, dtype=np.uint8)
    add(pixels, centre, defect)
    return pixels.astype(int) - grey


@pytest.mark.parametrize("size", [3.0, 10.0, 25.0])
def test_spot_has_the_area_and_contrast_of_its_diameter(size: float) -> None:
    added = draw(defect_of(size_px=size, length_px=size))
    assert added.max() == 40
    assert added.sum() / 40 == pytest.approx(np.pi * (size**2 / 4 + 0.5**2), rel=0.05)  # and the soft edge's


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_line_has_the_area_of_its_width_and_length_at_any_angle(angle: float) -> None:
    added = draw(defect_of(DefectKind.LINE, size_px=4.0, length_px=50.0, angle=angle))
    assert added.max() == 40
    assert added.sum() / 40 == pytest.approx(4 * 50, rel=0.03)
    rows, columns = np.nonzero(added)
    assert np.ptp(columns) == pytest.approx(50 * abs(np.cos(angle)) + 4 * abs(np.sin(angle)), abs=3)
    assert np.ptp(rows) == pytest.approx(50 * abs(np.sin(angle)) + 4 * abs(np.cos(angle)), abs=3)


def test_bent_line_leaves_the_straight_by_its_bend() -> None:
    added = draw(defect_of(DefectKind.LINE, size_px=2.0, length_px=60.0, bend=0.1))
    middle, end = (int(added[:, column].argmax()) for column in (50, 79))
    assert end - middle == pytest.approx(0.1 * 60, abs=1)


def test_dent_is_bright_on_one_side_and_dark_on_the_other() -> None:
    added = draw(defect_of(DefectKind.DENT, size_px=18.0, length_px=18.0))
    assert (added.min(), added.max()) == (-40, 40)
    assert added.sum() == 0
    assert added[40, 47] == 40  # three pixels from the middle: a standard deviation
    assert added[40, 53] == -40


def test_defect_moves_by_fractions_of_a_pixel() -> None:
    defect = defect_of(size_px=6.0)
    rows, columns = np.mgrid[:80, :100]
    for centre in ((40.0, 50.0), (40.25, 50.75)):
        added = draw(dataclasses.replace(defect, contrast=100.0), centre)
        weights = added / added.sum()
        assert ((weights * rows).sum(), (weights * columns).sum()) == pytest.approx(centre, abs=0.02)


@pytest.mark.parametrize(("grey", "bright", "sign"), [(250, True, -1), (5, False, 1), (128, True, 1), (128, False, -1)])
def test_spot_takes_the_polarity_there_is_room_for(grey: int, bright: bool, sign: int) -> None:
    added = draw(defect_of(bright=bright), grey=grey)
    assert added[40, 50] == sign * 40
    assert (added * sign >= 0).all()


def test_defect_is_the_same_in_colour_and_in_the_range_of_16_bits() -> None:
    added = draw(defect_of())
    colour = np.full((80, 100, 3), GREY, dtype=np.uint8)
    add(colour, (40.0, 50.0), defect_of())
    assert np.array_equal(colour.astype(int) - GREY, np.dstack([added] * 3))
    deep = np.full((80, 100), 1000 + 16 * GREY, dtype=np.uint16)
    add(deep, (40.0, 50.0), defect_of(), mono16_range=(1000, 1000 + 16 * 255))
    assert (deep.astype(int) - 1000 - 16 * GREY) / 16 == pytest.approx(added, abs=0.6)


def test_footprint_holds_all_that_is_visible_and_is_cut_at_the_frame() -> None:
    pixels = np.full((80, 100), GREY, dtype=np.uint8)
    footprint = add(pixels, (0.0, 99.0), defect_of())
    whole = np.zeros(pixels.shape, dtype=bool)
    height, width = footprint.mask.shape
    whole[footprint.top : footprint.top + height, footprint.left : footprint.left + width] = footprint.mask
    assert np.array_equal(whole, pixels > GREY + 0.05 * 40)
    assert footprint.mask[0, -1]


@pytest.mark.parametrize("kind", DefectKind)
def test_defects_cover_sizes_and_contrasts_evenly_and_fit_the_room(kind: DefectKind) -> None:
    defects = draw_defects(kind, 40, 100.0, np.random.default_rng(3))
    for values, (low, high) in (
        ([each.size_px for each in defects], (1.0, 25.0)),
        ([each.contrast for each in defects], CONTRASTS),
    ):
        steps = np.log(np.array(values) / low) / np.log(high / low) * 40
        assert sorted(steps.astype(int)) == list(range(40))  # one in each fortieth
    assert all(each.reach_px < 50 for each in defects)
    if kind is DefectKind.LINE:
        assert all(each.length_px >= 20 for each in defects)


def test_defects_are_the_same_when_the_generator_is_and_others_when_it_is_not() -> None:
    first, same, other = (draw_defects(DefectKind.LINE, 8, 256.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_frame_without_room_for_the_smallest_is_refused() -> None:
    with pytest.raises(TrainingError, match="frames must be more than 4 px, got 3"):
        draw_defects(DefectKind.SPOT, 5, 3.0, np.random.default_rng(0))
