"""The fixture of a recipe: a reference picture among the good frames, and how well the others fit it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspector.codec import Pixels
from inspector.config import FixtureLimits, FixtureReference, Preprocessing
from inspector.detection.decision import Mask
from inspector.detection.fixture import Fixture, reduce_grey
from inspector.detection.looks import Look
from inspector.detection.preprocessing import scale
from inspector.errors import FrameError, RecipeError, TrainingError
from inspector.training.data.datasets import logger, read_image

_LEAST_SCORE = 0.3
"""Pictures of different parts reach as much by chance."""
_LEAST_MARGIN = 0.1
"""A defect takes some of the fit, and is to FAIL; another part takes far more."""
_FAR_BELOW, _FAR_DEVIATIONS = 0.15, 8.0
"""A fit so far below the median is another part's, and must not set what all later ones have to reach."""
_MOST_NOT_LOCATED = 0.1


@dataclass(frozen=True, slots=True)
class NewFixture:
    """A fixture that is not in a recipe's folder yet.

    Attributes:
        settings: for the recipe.
        picture: the file of the reference, PNG.
        outlined: JPEG of the reference in colour, with the outline of the region of interest, for people.
        fixture: for frames.
        paths: good frames that fit.
    """

    settings: FixtureReference
    picture: bytes
    outlined: bytes
    fixture: Fixture
    paths: Sequence[Path]


def build_fixture(path: Path, looks: Mapping[Path, Look], preprocessing: Preprocessing, roi: Mask | None) -> NewFixture:
    """Fit all good frames to the reference, and set the lowest score that a frame may have.

    Args:
        path: the reference, like the good frames.
        looks: the good frames.
        preprocessing: what they have in common.
        roi: where the part is in the reference.

    Raises:
        TrainingError: no region of interest, frames of several sizes, a reference that does not suit, or more than a
            tenth of the good frames does not fit it.
    """
    frame_hw = preprocessing.frame_hw
    if roi is None:
        raise TrainingError("--fixture: must be given with --roi-mask: where the part is, which must stay in the frame")
    if frame_hw is None or preprocessing.resize_hw is not None:
        raise TrainingError("--fixture: good frames must all have one size, and --resize must not be given")
    image = _read(path, preprocessing)
    reference = reduce_grey(image)
    limits = FixtureLimits(min_score=_LEAST_SCORE)
    try:
        fixture = Fixture(limits, reference, roi, frame_hw, preprocessing.scale_hw(frame_hw))
    except RecipeError as error:
        raise TrainingError(f"--fixture: {error}") from error
    fits = _fit(fixture, looks, preprocessing)
    scores = list(fits.values())
    picture = cv2.imencode(".png", reference)[1].tobytes()
    sha256 = hashlib.sha256(picture).hexdigest()
    settings = FixtureReference(
        min_score=compute_min_score(scores),
        reference=f"fixture-{sha256[:12]}.png",
        reference_sha256=sha256,
        n_good=len(scores),
        n_not_located=len(looks) - len(scores),
        lowest_score=round(min(scores), 4),
    )
    fixture = Fixture(settings, reference, roi, frame_hw, preprocessing.scale_hw(frame_hw))
    return NewFixture(settings, picture, draw_outline(image, roi), fixture, list(fits))


def draw_outline(image: Pixels, roi: Mask) -> bytes:
    """JPEG of a frame at the network's scale, (h, w, 3) RGB or (h, w) in [0, 255], on which `roi` is outlined."""
    picture = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2BGR if image.ndim == 3 else cv2.COLOR_GRAY2BGR)
    inside = cv2.resize((roi > 0).astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width in (((0, 0, 0), 3), ((0, 255, 255), 1)):  # seen on any background
        cv2.drawContours(picture, contours, -1, colour, width * max(1, min(picture.shape[:2]) // 500))
    return cv2.imencode(".jpg", picture)[1].tobytes()


def compute_min_score(scores: list[float]) -> float:
    """Below the poorest fit by a margin that shrinks as good frames grow in number, by the rule for brightness."""
    margin = max(_LEAST_MARGIN, float(np.std(scores)) * (1 + 12 / len(scores)))
    return math.floor(max(_LEAST_SCORE, min(scores) - margin) * 1e4) / 1e4


def _read(path: Path, preprocessing: Preprocessing) -> Pixels:
    try:
        return scale(*read_image(path), preprocessing)
    except FrameError as error:
        raise TrainingError(f"--fixture: {path}: must be like the good frames: {error}") from error


def _fit(fixture: Fixture, looks: Mapping[Path, Look], preprocessing: Preprocessing) -> dict[Path, float]:
    """Scores of the frames that can be located; the others are named, and too many of them refused."""
    scores: dict[Path, float] = {}
    for path in looks:
        try:
            scores[path] = fixture.locate(scale(*read_image(path), preprocessing)).score
        except FrameError as error:
            logger.warning("--fixture: not located: %s: %s", path, error)
    least = _find_poor(list(scores.values()))
    for path in [path for path, score in scores.items() if score < least]:
        logger.warning(
            "--fixture: not located: %s: score must be at least %.3g, far from the others', got %.3g",
            path, least, scores.pop(path),
        )  # fmt: skip
    lost = len(looks) - len(scores)
    if lost > _MOST_NOT_LOCATED * len(looks):
        raise TrainingError(
            f"--fixture: at most a tenth of the good frames may not fit the reference, got {lost} of {len(looks)}: "
            "choose another reference, or a mask around what all parts show"
        )
    return scores


def _find_poor(scores: list[float]) -> float:
    """The score below which a fit has nothing to do with the others."""
    if not scores:
        return _LEAST_SCORE
    middle = float(np.median(scores))
    deviation = 1.4826 * float(np.median(np.abs(np.array(scores) - middle)))
    return middle - max(_FAR_BELOW, _FAR_DEVIATIONS * deviation)
