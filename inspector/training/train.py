"""Training on good frames, and the recipe that comes out of it."""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch

import inspector
from inspector.config import Preprocessing, Recipe, Tiling
from inspector.detection.looks import Look
from inspector.detection.parts import check_aspect
from inspector.device import choose_device
from inspector.errors import TrainingError
from inspector.recipe.masks import read_roi
from inspector.training.data.datasets import FrameSet, list_images, survey
from inspector.training.data.frame_shapes import warn_of_shapes
from inspector.training.data.good_frames import drop_duplicates, name_groups, warn_if_few
from inspector.training.data.record import FoldRecord, HistoryPoint, TrainingRecord
from inspector.training.fixture import NewFixture, build_fixture
from inspector.training.optimise.fitting import compute_digest, describe_weights
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.outcome import (
    Draw,
    TrainingOutcome,
    conclude,
    draw_suspects,
    train_with_folds,
    train_with_holdout,
)
from inspector.training.optimise.schedule import count_steps
from inspector.training.optimise.training_setup import Report, TrainingSetup
from inspector.training.recipe_writer import Extras, check_out, write_recipe

logger = logging.getLogger(__name__)


def train(
    good_dir: Path, out: Path, options: TrainOptions, report: Report = lambda progress: None, draw: Draw | None = None
) -> Recipe:
    """Train on `good_dir`, set the threshold from scores by networks that never saw the frames, write `out`.

    Nothing is written at `out` unless all of it succeeded. Until then the state of training is beside it, in
    `.NAME-training`, for `options.resume`.

    Args:
        good_dir: good frames.
        out: the recipe's folder.
        options: how.
        report: told where it stands.
        draw: draws a frame and its judgement, for the good frames that stand out; None: they are named only.

    Raises:
        TrainingError: too few frames, a loss that is not finite, an `out` that is something else or cannot be
            written, a state that does not fit.
        WeightsError: encoder weights cannot be had.
        RecipeError: a region-of-interest mask that cannot be used.
        DeviceOutOfMemoryError: even the smallest batch does not fit.
    """
    out = out.resolve()
    check_out(out)
    workspace = out.parent / f".{out.name}-training"
    setup, looks, groups, fixture = _prepare(good_dir, out, options, workspace, report)
    _open_workspace(workspace, out, options)
    n_folds = options.choose_folds(len(setup.frames), count_steps(setup.frames, options))
    outcome = train_with_folds(setup, n_folds, groups) if n_folds else train_with_holdout(setup, groups)
    recipe, scores = conclude(setup, outcome, good_dir)
    skipped = set(setup.hashes) - set(setup.frames.paths)
    trimmed = {path for path in setup.frames.paths if path in outcome.trimmed}
    facts = _state_facts(outcome, options) | {
        "n_skipped": len(skipped), "n_trimmed": len(trimmed),
        "digest": compute_digest(outcome.fitted.frames.paths, setup.hashes),
    }  # fmt: skip
    record = TrainingRecord(
        facts=facts,
        options=asdict(options),
        history=[HistoryPoint(**point) for point in outcome.fitted.trainer.state.history],
        frames=_name_hashes(outcome.fitted.frames.paths, setup.hashes, good_dir),
        validation_frames=_name_hashes(outcome.validation, setup.hashes, good_dir),
        held_aside=_name_hashes(outcome.held_aside, setup.hashes, good_dir),
        folds=[
            FoldRecord(frames=_name_hashes(list(fold.unseen), setup.hashes, good_dir), steps=fold.steps)
            for fold in outcome.folds
        ],
        skipped=sorted(str(path.relative_to(good_dir)) for path in skipped),
    )
    recipe = write_recipe(
        recipe.model_copy(update={"training": facts}),
        outcome.fitted.model,
        out,
        Extras(
            roi_mask=options.roi_mask,
            fixture=fixture,
            record=record,
            scores=scores,
            probe=outcome.probe,
            looks=[look for path, look in looks.items() if path not in trimmed],
            pictures=draw_suspects(setup, outcome, recipe, draw) if draw else {},
            folds=[fold.model for fold in outcome.folds],
        ),
    )
    shutil.rmtree(workspace, ignore_errors=True)
    return recipe


