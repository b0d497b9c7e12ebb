"""Which good frames calibration may use, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from inspector.errors import TrainingError
from inspector.files import compute_sha256
from inspector.training.data.datasets import logger
from inspector.training.data.record import TRAINING_FILE, load_record

FOLDER = "folder"

_FEW = 10


def drop_duplicates(paths: Sequence[Path]) -> dict[str, Path]:
    """Frames by SHA-256, so each once; copies and a small number are named in the log."""
    chosen: dict[str, Path] = {}
    duplicates = []
    for path in paths:
        try:
            sha256 = compute_sha256(path)
        except OSError as error:
            sha256 = f"{path}: {error}"  # named when it is read
        if sha256 in chosen:
            duplicates.append(path)
        else:
            chosen[sha256] = path
    _warn("counted once, since they are copies of other frames", duplicates, len(paths))
    return chosen


def choose_frames(folder: Path, paths: Sequence[Path], scored_by_folds: Collection[str] = ()) -> dict[Path, str]:
    """Frames that some network of the recipe in `folder` never saw, each once, and their SHA-256; others are named.

    Args:
        folder: the recipe's.
        paths: the frames.
        scored_by_folds: SHA-256 of those that the network of a fold can score, though the one that judges cannot.

    Raises:
        RecipeError: the record of training cannot be used.
        TrainingError: none is left.
    """
    record = load_record(folder)
    if record is None:
        logger.info(
            "%s: missing, so it cannot be checked whether these frames were used in training", folder / TRAINING_FILE
        )
    used = set(record.name_used() if record else ()).difference(scored_by_folds)
    found = drop_duplicates(paths)
    _warn("left out, since the recipe was trained on them", [p for sha, p in found.items() if sha in used], len(paths))
    chosen = {path: sha256 for sha256, path in found.items() if sha256 not in used}
    if not chosen:
        raise TrainingError(
            f"good frames: at least 2 not used in training are needed, got 0 of {len(paths)}; without GOOD_DIR the "
            "scores stored by training are used"
        )
    warn_if_few(len(chosen))
    return chosen


def warn_if_few(count: int) -> None:
    """Say what fewer than ten good frames are worth."""
    if count < _FEW:
        logger.warning(
            "only %d good frames: with fewer than %d, a threshold is little better than a guess", count, _FEW
        )


def _warn(why: str, paths: Sequence[Path], total: int) -> None:
    if paths:
        names = ", ".join(str(path) for path in paths[:5]) + (", …" if len(paths) > 5 else "")
        logger.warning("%d of %d good frames %s: %s", len(paths), total, why, names)


def name_groups(good_dir: Path, paths: Sequence[Path], rule: str) -> dict[Path, str]:
    """The group of each frame, by its path below `good_dir`.

    Args:
        good_dir: where `paths` were found.
        paths: the frames.
        rule: `folder`, the first folder's name ("." without one); or a regular expression with one group.

    Raises:
        TrainingError: an expression that is none, has not one group, or does not match a frame.
    """
    places = {path: path.relative_to(good_dir) for path in paths}
    if rule == FOLDER:
        return {path: place.parts[0] if len(place.parts) > 1 else "." for path, place in places.items()}
    pattern = compile_groups(rule)
    groups = {}
    for path, place in places.items():
        match = pattern.search(place.as_posix())
        if match is None or match[1] is None:
            raise TrainingError(f"--groups: must match each frame, got {rule!r}, which does not match {place}")
        groups[path] = match[1]
    return groups


def compile_groups(rule: str) -> re.Pattern[str]:
    """A regular expression with one group.

    Raises:
        TrainingError: it is none.
    """
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise TrainingError(f"--groups: must be folder or a regular expression, got {rule!r}: {error}") from error
    if pattern.groups != 1:
        raise TrainingError(f"--groups: must have one capture group, got {rule!r}, which has {pattern.groups}")
    return pattern
