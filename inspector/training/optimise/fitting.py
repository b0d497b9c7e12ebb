"""One network fitted to some good frames: the one that judges, or a fold's."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inspector.config import Preprocessing, Recipe
from inspector.detection.preprocessing import normalise
from inspector.detection.tiling import Tiler
from inspector.files import compute_sha256
from inspector.model import MapNormalisation, ReverseDistillation
from inspector.model.encoder import PRETRAINED, load_encoder_weights
from inspector.recipe.network import build_model
from inspector.training.data.datasets import FrameSet
from inspector.training.data.tiles import TileStream
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.trainer import StepReport, StopReason, Trainer

_NORMALISATION_TILES = 256
"""Good tiles that the expected distances are measured on: their mean is then known to a sixteenth of the deviation."""
_NORMALISATION_BATCH = 8

_VALIDATION_TILES = 64

FREE_OPTIONS = frozenset({
    "resume", "device", "recipe_id", "roi_mask", "false_reject_rate", "policy", "trim", "keep_outliers",
    "qualification", "holdout", "folds",
})  # fmt: skip
"""What may be another when a run is resumed: frames are compared by themselves."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A network that has been fitted, and how."""

    model: ReverseDistillation
    trainer: Trainer
    frames: FrameSet
    tiles_per_epoch: int
    reason: StopReason


def fit_network(
    recipe: Recipe,
    frames: FrameSet,
    validation: FrameSet,
    hashes: Mapping[Path, str],
    options: TrainOptions,
    device: torch.device,
    checkpoint: Path,
    report: Callable[[StepReport], None],
) -> Fitted:
    """Train on `frames`, and measure what good tiles show where the recipe's maps are normalised by it.

    Args:
        recipe: what the network is like.
        frames: trained on.
        validation: the weights kept are those of the lowest loss on these; `frames` where none can be spared.
        hashes: SHA-256 of each frame.
        options: how; with `resume` it goes on from the checkpoint, where there is one.
        device: where.
        checkpoint: file for its state.
        report: called after each step.

    Raises:
        TrainingError: a loss that is not finite, a checkpoint that does not fit.
        WeightsError: encoder weights cannot be had.
        DeviceOutOfMemoryError: even the smallest batch does not fit.
    """
    torch.manual_seed(options.seed)
    stream = TileStream(frames, options.tile_size, options.seed, options.pseudo_defect_share)
    model = build_network(recipe, options.encoder_weights)
    tiles = _cut_evenly(validation, options.tile_size)
    identity = _identify(options, compute_digest(frames.paths, hashes))
    trainer = Trainer(model, stream, tiles, recipe.preprocessing, options, device, identity)
    if options.resume and checkpoint.is_file():
        trainer.load(checkpoint)
    reason = trainer.run(report, checkpoint)
    if model.anomaly_map.normalisation is MapNormalisation.POSITION:
        batch_size = min(_NORMALISATION_BATCH, trainer.state.batch_size)
        fit_normalisation(model, frames, options, recipe.preprocessing, device, batch_size)
    return Fitted(model, trainer, frames, stream.tiles_per_epoch, reason)


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


def describe_weights(weights: str) -> str:
    """A weights file's name and the start of its SHA-256; anything else as it is."""
    path = Path(weights)
    return f"{path.name} sha256:{compute_sha256(path)[:16]}" if path.is_file() else weights


def compute_digest(paths: Sequence[Path], hashes: Mapping[Path, str]) -> str:
    """SHA-256 over the names and contents of frames."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{hashes[path]}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _identify(options: TrainOptions, digest: str) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    chosen = {name: value for name, value in asdict(options).items() if name not in FREE_OPTIONS}
    return {**chosen, "encoder_weights": describe_weights(options.encoder_weights), "frames": digest}


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
