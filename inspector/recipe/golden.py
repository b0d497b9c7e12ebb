"""Golden frames: a recipe proves itself on frames of known verdict before it may judge others."""

from __future__ import annotations

from pathlib import Path

from inspector.codec import decode_image
from inspector.config import Golden, GoldenVerdict, Recipe
from inspector.detection.detector import Detector
from inspector.errors import DeviceFaultError, DeviceOutOfMemoryError, RecipeError
from inspector.files import read_verified, verify_sha256
from inspector.transient import is_transient


def verify_golden(recipe: Recipe, folder: Path) -> None:
    """See that the golden frames of a recipe's folder are as they were stored.

    Raises:
        RecipeError: one is missing or altered.
    """
    for golden in recipe.golden:
        verify_sha256(folder / golden.file, golden.sha256)


def prove_golden(detector: Detector, folder: Path) -> None:
    """Judge all golden frames of the recipe in `folder`: each must get the verdict it is known to deserve.

    Raises:
        RecipeError: one is missing, altered, cannot be judged or gets another verdict; all such are named, a line each.
        DeviceFaultError, DeviceOutOfMemoryError: the device's fault.
    """
    faults = []
    for golden in detector.recipe.golden:
        try:
            _prove(detector, folder, golden)
        except RecipeError as error:
            faults.append(error)
    if faults:
        raise RecipeError("\n".join(map(str, faults))) from next(filter(is_transient, faults), faults[0])


def _prove(detector: Detector, folder: Path, golden: Golden) -> None:
    path = folder / golden.file
    content = read_verified(path, golden.sha256)
    try:
        judge_known(detector, content, golden.verdict)
    except RecipeError as error:
        raise RecipeError(f"{path}: golden frame: {error}") from error


def judge_known(detector: Detector, content: bytes, expected: GoldenVerdict) -> float:
    """Judge an image file's bytes, which must get the verdict `expected`; the score.

    One that must fail has to fail by its score, whatever else the recipe would refuse it for.

    Raises:
        RecipeError: they get another, or cannot be judged, whatever the reason.
        DeviceFaultError, DeviceOutOfMemoryError: the device's fault.
    """
    try:
        decision = detector.judge(*decode_image(content), any_frame=expected == "FAIL").decision
    except (DeviceFaultError, DeviceOutOfMemoryError):
        raise  # says nothing about the recipe
    except Exception as error:
        raise RecipeError(f"must be judged {expected}, but cannot be judged: {error}") from error
    if decision.verdict.value != expected:
        assert detector.recipe.threshold is not None  # noqa: S101 (`judge` refused)
        raise RecipeError(
            f"must be judged {expected}, got {decision.verdict}: score {decision.score:.6g}, "
            f"threshold {detector.recipe.threshold.value:.6g}"
        )
    return decision.score
