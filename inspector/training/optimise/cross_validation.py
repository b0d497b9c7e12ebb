"""Scores of good frames that all were trained on: each by a network of a fold that never saw it.

Where good frames are few, none can be spared for the threshold alone. So they are dealt into folds, and a network is
trained for each on the frames of the others, for as many epochs as the one that judges: trained shorter it would have
learned its frames less by heart, and frames that it never saw would score lower than they do on the line.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from inspector.config import CrossValidation, Threshold
from inspector.detection.detector import Detector
from inspector.errors import TrainingError
from inspector.model import ReverseDistillation
from inspector.training.data.datasets import FrameSet, shuffle_groups
from inspector.training.data.tiles import TileStream
from inspector.training.optimise.fitting import fit_network
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.schedule import find_limits
from inspector.training.optimise.training_setup import TrainingSetup
from inspector.training.thresholds.outliers import find_outliers
from inspector.training.thresholds.policy import CONFIDENCE, REST, compute_false_reject_bound, compute_frame_scores
from inspector.training.thresholds.score_record import ScoreRecord
from inspector.training.thresholds.scoring import FrameScore, score_frames

logger = logging.getLogger(__name__)

_MAPPING_FRAMES = 30
"""Frames that a fold's scale is compared on: the median of their ratios is then known to some hundredths."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold's network, and what it says.

    Attributes:
        unseen: scores of the frames it never saw.
        seen: scores of some it was trained on.
    """

    model: ReverseDistillation
    detector: Detector
    steps: int
    unseen: dict[Path, FrameScore]
    seen: dict[Path, float]

    @property
    def scale(self) -> float:
        """Median score of frames it was trained on.

        Raises:
            TrainingError: it is not above 0, so that nothing can be compared with it.
        """
        scale = float(np.median(list(self.seen.values()))) if self.seen else 0.0
        if scale <= 0:
            raise TrainingError(f"folds: frames that were trained on must score above 0, got a median of {scale:g}")
        return scale


def deal(paths: Sequence[Path], count: int, seed: int, groups: Mapping[Path, str] | None = None) -> list[list[Path]]:
    """Deal frames into folds of about the same size, at random; frames of a group stay together.

    Raises:
        TrainingError: fewer frames, or groups, than folds.
    """
    units = shuffle_groups(paths, seed, groups)
    if len(units) < count:
        what = "groups" if groups else "good frames"
        raise TrainingError(f"--folds: must be at most the number of {what}, {len(units)}, got {count}")
    folds: list[list[Path]] = [[] for _ in range(count)]
    for unit in sorted(units.values(), key=len, reverse=True):  # stable, so still at random among equals
        min(folds, key=len).extend(unit)
    return [sorted(fold) for fold in folds]


def train_folds(setup: TrainingSetup, folds: Sequence[Sequence[Path]]) -> list[Fold]:
    """Train a network for each fold on the other folds' frames, and score.

    Raises:
        TrainingError: a loss that is not finite; it names the fold.
    """
    compared = choose_compared(setup.frames.paths)
    return [_train_fold(setup, number, folds, compared) for number in range(len(folds))]


def choose_compared(paths: Sequence[Path]) -> Sequence[Path]:
    """Frames that folds are brought to one scale by, from all over `paths`."""
    return paths[:: math.ceil(len(paths) / _MAPPING_FRAMES) or 1]


def _train_fold(setup: TrainingSetup, number: int, folds: Sequence[Sequence[Path]], compared: Sequence[Path]) -> Fold:
    name = f"fold {number + 1} of {len(folds)}"
    frames = setup.frames.select({path for other, fold in enumerate(folds) if other != number for path in fold})
    options = plan_fold(setup.options, setup.frames, frames, number)
    try:
        fitted = fit_network(
            setup.recipe, frames, frames, setup.hashes, options, setup.device,
            setup.workspace / f"fold-{number}.pt", setup.tell_step(f"train {name}"),
        )  # fmt: skip
    except TrainingError as error:
        raise TrainingError(f"{name}: {error}") from error
    if fitted.reason == "not_finite":
        raise TrainingError(f"{name}: loss: must be finite, got nan at step {fitted.trainer.state.step + 1}")
    detector = setup.build_detector(fitted.model, setup.recipe)
    paths = [*folds[number], *(path for path in compared if path in set(frames.paths))]
    scores = score_frames(detector, paths, setup.tell_share(f"judge {name}"))
    unseen = {path: score for path, score in scores.items() if path in folds[number]}
    seen = {path: score.score for path, score in scores.items() if path not in unseen}
    return Fold(fitted.model, detector, fitted.trainer.state.step, unseen, seen)


def plan_fold(options: TrainOptions, frames: FrameSet, part: FrameSet, number: int) -> TrainOptions:
    """The options of one fold's training: as many epochs over its `part` of the frames, other random numbers."""
    whole, tiles = (TileStream(each, options.tile_size, 0).tiles_per_epoch for each in (frames, part))
    steps, _ = find_limits(whole, options)
    return dataclasses.replace(
        options,
        steps=math.ceil(steps * tiles / whole) if math.isfinite(steps) else None,
        minutes=options.minutes and options.minutes * tiles / whole,
        seed=options.seed + 1000 * (number + 1),
    )


