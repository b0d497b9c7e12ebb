"""Which pixels of a mask are defects, and of which label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.errors import BadFrameError
from inspector.training.evaluation.ground_truth import UNTOLD, name_label, read_labels, read_mask

Array = np.ndarray[Any, Any]


def write(folder: Path, mask: Array) -> Path:
    path = folder / "mask.png"
    cv2.imwrite(str(path), mask if mask.ndim == 2 else mask[..., ::-1])
    return path


def draw(*values: Any, dtype: Any = np.uint8) -> Array:
    """A mask with a square of 6 × 6 pixels of each value, 4 pixels apart."""
    colour = not np.isscalar(values[0])
    mask = np.zeros((12, 10 * len(values), 3) if colour else (12, 10 * len(values)), dtype)
    for number, value in enumerate(values):
        mask[3:9, 10 * number + 2 : 10 * number + 8] = value
    return mask


def count_labels(path: Path, mask: Array) -> dict[str, int]:
    labels = read_labels(path, mask.shape[:2])
    names, counts = np.unique(labels[labels != 0], return_counts=True)
    return {name_label(int(name)): int(count) for name, count in zip(names, counts, strict=True)}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((1,), np.uint8), ((255,), np.uint8), ((1, 2, 3), np.uint8), ((1, 120), np.uint8), ((85, 170, 255), np.uint8),
        ((127, 255), np.uint8), ((20, 255), np.uint8), ((254, 255), np.uint8), ((65_535,), np.uint16),
        ((1, 2, 300), np.uint16), ((20_000, 65_535), np.uint16), (tuple(range(1, 41)), np.uint8),
    ],
    ids=str,
)  # fmt: skip
def test_every_value_above_0_is_a_label_and_a_defect(values: tuple[int, ...], dtype: Any, tmp_path: Path) -> None:
    mask = draw(*values, dtype=dtype)
    path = write(tmp_path, mask)
    assert count_labels(path, mask) == dict.fromkeys(map(str, values), 36)
    assert (read_mask(path, mask.shape) == (mask > 0)).all()


@pytest.mark.parametrize("values", [(1, 3), (85, 255)])
def test_labels_that_touch_are_both_defects(values: tuple[int, int], tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[4:16, 4:10], mask[4:16, 10:16] = values
    assert count_labels(write(tmp_path, mask), mask) == dict.fromkeys(map(str, values), 72)


def test_label_of_one_pixel_is_a_defect_when_it_stands_alone(tmp_path: Path) -> None:
    mask = draw(255)
    mask[0, 9] = 85
    assert count_labels(write(tmp_path, mask), mask) == {"255": 36, "85": 1}


@pytest.mark.parametrize(
    "colours", [((128, 0, 0), (0, 128, 0)), ((255, 0, 0), (0, 0, 100)), ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
)
def test_every_colour_but_black_is_a_label_and_a_defect(colours: tuple[Any, ...], tmp_path: Path) -> None:
    mask = draw(*colours)
    names = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours]
    assert count_labels(write(tmp_path, mask), mask) == dict.fromkeys(names, 36)


def test_grey_mask_stored_in_colour_has_the_labels_of_a_grey_one(tmp_path: Path) -> None:
    mask = draw((85, 85, 85), (255, 255, 255))
    assert count_labels(write(tmp_path, mask), mask) == {"85": 36, "255": 36}


def test_soft_edges_are_defects_above_half_of_the_highest_value(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    cv2.circle(mask, (20, 20), 12, 255, -1, cv2.LINE_AA)
    cv2.line(mask, (38, 4), (55, 34), 255, 3, cv2.LINE_AA)
    path = write(tmp_path, mask)
    assert len(np.unique(mask)) > 10
    assert (read_mask(path, mask.shape) == (mask > 127)).all()
    assert set(count_labels(path, mask)) == {"255"}


def test_mask_enlarged_with_soft_edges_has_one_label(tmp_path: Path) -> None:
    mask = np.asarray(cv2.resize(draw(255), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR))
    assert 2 < len(np.unique(mask)) < 32
    assert count_labels(write(tmp_path, mask), mask) == {"255": 12 * 12}


def test_what_compression_leaves_is_no_defect(tmp_path: Path) -> None:
    mask = cv2.resize(draw(255, 255), None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    encoded = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    path = tmp_path / "mask.png"
    path.write_bytes(encoded.tobytes())
    decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    assert ((decoded > 0) & (decoded < 64)).sum() > 100
    found = read_mask(path, decoded.shape)
    assert abs(int(found.sum()) - int((mask > 127).sum())) < 0.03 * (mask > 127).sum()


def test_colours_with_soft_edges_are_defects_that_are_not_told_apart(tmp_path: Path) -> None:
    mask = np.zeros((40, 80, 3), np.uint8)
    cv2.circle(mask, (20, 20), 12, (255, 0, 0), -1, cv2.LINE_AA)
    cv2.circle(mask, (60, 20), 12, (0, 255, 0), -1, cv2.LINE_AA)
    path = write(tmp_path, mask)
    assert (read_mask(path, mask.shape[:2]) == (mask.max(axis=2) > 127)).all()
    assert set(np.unique(read_labels(path, mask.shape[:2]))) == {0, UNTOLD}
    assert set(count_labels(path, mask)) == {"not told apart"}


def test_labels_with_soft_edges_are_refused_because_half_of_them_would_be_good(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    cv2.circle(mask, (20, 20), 12, 85, -1, cv2.LINE_AA)
    cv2.circle(mask, (60, 20), 12, 255, -1, cv2.LINE_AA)
    with pytest.raises(BadFrameError, match=r"mask\.png: mask: must hold labels, as at most 32 values with hard edges"):
        read_labels(write(tmp_path, mask), mask.shape)


def test_black_mask_has_no_label(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    assert count_labels(write(tmp_path, mask), mask) == {}
