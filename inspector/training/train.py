"""Training on good frames, and the recipe that comes out of it."""

from __future__ import annotations

import hashlib
import itertools
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import timm
import torch

import inspector
from inspector.config import RECIPE_FILE, WEIGHTS_FILE, Preprocessing, Recipe, Tiling, dump_recipe
from inspector.detector import Detector, build_model, choose_device, normalise
from inspector.errors import TrainingError
from inspector.masks import read_roi
from inspector.model import MapNormalisation, ReverseDistillation, ReverseDistillationLoss
from inspector.model.checkpoint import compute_sha256, save_weights
from inspector.model.encoder import PRETRAINED, load_encoder_weights
from inspector.training.calibrate import adopt_roi, score_frames, warn_of_outliers
from inspector.training.datasets import FrameSet, infer_preprocessing, list_images, split
from inspector.training.thresholds import compute_threshold

_OFFICIAL_STEPS = 3000
"""The official 200 epochs on an MVTec category of 240 images, in steps of 16."""

_NORMALISATION_TILES = 256
"""Good tiles that the expected distances are measured on: their mean is then known to a sixteenth of the deviation."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What can be chosen. Training ends at the first of epochs, steps and minutes that is reached.

    An epoch is as many random tiles as a gapless grid over all training frames has.
    """

    backbone: str = "resnet18"
    encoder_weights: str = PRETRAINED
    tile_size: int = 256
    stride: int | None = None
    scale: float = 1.0
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 0.005
    device: str = "auto"
    seed: int = 0
    bottleneck_width: Literal["official", "anomalib"] = "official"
    anomaly_map_mode: Literal["add", "multiply"] = "add"
    sigma: float = 4.0
    map_normalisation: Literal["none", "position"] = "position"
    holdout: float = 0.2
    false_reject_rate: float = 0.01
    mono16_range: tuple[int, int] = (0, 65_535)
    roi_mask: Path | None = None
    recipe_id: str | None = None


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

    Nothing is written unless all of it succeeded.

    Raises:
        TrainingError: too few frames, a loss that is not finite, an `out` that is something else.
        WeightsError: encoder weights cannot be had.
        RecipeError: a region-of-interest mask that cannot be used.
    """
    _check_out(out)
    roi = read_roi(options.roi_mask) if options.roi_mask else None
    device = choose_device(options.device)
    torch.manual_seed(options.seed)
    paths = list_images(good_dir)
    training_paths, aside = split(paths, options.holdout, options.seed)
    preprocessing = infer_preprocessing(paths, options.scale, options.mono16_range)
    recipe = _plan_recipe(options, preprocessing, options.recipe_id or out.resolve().name)
    frames = FrameSet(training_paths, preprocessing)
    model = _build(recipe, options)
    model.to(device).to(memory_format=torch.channels_last)
    facts = _optimise(model, frames, preprocessing, options, device, report)
    detector = Detector(recipe, model, device=device, roi=roi)

    def calibrating(done: int, total: int) -> None:
        report(TrainingProgress("calibrate", done / total))

    scores = score_frames(detector, aside, calibrating)
    threshold = compute_threshold(list(scores.values()), options.false_reject_rate)
    warn_of_outliers(scores)
    recipe = recipe.model_copy(
        update={
            "threshold": threshold,
            "training": facts
            | {
                "n_train": len(frames),
                "n_skipped": len(frames.skipped),
                "held_aside": [path.name for path in aside],
                "digest": _digest(frames.paths),
                "seed": options.seed,
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
            },
        }
    )
    return write_recipe(recipe, model, out, options.roi_mask)


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
            encoder_weights=_describe_weights(options.encoder_weights),
            versions={
                "inspector": inspector.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "timm": timm.__version__,
                "opencv": cv2.__version__,
                "numpy": np.__version__,
            },
            weights_sha256="0" * 64,  # until they are written
        )
    except ValueError as error:
        raise TrainingError(f"options: {error}") from error


def _describe_weights(weights: str) -> str:
    path = Path(weights)
    return f"{path.name} sha256:{compute_sha256(path)[:16]}" if path.is_file() else weights


def _build(recipe: Recipe, options: TrainOptions) -> ReverseDistillation:
    if options.encoder_weights != PRETRAINED:
        model = build_model(recipe)
        load_encoder_weights(model.encoder, options.encoder_weights)
        return model
    side = recipe.tiling.tile_size
    return ReverseDistillation(
        recipe.backbone,
        (side, side),
        anomaly_map_mode=recipe.anomaly_map_mode,
        sigma=recipe.sigma,
        bottleneck_width=recipe.bottleneck_width,
        map_normalisation=recipe.map_normalisation,
    )


def _optimise(
    model: ReverseDistillation,
    frames: FrameSet,
    preprocessing: Preprocessing,
    options: TrainOptions,
    device: torch.device,
    report: Report,
) -> dict[str, float | int]:
    batches = _draw_batches(frames, preprocessing, options, device)
    loss_function = ReverseDistillationLoss()
    optimiser = torch.optim.Adam(model.trained_parameters(), lr=options.learning_rate, betas=(0.5, 0.999))
    model.train()
    last_step = _count_steps(frames, options)
    started = time.monotonic()
    step, loss_value, share = 0, math.nan, 0.0
    while share < 1:
        loss = loss_function(*model.features(next(batches)))
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise TrainingError(f"loss: must be finite, got {loss_value} at step {step + 1}; nothing was written")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        seconds = time.monotonic() - started
        share = max(step / last_step, seconds / (60 * options.minutes) if options.minutes else 0.0)
        rate = step * options.batch_size / max(seconds, 1e-9)
        report(TrainingProgress("train", min(share, 1.0), step, loss_value, rate))
    model.eval()
    if model.anomaly_map.normalisation is MapNormalisation.POSITION:
        model.fit_normalisation(itertools.islice(batches, max(1, _NORMALISATION_TILES // options.batch_size)))
    tiles = step * options.batch_size
    return {
        "steps": step,
        "tiles_seen": tiles,
        "epochs": round(tiles / frames.count_tiles(options.tile_size), 3),
        "seconds": round(time.monotonic() - started, 1),
        "final_loss": round(loss_value, 6),
    }


def _draw_batches(
    frames: FrameSet, preprocessing: Preprocessing, options: TrainOptions, device: torch.device
) -> Iterator[torch.Tensor]:
    """Random tiles, ready for the network, without end."""
    generator = torch.Generator().manual_seed(options.seed)
    while True:
        tiles = frames.draw_tiles(options.batch_size, options.tile_size, generator).to(device)
        yield normalise(tiles, preprocessing).contiguous(memory_format=torch.channels_last)


def _count_steps(frames: FrameSet, options: TrainOptions) -> float:
    per_epoch = math.ceil(frames.count_tiles(options.tile_size) / options.batch_size)
    limits = [limit for limit in (options.steps, options.epochs and options.epochs * per_epoch) if limit]
    if limits:
        return min(limits)
    return math.inf if options.minutes else _OFFICIAL_STEPS


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{compute_sha256(path)}\n".encode())
    return digest.hexdigest()


def _check_out(out: Path) -> None:
    if out.exists() and not (out / RECIPE_FILE).is_file() and (out.is_file() or any(out.iterdir())):
        raise TrainingError(f"--out: must be a new folder or a recipe to replace, got {out}")


def write_recipe(recipe: Recipe, model: ReverseDistillation, out: Path, roi_mask: Path | None = None) -> Recipe:
    """Write weights, mask and recipe.yaml beside `out`, then swap them in: never half a recipe."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        recipe = recipe.model_copy(update={"weights_sha256": save_weights(model, new / WEIGHTS_FILE)})
        if roi_mask is not None:
            recipe = adopt_roi(recipe, roi_mask, new)
        (new / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
        new.chmod(0o755)
        _swap(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return recipe


def _swap(new: Path, out: Path) -> None:
    """Put folder `new` in the place of `out`; what was there comes back if that fails."""
    if not out.exists():
        new.rename(out)
        return
    # A folder of its own each time: what a killed run left behind must not stop this one.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        old = out.rename(aside / out.name)
        try:
            new.rename(out)
        except OSError:
            old.rename(out)
            raise
    finally:
        if out.exists():  # else what is aside is the only copy
            shutil.rmtree(aside, ignore_errors=True)