def _prepare(
    good_dir: Path, out: Path, options: TrainOptions, workspace: Path, report: Report
) -> tuple[TrainingSetup, dict[Path, Look], dict[Path, str] | None, NewFixture | None]:
    roi = read_roi(options.roi_mask) if options.roi_mask else None
    device = choose_device(options.device)
    # Each frame once, else one trained on could set the threshold; what it is now is what training sees.
    hashes = {path: sha256 for sha256, path in drop_duplicates(list_images(good_dir)).items()}
    preprocessing, looks = survey(
        list(hashes), options.scale, options.mono16_range, options.resize_hw, options.short_side
    )
    warn_if_few(len(looks))
    warn_of_shapes([look.frame_hw for look in looks.values()], preprocessing, options.tile_size)
    groups = name_groups(good_dir, list(looks), options.groups) if options.groups else None
    recipe = _plan_recipe(options, preprocessing, options.recipe_id or out.name)
    if roi is not None:
        check_aspect(roi, "--roi-mask", preprocessing.frame_hw)
    new = build_fixture(Path(options.fixture), looks, preprocessing, roi) if options.fixture else None
    fixture = new.fixture if new else None
    if new:
        recipe = recipe.model_copy(update={"fixture": new.settings})
        looks = {path: looks[path] for path in new.paths}
    frames = FrameSet(list(looks), preprocessing, fixture=fixture)
    return TrainingSetup(recipe, frames, hashes, options, device, roi, workspace, report, fixture), looks, groups, new


def _open_workspace(workspace: Path, out: Path, options: TrainOptions) -> None:
    """Keep what a killed run of the same training left, if that is wanted."""
    if options.resume and not workspace.exists():
        logger.warning("--resume: %s does not exist, training starts from the beginning", workspace)
    elif workspace.exists() and not options.resume:
        logger.warning("an unfinished training of %s is discarded; --resume would have continued it", out)
        shutil.rmtree(workspace)


def _plan_recipe(options: TrainOptions, preprocessing: Preprocessing, recipe_id: str) -> Recipe:
    try:
        return Recipe(
            recipe_id=recipe_id,
            backbone=options.backbone,
            bottleneck_width=options.bottleneck_width,
            student=options.student,
            anomaly_map_mode=options.anomaly_map_mode,
            sigma=options.sigma,
            map_normalisation=options.map_normalisation,
            preprocessing=preprocessing,
            tiling=Tiling(tile_size=options.tile_size, stride=options.stride or options.tile_size),
            encoder_weights=describe_weights(options.encoder_weights),
            versions=collect_versions(),
            weights_sha256="0" * 64,  # until they are written
        )
    except ValueError as error:
        raise TrainingError(f"options: {error}") from error


def collect_versions() -> dict[str, str]:
    """Versions of inspector, Python and the libraries that a recipe was made with."""
    return {
        "inspector": inspector.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def _state_facts(outcome: TrainingOutcome, options: TrainOptions) -> dict[str, Any]:
    trainer, frames = outcome.fitted.trainer, outcome.fitted.frames
    state = trainer.state
    return {
        "steps": state.step,
        "tiles_seen": state.tiles_seen,
        "epochs": round(state.tiles_seen / outcome.fitted.tiles_per_epoch, 3),
        "seconds": round(state.seconds, 1),
        "stopped_by": outcome.fitted.reason,
        "final_loss": round(float(state.history[-1]["loss"]), 6),
        "validation_loss": round(trainer.kept_validation_loss, 6),
        "n_train": len(frames),
        "seed": options.seed,
        "batch_size": state.batch_size,
        "learning_rate": options.learning_rate,
        "schedule": options.schedule,
        "average_decay": options.average_decay,
        "pseudo_defect_share": options.pseudo_defect_share,
        "keep": options.keep,
        "precision": trainer.precision,
    }


def _name_hashes(paths: Sequence[Path], hashes: Mapping[Path, str], folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashes[path] for path in sorted(paths)}
