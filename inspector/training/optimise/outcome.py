"""From good frames to a trained network and scores that its threshold is set from: with folds, or frames held aside."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.codec import Pixels
from inspector.config import CrossValidation, Recipe, Threshold
from inspector.detection.detector import Detector
from inspector.detection.run import Judgement
from inspector.engine.probe import Probe
from inspector.errors import TrainingError
from inspector.training.data.datasets import read_image, split
from inspector.training.optimise.cross_validation import (
    Fold,
    apply_folds,
    compute_gains,
    deal,
    describe_folds,
    find_suspects,
    train_folds,
)
from inspector.training.optimise.fitting import Fitted, fit_network
from inspector.training.optimise.options import FEWEST_STEPS, HOLDOUT
from inspector.training.optimise.training_setup import TrainingSetup
from inspector.training.thresholds.policy import REST, compute_threshold
from inspector.training.thresholds.proving import score_proved
from inspector.training.thresholds.qualification import Response, qualify
from inspector.training.thresholds.score_record import GoodFrame, ScoreRecord
from inspector.training.thresholds.scoring import FrameScore, score_frames
from inspector.training.thresholds.suspects import tell_outliers
from inspector.types import PixelFormat

logger = logging.getLogger(__name__)

Groups = Mapping[Path, str] | None
Draw = Callable[[Pixels, PixelFormat, Judgement, float], np.ndarray[Any, Any]]
"""Frame, judgement and threshold → picture (H, W, 3) uint8 BGR."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """One training, up to the scores of good frames.

    Attributes:
        recipe: with the precision that the scores were made in.
        fitted: the network that judges.
        detector: by it.
        probe: of it.
        validation: frames that its weights were chosen by.
        held_aside: frames that it never saw, kept for their scores.
        unseen: scores of good frames by a network that never saw them, on the scale of the one that judges.
        folds: those networks, where it is not the one that judges.
        gains: what each fold's scores were multiplied by.
        checked: scores by the network that judges, of frames that it was not trained on.
        trimmed: good frames that stood out and were left out, and what they scored.
    """

    recipe: Recipe
    fitted: Fitted
    detector: Detector
    probe: Probe
    validation: Sequence[Path]
    held_aside: Sequence[Path]
    unseen: Mapping[Path, FrameScore]
    folds: Sequence[Fold] = ()
    gains: Sequence[float] = ()
    checked: Mapping[Path, float] = dataclasses.field(default_factory=dict)
    trimmed: Mapping[Path, FrameScore] = dataclasses.field(default_factory=dict)

    def find_fold(self, path: Path) -> int | None:
        """Whose network scored a frame; None: the one that judges."""
        return next((number for number, fold in enumerate(self.folds) if path in fold.unseen), None)


def train_with_holdout(setup: TrainingSetup, groups: Groups) -> TrainingOutcome:
    """Train on most frames, and score those held aside.

    Raises:
        TrainingError: see `train`.
    """
    options, frames = setup.options, setup.frames
    parts = split(frames.paths, options.holdout or HOLDOUT, options.validation, options.seed, groups)
    fitted = _fit(setup, parts.training, parts.validation)
    recipe, detector, scores, probe = score_proved(
        setup.recipe,
        fitted.model,
        lambda candidate: setup.build_detector(fitted.model, candidate),
        lambda detector, collector: score_frames(detector, parts.calibration, setup.tell_share("calibrate"), collector),
    )
    return TrainingOutcome(recipe, fitted, detector, probe, parts.validation, list(scores), scores)


def train_with_folds(setup: TrainingSetup, count: int, groups: Groups) -> TrainingOutcome:
    """Score each frame by a network of a fold, then train on all but the few that choose the weights.

    With `trim`, frames that stand out are left out of all that follows, and the folds are trained anew.

    Raises:
        TrainingError: see `train`.
    """
    options = setup.options
    if options.minutes:  # of all networks: that of a fold takes the share of its frames
        setup = dataclasses.replace(setup, options=dataclasses.replace(options, minutes=options.minutes / count))
    folds = train_folds(setup, deal(setup.frames.paths, count, options.seed, groups))
    if max(fold.steps for fold in folds) < FEWEST_STEPS:
        logger.warning(
            "folds: each was trained for %d steps; below %d steps the scores still grow with every step, so "
            "the bound on "
            "false rejects may not hold: train longer or use --holdout",
            max(fold.steps for fold in folds), FEWEST_STEPS,
        )  # fmt: skip
    trimmed = find_suspects(folds) if options.trim else set()
    before = {path: score for fold in folds for path, score in fold.unseen.items() if path in trimmed}
    if trimmed:
        logger.warning("--trim: %d good frames left out, training starts again without them", len(trimmed))
        rest = setup.frames.select(set(setup.frames.paths) - trimmed)
        setup = dataclasses.replace(setup, frames=rest, workspace=setup.workspace / "trimmed")
        folds = train_folds(setup, deal(rest.paths, count, options.seed, groups))
    parts = split(setup.frames.paths, 0, options.validation, options.seed, groups)
    fitted = _fit(setup, parts.training, parts.validation)
    compared = sorted({path for fold in folds for path in fold.seen} | set(parts.validation))
    recipe, detector, judged, probe = score_proved(
        setup.recipe,
        fitted.model,
        lambda candidate: setup.build_detector(fitted.model, candidate),
        lambda detector, collector: score_frames(detector, compared, setup.tell_share("calibrate"), collector),
    )
    scores = {path: score.score for path, score in judged.items()}
    gains = compute_gains([fold.seen for fold in folds], scores, set(fitted.frames.paths))
    unseen = {
        path: score.scale(gain) for fold, gain in zip(folds, gains, strict=True) for path, score in fold.unseen.items()
    }
    checked = {path: scores[path] for path in parts.validation if path in scores}
    mean = float(np.mean(gains))
    return TrainingOutcome(
        recipe, fitted, detector, probe, parts.validation, (), dict(sorted(unseen.items())), folds, gains, checked,
        {path: score.scale(mean) for path, score in before.items()},
    )  # fmt: skip


def _fit(setup: TrainingSetup, training: Sequence[Path], validation: Sequence[Path]) -> Fitted:
    return fit_network(
        setup.recipe,
        setup.frames.select(set(training)),
        setup.frames.select(set(validation)),
        setup.hashes,
        setup.options,
        setup.device,
        setup.workspace / "checkpoint.pt",
        setup.tell_step("train"),
    )


def conclude(setup: TrainingSetup, outcome: TrainingOutcome, good_dir: Path) -> tuple[Recipe, ScoreRecord]:
    """The recipe with its threshold, and what that rests on.

    Raises:
        TrainingError: too few scores, or a threshold that would not lie above 0.
    """
    options = setup.options
    record = ScoreRecord(
        frames=[_describe(setup, outcome, good_dir, path, score) for path, score in outcome.unseen.items()],
        trimmed=[_describe(setup, outcome, good_dir, path, score) for path, score in outcome.trimmed.items()],
    )
    threshold = compute_threshold(
        record.to_scores()[REST],
        options.false_reject_rate,
        policy=options.policy,
        peaks=record.to_peaks(),
        outliers=not options.keep_outliers,
    )
    if outcome.folds:
        record.checked = [{REST: score} for score in outcome.checked.values()]
        record.cross_validated = _describe_folds(outcome)
        threshold = apply_folds(record, {REST: threshold})
    tell_outliers(record, threshold)
    record.responses, record.n_qualified = _try_defects(setup, outcome, threshold.value)
    update = {"threshold": threshold, "qualification": record.qualify(threshold.value)}
    return outcome.recipe.model_copy(update=update), record


def _try_defects(setup: TrainingSetup, outcome: TrainingOutcome, threshold: float) -> tuple[list[Response], int]:
    """Responses to artificial defects, and on how many good frames: by the network that judges, on frames it never saw.

    Where folds scored the frames those are the few that chose its weights: a fold's network, trained on fewer frames
    for fewer steps, would miss more than this one does.
    """
    scores = outcome.checked or {path: score.score for path, score in outcome.unseen.items()}
    if not setup.options.qualification:
        return [], 0
    plausible = [path for path, score in scores.items() if score <= threshold] or list(scores)
    generator = np.random.default_rng(setup.options.seed)
    return qualify(outcome.detector, plausible, generator, setup.options.qualification, setup.tell_share("qualify"))


def _describe(
    setup: TrainingSetup, outcome: TrainingOutcome, good_dir: Path, path: Path, score: FrameScore
) -> GoodFrame:
    return GoodFrame(
        path=str(path.relative_to(good_dir)),
        sha256=setup.hashes[path],
        scores={REST: score.score},
        peaks=list(score.peaks),
        xy=score.xy,
        fold=outcome.find_fold(path),
    )


def _describe_folds(outcome: TrainingOutcome) -> CrossValidation:
    if not outcome.checked:
        raise TrainingError("good frames: at least one must be left to check the threshold on, got none")
    unseen = {path: score.score for path, score in outcome.unseen.items()}
    return describe_folds([fold.steps for fold in outcome.folds], outcome.gains, unseen, outcome.checked)


def draw_suspects(setup: TrainingSetup, outcome: TrainingOutcome, recipe: Recipe, draw: Draw) -> dict[str, bytes]:
    """JPEG by name of the good frames above the threshold or left out, each as the network that never saw it did."""
    threshold = recipe.threshold
    assert threshold is not None  # noqa: S101 (`conclude` set it)
    above = [path for path, score in outcome.unseen.items() if score.score > threshold.value]
    pictures: dict[str, bytes] = {}
    for path in [*outcome.trimmed, *above]:
        number = outcome.find_fold(path)
        fold = outcome.detector if number is None else outcome.folds[number].detector
        value = threshold.value / (1.0 if number is None else outcome.gains[number])
        by_hand = recipe.model_copy(update={"threshold": Threshold(value=value, method="manual")})
        judge = Detector(by_hand, fold.engine, roi=setup.roi, fixture=setup.fixture)
        pixels, pixel_format = read_image(path)
        picture = draw(pixels, pixel_format, judge.judge(pixels, pixel_format), value)
        pictures[f"{len(pictures):03}-{path.stem[:60]}.jpg"] = cv2.imencode(".jpg", picture)[1].tobytes()
    return pictures