def find_suspects(folds: Sequence[Fold]) -> set[Path]:
    """Frames that stand out among all, each fold's scores relative to those of frames it was trained on."""
    scores = {path: score.score / fold.scale for fold in folds for path, score in fold.unseen.items()}
    found = find_outliers(np.array(list(scores.values())))
    return {path for path, outlier in zip(scores, found, strict=True) if outlier}


def compute_gains(
    seen: Sequence[Mapping[Path, float]], judged: Mapping[Path, float], trained: Collection[Path]
) -> list[float]:
    """What each fold's scores are multiplied by, to be on the scale of the network that judges.

    The median ratio of scores over frames that both networks were trained on.

    Args:
        seen: of each fold, scores of frames that its network was trained on.
        judged: scores by the network that judges.
        trained: frames it was trained on.

    Raises:
        TrainingError: no such frame, or scores that are not above 0.
    """
    gains = []
    for number, scores in enumerate(seen, start=1):
        shared = [path for path in scores if path in trained and path in judged]
        ratios = [judged[path] / scores[path] for path in shared if scores[path] > 0]
        if not ratios or not np.median(ratios) > 0:
            raise TrainingError(f"fold {number}: scores must be above 0 on frames that were trained on, got none")
        gains.append(float(np.median(ratios)))
    return gains


def describe_folds(
    steps: Sequence[int], gains: Sequence[float], unseen: Mapping[Path, float], checked: Mapping[Path, float]
) -> CrossValidation:
    """How the folds came about, and how the network that judges compares with theirs on frames that are new to both.

    Trained on more frames, or by chance, it may score strange good frames higher than the folds' networks did. A bound
    from their scores alone was exceeded by the shared sets' unseen frames wherever this ratio was well above 1.

    Args:
        steps: of each fold.
        gains: see `compute_gains`.
        unseen: scores by the folds' networks, multiplied by the gains.
        checked: scores of some of these frames by the network that judges, which was not trained on them.
    """
    ratios = [score / unseen[path] for path, score in checked.items() if unseen.get(path, 0.0) > 0]
    return CrossValidation(
        n_folds=len(steps),
        steps=max(steps),
        gains=tuple(gains),
        unseen_ratio=max(1.0, float(np.median(ratios))) if ratios else 1.0,
        n_deployed=len(checked),
    )


def apply_folds(record: ScoreRecord, thresholds: Mapping[str, Threshold]) -> Threshold:
    """REST's threshold with what is known of the folds: the bound that holds for the network that judges, and whether
    that one agrees on frames it was not trained on.
    """
    folds, threshold = record.cross_validated, thresholds[REST]
    if folds is None or not record.checked:
        return threshold.model_copy(update={"cross_validated": folds})
    good = compute_frame_scores(record.to_scores(), thresholds) * folds.unseen_ratio
    widened = compute_false_reject_bound(int((good > threshold.value).sum()), len(good))
    bound = max(threshold.false_reject_bound or 0.0, widened)
    checked = {part: np.array([scores[part] for scores in record.checked]) for part in record.checked[0]}
    above, n = int((compute_frame_scores(checked, thresholds) > threshold.value).sum()), len(record.checked)
    if stats.binom.sf(above - 1, n, bound) < 1 - CONFIDENCE:
        logger.warning(
            "%d of %d good frames that the network was not trained on score above the threshold, more than the bound "
            "of %.1f%% allows: the folds do not represent this network; calibrate on other good frames or use "
            "--holdout",
            above, n, 100 * bound,
        )  # fmt: skip
    described = folds.model_copy(update={"deployed_above": above, "n_deployed": n})
    return threshold.model_copy(update={"false_reject_bound": bound, "cross_validated": described})
