"""What good frames show: bounds on each value of their looks, from few frames or many, and what the bounds cost."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from inspector.config import EXPECTATIONS, Bound, Expected, ExpectedFrames, Preprocessing, Recipe
from inspector.detection.fixture import Fixture
from inspector.detection.looks import Look, References, compute_look, compute_texture_distance, find_outside
from inspector.detection.preprocessing import check_frame, scale
from inspector.errors import FrameError
from inspector.files import write_whole
from inspector.recipe.references import dump_references
from inspector.training.data.datasets import read_image
from inspector.training.thresholds.policy import compute_false_reject_bound

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

_FOLDS = 10
_MAX_REFERENCES = 500
_OFFSET = 0.5
_LOGARITHMIC = {"height", "width", "contrast", "sharpness"}
"""Values whose changes are factors. Bounds are set on their logarithm."""
_TOLERANCES = {
    "height": 0.05, "width": 0.05, "contrast": 0.25, "sharpness": 0.4, "brightness": 12.0, "red": 4.0, "blue": 4.0,
    "black_share": 0.01, "white_share": 0.01, "repeated_share": 0.12,
}  # fmt: skip
"""Margin at the least, for good frames that were all taken in one minute: light, focus and lens drift by as much."""
_RANGES = {
    "brightness": (0.0, 255.0), "contrast": (0.0, math.inf), "sharpness": (0.0, math.inf), "black_share": (0.0, 1.0),
    "white_share": (0.0, 1.0), "repeated_share": (0.0, 1.0), "height": (1.0, math.inf), "width": (1.0, math.inf),
}  # fmt: skip
_ONE_SIDED = {"black_share", "white_share", "repeated_share", "texture", "layout"}
"""Less of it is never a fault."""
_TEXTURE_RIDGE = 0.05**2  # five per cent are harmless
_LAYOUT_SCALE = 0.05
_LEAST_DISTANCE = {"texture": 2.5, "layout": 1.25}


def measure_looks(paths: Sequence[Path], preprocessing: Preprocessing, fixture: Fixture | None = None) -> list[Look]:
    """What good frames show; those that cannot be judged are left out, and named where they are scored."""
    looks = []
    for path in paths:
        with contextlib.suppress(FrameError):
            pixels, pixel_format = read_image(path)
            check_frame(pixels, pixel_format, preprocessing)
            if fixture is not None:
                fixture.locate(scale(pixels, pixel_format, preprocessing))
            looks.append(compute_look(pixels, pixel_format, preprocessing.mono16_range))
    return looks


def adopt_expectation(recipe: Recipe, looks: Sequence[Look], folder: Path) -> Recipe:
    """Set bounds from good frames and write what they are compared with into the recipe's folder; the new recipe.

    Bounds that were switched off in the recipe stay off.

    Raises:
        InspectorError: it cannot be written.
    """
    bounds, references = fit(looks)
    if recipe.expected_frames is not None:
        _tell_of_edits(recipe.expected_frames, bounds)
    content = dump_references(references)
    sha256 = hashlib.sha256(content).hexdigest()
    n_outside = count_outside(looks)
    expected = ExpectedFrames(
        sizes_hw=_list_sizes(looks),
        bounds=bounds,
        measured=bounds,
        off=_choose_off(recipe),
        references=f"references-{sha256[:12]}.safetensors",
        references_sha256=sha256,
        n_good=len(looks),
        n_outside=n_outside,
        false_error_bound=compute_false_reject_bound(n_outside, len(looks)),
    )
    write_whole(folder / expected.references, content)
    return recipe.model_copy(update={"expected_frames": expected})


def _choose_off(recipe: Recipe) -> tuple[Any, ...]:
    """What was switched off stays so; where the part lies is for the fixture to say, if there is one."""
    off = recipe.expected_frames.off if recipe.expected_frames else ()
    return off if recipe.fixture is None or "layout" in off else (*off, "layout")


def _tell_of_edits(before: ExpectedFrames, bounds: Mapping[Expected, Bound]) -> None:
    """Name bounds that were edited by hand and are now measured anew."""
    for name, bound in before.bounds.items():
        if name in before.measured and bound != before.measured[name]:
            logger.warning(
                "expected_frames.bounds.%s: it had been edited to %s and is now measured again: %s; edit it "
                "again if needed",
                name, bound.model_dump(), bounds[name].model_dump(),
            )  # fmt: skip


def count_outside(looks: Sequence[Look]) -> int:
    """How many good frames lie outside bounds that were set without them, in ten folds."""
    folds = min(_FOLDS, len(looks))
    if folds < 2:
        return len(looks)
    return sum(_count_fold(looks, fold, folds) for fold in range(folds))


def _count_fold(looks: Sequence[Look], fold: int, folds: int) -> int:
    bounds, references = fit([look for number, look in enumerate(looks) if number % folds != fold])
    return sum(bool(find_outside(bounds, references.measure(look))) for look in looks[fold::folds])


def fit(looks: Sequence[Look]) -> tuple[dict[Expected, Bound], References]:
    """Bounds and references of good frames: their range, and a margin that shrinks as they grow in number."""
    references, distances = _fit_references(looks)
    count = len(looks)
    bounds: dict[str, Bound] = {}
    for name in EXPECTATIONS:
        if name in distances:
            highest = float(distances[name].max(initial=0.0)) * (1.4 + 6 / count)
            bounds[name] = Bound(high=_round(max(highest, _LEAST_DISTANCE[name])))
        else:
            bounds[name] = _bound(name, np.array([look.statistics[name] for look in looks]))
    return cast("dict[Expected, Bound]", bounds), references


def _bound(name: str, values: Array) -> Bound:
    lowest, highest = _RANGES.get(name, (-math.inf, math.inf))
    if name in _LOGARITHMIC:
        values = np.log(values + _OFFSET)
    margin = max(float(values.std()) * (1 + 12 / len(values)), _TOLERANCES[name])
    low, high = float(values.min()) - margin, float(values.max()) + margin
    if name in _LOGARITHMIC:
        low, high = math.exp(low) - _OFFSET, math.exp(high) - _OFFSET
    return Bound(low=None if name in _ONE_SIDED else _round(max(low, lowest)), high=_round(min(high, highest)))


def _round(value: float) -> float:
    """To four digits: what a person reads and edits."""
    return float(f"{value:.4g}")


def _fit_references(looks: Sequence[Look]) -> tuple[References, dict[str, Array]]:
    """What looks are compared with, and each good frame's distances from the other ones."""
    textures = np.stack([look.texture for look in looks])
    mean, precision = _fit_texture(textures)
    layouts = np.stack([look.layout for look in looks])
    scale = layouts.std(axis=0) + 0.1 * layouts.std() + _LAYOUT_SCALE
    references = References(mean, precision, layouts[:: math.ceil(len(looks) / _MAX_REFERENCES)], scale)
    if len(looks) < 2:
        return references, {"texture": np.zeros(0), "layout": np.zeros(0)}
    return references, {"texture": _leave_out(textures), "layout": _find_nearest(layouts / scale)}


