"""Training on good frames, and the recipe that comes out of it."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import timm
import torch
from torch import Tensor

import inspector
from inspector.config import Preprocessing, Recipe, Tiling
from inspector.detector import Detector
from inspector.device import choose_device
from inspector.engine.build import build_engine
from inspector.errors import TrainingError
from inspector.masks import check_aspect, read_roi
from inspector.model import MapNormalisation, ReverseDistillation
from inspector.model.checkpoint import compute_sha256
from inspector.model.encoder import PRETRAINED, load_encoder_weights
from inspector.preprocessing import normalise
from inspector.recipe_network import build_model
from inspector.tiling import Tiler
from inspector.training.calibrate import score_frames, warn_of_outliers
from inspector.training.datasets import FrameSet, list_images, split, survey
from inspector.training.frame_shapes import warn_of_shapes
from inspector.training.good_frames import drop_duplicates, name_groups, warn_if_few
from inspector.training.options import TrainOptions
from inspector.training.proving import score_proved
from inspector.training.recipe_writer import check_out, write_recipe
from inspector.training.record import HistoryPoint, TrainingRecord
from inspector.training.thresholds import compute_threshold
from inspector.training.tiles import TileStream
from inspector.training.trainer import StepReport, StopReason, Trainer

logger = logging.getLogger(__name__)

_NORMALISATION_TILES = 256
"""Good tiles that the expected distances are measured on: their mean is then known to a sixteenth of the deviation."""
_NORMALISATION_BATCH = 8

_VALIDATION_TILES = 64


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where training stands. `share` is of the nearest limit, 0 to 1."""

    stage: Literal["train", "calibrate"]
    share: float
    steps: int = 0
    loss: float = math.nan
    tiles_per_second: float = math.nan


Report = Callable[[TrainingProgress], None]


def train(good_dir: Path, out: Path, options: TrainOptions, report: Report = lambda progress: None) -> Recipe:
    """Train on `good_dir`, calibrate on the frames kept aside, write the recipe folder `out`.

    Nothing is written at `out` unless all of it succeeded. Until then the state of training is beside it, in
    `.NAME-training`, for `options.resume`.

    Raises:
        TrainingError: too few frames, a loss that is not finite, an `out` that is something else or cannot be
            written, a state that does not fit.
        WeightsError: encoder weights cannot be had.
        RecipeError: a region-of-interest mask that cannot be used.
        DeviceOutOfMemoryError: even the smallest batch does not fit.
    """
    out = out.resolve()
    check_out(out)
    roi = read_roi(options.roi_mask) if options.roi_mask else None
    device = choose_device(options.device)
    torch.manual_seed(options.seed)
    # Each frame once, else one trained on could set the threshold; what it is now is what training sees.
    hashes = {path: sha256 for sha256, path in drop_duplicates(list_images(good_dir)).items()}
    preprocessing, looks = survey(
        list(hashes), options.scale, options.mono16_range, options.resize_hw, options.short_side
    )
    usable = list(looks)
    warn_if_few(len(usable))
    warn_of_shapes([look.frame_hw for look in looks.values()], preprocessing, options.tile_size)
    groups = name_groups(good_dir, usable, options.groups) if options.groups else None
    parts = split(usable, options.holdout, options.validation, options.seed, groups)
    recipe = _plan_recipe(options, preprocessing, options.recipe_id or out.name)
    if roi is not None:
        check_aspect(roi, "--roi-mask", preprocessing.frame_hw)
    frames = FrameSet(parts.training, preprocessing)
    validation = FrameSet(parts.validation, preprocessing, cache_bytes=0)  # cut into tiles once
    stream = TileStream(frames, options.tile_size, options.seed, options.pseudo_defect_share)
    model = build_network(recipe, options.encoder_weights)
    tiles = _cut_evenly(validation, options.tile_size)
    digest = _digest(frames.paths, hashes)
    trainer = Trainer(model, stream, tiles, preprocessing, options, device, _identify(options, digest))
    checkpoint = out.parent / f".{out.name}-training" / "checkpoint.pt"
    _resume(trainer, checkpoint, out, options)
    reason = trainer.run(lambda step: _forward(step, report), checkpoint)
    if model.anomaly_map.normalisation is MapNormalisation.POSITION:
        batch_size = min(_NORMALISATION_BATCH, trainer.state.batch_size)
        fit_normalisation(model, frames, options, preprocessing, device, batch_size)
    recipe, _, scores, probe = score_proved(
        recipe,
        model,
        lambda candidate: Detector(
            candidate, build_engine(candidate, lambda: model, device=device, proved=False), roi=roi
        ),
        lambda detector, collector: score_frames(
            detector, parts.calibration, lambda done, n: report(TrainingProgress("calibrate", done / n)), collector
        ),
    )
    threshold = compute_threshold(list(scores.values()), options.false_reject_rate)
    warn_of_outliers(scores)
    skipped = set(hashes) - {*frames.paths, *validation.paths, *scores}
    facts = _state_facts(trainer, stream, frames, options, reason) | {"n_skipped": len(skipped), "digest": digest}
    recipe = recipe.model_copy(update={"threshold": threshold, "training": facts})
    record = TrainingRecord(
        facts=facts,
        options=asdict(options),
        history=[HistoryPoint(**point) for point in trainer.state.history],
        frames=_name_hashes(frames.paths, hashes, good_dir),
        validation_frames=_name_hashes(validation.paths, hashes, good_dir),
        held_aside=_name_hashes(list(scores), hashes, good_dir),
        skipped=sorted(str(path.relative_to(good_dir)) for path in skipped),
    )
    recipe = write_recipe(recipe, model, out, options.roi_mask, record, probe, list(looks.values()))
    shutil.rmtree(checkpoint.parent, ignore_errors=True)
    return recipe


