"""Golden frames go into a recipe's folder, and out of it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inspector.codec import IMAGE_SUFFIXES
from inspector.config import (
    RECIPE_FILE,
    Golden,
    GoldenVerdict,
    Recipe,
    dump_recipe,
    load_edited_recipe,
    load_recipe,
)
from inspector.detection.detector import Detector
from inspector.device import choose_device
from inspector.errors import BadFrameError, DeviceFaultError, DeviceOutOfMemoryError, InspectorError, RecipeError
from inspector.files import read_whole, write_whole
from inspector.recipe.golden import judge_known, prove_golden
from inspector.recipe.opening import open_detector

_FOLDER = "golden"
_KINDS: dict[GoldenVerdict, str] = {"PASS": "good", "FAIL": "bad"}


@dataclass(frozen=True, slots=True)
class KnownFrame:
    """An image file, and the verdict it is known to deserve."""

    path: Path
    verdict: GoldenVerdict


@dataclass(frozen=True, slots=True)
class _Judged:
    """A known frame that got its verdict: the very bytes that were judged."""

    frame: KnownFrame
    content: bytes
    sha256: str
    score: float


def update_golden(folder: Path, frames: Sequence[KnownFrame], *, clear: bool = False, device: str = "auto") -> Recipe:
    """Store frames in a recipe as golden ones; those it has stay, or go where `clear` is set.

    All are judged first: nothing is written unless each gets its verdict.

    Raises:
        InspectorError: frames get another verdict, cannot be judged, are there already, or cannot be written; each
            is named.
        RecipeError: the recipe cannot be used, has no threshold, or one of its golden frames does not hold.
        DeviceFaultError: the device's fault.
    """
    before = load_recipe(folder) if frames else load_edited_recipe(folder)  # to take some out, nothing is judged
    recipe = before.model_copy(update={"golden": ()}) if clear else before
    judged = _judge(folder, recipe, frames, device) if frames else []
    recipe = _store(folder, recipe, judged)
    kept = {golden.file for golden in recipe.golden}
    for golden in before.golden:
        if golden.file not in kept:
            (folder / golden.file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not there, or not empty
        (folder / _FOLDER).rmdir()
    return recipe


def _judge(folder: Path, recipe: Recipe, frames: Sequence[KnownFrame], device: str) -> list[_Judged]:
    if recipe.threshold is None:
        raise RecipeError(f"{folder / RECIPE_FILE}: threshold: required to judge frames; run inspector calibrate")
    detector = open_detector(folder, device=choose_device(device), recipe=recipe)
    prove_golden(detector, folder)
    known = {golden.sha256: golden.file for golden in recipe.golden}
    judged, faults = [], []
    for frame in frames:
        try:
            judged.append(_judge_one(detector, frame, known))
        except (DeviceFaultError, DeviceOutOfMemoryError):
            raise
        except InspectorError as error:  # the others are judged all the same, so that all faults are told at once
            faults.append(f"{error}; nothing was stored")
            continue
        known[judged[-1].sha256] = str(frame.path)
    if faults:
        raise InspectorError("\n".join(faults))
    return judged


def _judge_one(detector: Detector, frame: KnownFrame, known: dict[str, str]) -> _Judged:
    try:
        content = read_whole(frame.path)
    except (OSError, BadFrameError) as error:
        raise InspectorError(f"{frame.path}: cannot be read: {error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 in known:
        raise InspectorError(f"{frame.path}: must not be a golden frame already, but is the same as {known[sha256]}")
    try:
        return _Judged(frame, content, sha256, judge_known(detector, content, frame.verdict))
    except RecipeError as error:
        raise InspectorError(f"{frame.path}: {error}") from error


def _store(folder: Path, recipe: Recipe, judged: Sequence[_Judged]) -> Recipe:
    """Write the files, then the recipe that names them; the files go again where that fails."""
    written: list[Path] = []
    try:
        for each in judged:
            path = _choose_path(folder, each.frame)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, each.content)
            written.append(path)
        new = [
            Golden(file=f"{_FOLDER}/{path.name}", sha256=each.sha256, verdict=each.frame.verdict, score=each.score)
            for path, each in zip(written, judged, strict=True)
        ]
        recipe = recipe.model_copy(update={"golden": (*recipe.golden, *new)})
        write_whole(folder / RECIPE_FILE, dump_recipe(recipe).encode())
    except (OSError, InspectorError) as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise InspectorError(f"{folder}: golden frames cannot be written, so nothing was changed: {error}") from error
    return recipe


def _choose_path(folder: Path, frame: KnownFrame) -> Path:
    """A number that no file has: what was put there by hand stays. The suffix is for people, decoders look inside."""
    suffix = frame.path.suffix.lower()
    suffix = suffix if suffix in IMAGE_SUFFIXES else ""
    names = (f"{_KINDS[frame.verdict]}-{number}{suffix}" for number in itertools.count(1))
    return next(path for path in (folder / _FOLDER / name for name in names) if not path.exists())