def _fit_texture(textures: Array) -> tuple[Array, Array]:
    """Mean, and inverse of the covariance, shrunk towards its diagonal where frames are few."""
    count, size = textures.shape
    covariance = np.atleast_2d(np.cov(textures.T)) if count > 1 else np.zeros((size, size))
    shrinkage = min(1.0, 0.1 + 4 / count)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
    return textures.mean(axis=0), np.linalg.inv(covariance + _TEXTURE_RIDGE * np.eye(size))


def _leave_out(textures: Array) -> Array:
    """Each frame's distance from the others' texture."""
    distances = []
    for number, texture in enumerate(textures):
        mean, precision = _fit_texture(np.delete(textures, number, axis=0))
        distances.append(compute_texture_distance(texture, mean, precision))
    return np.array(distances)


def _find_nearest(layouts: Array) -> Array:
    """Each frame's distance from the nearest other one."""
    distances = []
    for number, layout in enumerate(layouts):
        squares = ((layouts - layout) ** 2).mean(axis=1)
        squares[number] = math.inf
        distances.append(math.sqrt(squares.min()))
    return np.array(distances)


def _list_sizes(looks: Sequence[Look]) -> tuple[tuple[int, int], ...] | None:
    sizes = Counter(look.frame_hw for look in looks)
    if len(sizes) > max(1, len(looks) / 2):
        return None
    return tuple(sorted(sizes))