def _plan_recipe(options: TrainOptions, preprocessing: Preprocessing, recipe_id: str) -> Recipe:
    try:
        return Recipe(
            recipe_id=recipe_id,
            backbone=options.backbone,
            bottleneck_width=options.bottleneck_width,
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
    """What a recipe was made with."""
    return {
        "inspector": inspector.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def describe_weights(weights: str) -> str:
    """A weights file's name and the start of its SHA-256; anything else as it is."""
    path = Path(weights)
    return f"{path.name} sha256:{compute_sha256(path)[:16]}" if path.is_file() else weights


def build_network(recipe: Recipe, encoder_weights: str) -> ReverseDistillation:
    """The recipe's network with a random student and the encoder of `encoder_weights`: pretrained, none or a file.

    Raises:
        WeightsError: encoder weights cannot be had or do not fit.
    """
    if encoder_weights != PRETRAINED:
        model = build_model(recipe)
        load_encoder_weights(model.encoder, encoder_weights)
        return model
    return build_model(recipe, pre_trained=True)


def _cut_evenly(frames: FrameSet, tile_size: int) -> list[Tensor]:
    """Tiles of gapless grids over the frames, at most `_VALIDATION_TILES`, from all over them."""
    grids = [Tiler(tile_size, tile_size).grid(size) for size in frames.sizes]
    places = [(frame, index) for frame, grid in enumerate(grids) for index in range(len(grid))]
    chosen = places[:: math.ceil(len(places) / _VALIDATION_TILES)]
    return [
        grids[frame].tile(image, index, index + 1)[0].clone()  # not a view that keeps the frame
        for frame, of_frame in itertools.groupby(chosen, key=lambda place: place[0])
        for image in [frames[frame]]
        for _, index in of_frame
    ]


def _resume(trainer: Trainer, checkpoint: Path, out: Path, options: TrainOptions) -> None:
    """Go on where a killed run of the same training stood, if that is wanted."""
    if not checkpoint.is_file():
        if options.resume:
            logger.warning("--resume: %s is not there, training starts from the beginning", checkpoint)
    elif options.resume:
        trainer.load(checkpoint)
    else:
        logger.warning("an unfinished training of %s is dropped; --resume would have gone on from it", out)
        checkpoint.unlink()


def _identify(options: TrainOptions, digest: str) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    free = {"resume", "device", "recipe_id", "roi_mask", "false_reject_rate"}
    chosen = {name: value for name, value in asdict(options).items() if name not in free}
    return {**chosen, "encoder_weights": describe_weights(options.encoder_weights), "frames": digest}


def _forward(step: StepReport, report: Report) -> None:
    report(TrainingProgress("train", step.share, step.step, step.loss, step.tiles_per_second))


def fit_normalisation(
    model: ReverseDistillation,
    frames: FrameSet,
    options: TrainOptions,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int = _NORMALISATION_BATCH,
) -> None:
    """Measure what good tiles show at each place, for `map_normalisation: position`; the model is in eval mode."""
    stream = TileStream(frames, options.tile_size, options.seed)
    batches = itertools.islice(stream.load(0, batch_size, device), _NORMALISATION_TILES // batch_size)
    model.fit_normalisation(normalise(batch.clean.to(device), preprocessing) for batch in batches)


def _state_facts(
    trainer: Trainer, stream: TileStream, frames: FrameSet, options: TrainOptions, reason: StopReason
) -> dict[str, Any]:
    state = trainer.state
    return {
        "steps": state.step,
        "tiles_seen": state.tiles_seen,
        "epochs": round(state.tiles_seen / stream.tiles_per_epoch, 3),
        "seconds": round(state.seconds, 1),
        "stopped_by": reason,
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


def _digest(paths: Sequence[Path], hashes: Mapping[Path, str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{hashes[path]}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
