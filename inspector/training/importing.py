"""Recipes out of other programs' Reverse Distillation checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inspector.config import Normalisation, Preprocessing, Recipe, Tiling
from inspector.errors import CheckpointError
from inspector.files import compute_sha256
from inspector.model import AnomalyMapMode, ReverseDistillation
from inspector.model.encoder import NO_WEIGHTS, PRETRAINED
from inspector.model.foreign import (
    CheckpointFormat,
    ForeignCheckpoint,
    fill_network,
    find_architecture,
    load_checkpoint,
)
from inspector.recipe.network import build_model
from inspector.training.optimise.fitting import build_network, describe_weights
from inspector.training.recipe_writer import check_out, write_recipe
from inspector.training.train import collect_versions
from inspector.types import PixelFormat


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What can be chosen; what is None is taken from the checkpoint.

    `encoder_weights` (pretrained or a file) is for checkpoints without an encoder, and only for them.
    """

    format: CheckpointFormat | None = None
    backbone: str | None = None
    encoder_weights: str | None = None
    tile_size: int = 256
    stride: int | None = None
    scale: float = 1.0
    resize_hw: tuple[int, int] | None = None
    short_side: int | None = None
    anomaly_map_mode: Literal["add", "multiply"] | None = None
    pixel_format: PixelFormat = PixelFormat.RGB8
    mono16_range: tuple[int, int] = (0, 65_535)
    recipe_id: str | None = None


def import_checkpoint(path: Path, out: Path, options: ImportOptions) -> Recipe:
    """Turn a checkpoint into the recipe folder `out`, which has no threshold yet.

    Raises:
        CheckpointError: the checkpoint, or an option that does not go with it, cannot be used.
        WeightsError: encoder weights cannot be had.
        TrainingError: an `out` that is something else.
    """
    out = out.resolve()
    check_out(out)
    checkpoint = load_checkpoint(path, options.format)
    encoder_weights = _choose_encoder(checkpoint, options.encoder_weights)
    recipe = _plan_recipe(checkpoint, options, encoder_weights, options.recipe_id or out.name)
    model = _build(recipe, checkpoint, encoder_weights)
    return write_recipe(recipe, model, out)


def _choose_encoder(checkpoint: ForeignCheckpoint, wanted: str | None) -> str | None:
    """Where the encoder's weights come from, None: from the checkpoint."""
    if checkpoint.encoder is not None:
        if wanted is not None:
            raise CheckpointError(
                f"{checkpoint.path}: --encoder-weights: must be left out, since the checkpoint contains the "
                "encoder its "
                f"student was trained on, got {wanted}"
            )
        return None
    if wanted == NO_WEIGHTS:
        raise CheckpointError(
            f"{checkpoint.path}: --encoder-weights: must be the weights its student was trained on, got {wanted}"
        )
    return wanted or PRETRAINED


def _plan_recipe(
    checkpoint: ForeignCheckpoint, options: ImportOptions, encoder_weights: str | None, recipe_id: str
) -> Recipe:
    backbone, width = find_architecture(checkpoint, options.backbone)
    try:
        return Recipe(
            recipe_id=recipe_id,
            backbone=backbone,
            bottleneck_width=width.value,
            anomaly_map_mode=_choose_mode(checkpoint, options.anomaly_map_mode).value,
            sigma=checkpoint.sigma,
            map_normalisation="none",  # neither program has another
            preprocessing=Preprocessing(
                pixel_format=options.pixel_format,
                scale=options.scale,
                resize_hw=options.resize_hw,
                short_side=options.short_side,
                mono16_range=options.mono16_range,
                normalisation=_plan_normalisation(checkpoint),
            ),
            tiling=Tiling(tile_size=options.tile_size, stride=options.stride or options.tile_size),
            encoder_weights=describe_weights(encoder_weights or str(checkpoint.path)),
            training={
                "imported_from": checkpoint.path.name,
                "format": checkpoint.format.value,
                "sha256": compute_sha256(checkpoint.path),
            },
            versions=collect_versions(),
            weights_sha256="0" * 64,  # until they are written
        )
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: cannot be made into a recipe: {error}") from error


def _plan_normalisation(checkpoint: ForeignCheckpoint) -> Normalisation:
    """The checkpoint's; ImageNet's, both programs' default, where it says nothing."""
    if checkpoint.normalisation is None:
        return Normalisation()
    mean, std = checkpoint.normalisation
    return Normalisation(mean=mean, std=std)


def _choose_mode(checkpoint: ForeignCheckpoint, wanted: str | None) -> AnomalyMapMode:
    mode = wanted or checkpoint.anomaly_map_mode
    if mode not in tuple(AnomalyMapMode):
        raise CheckpointError(
            f"{checkpoint.path}: --anomaly-map-mode: must be given as add or multiply, the checkpoint says {mode}"
        )
    return AnomalyMapMode(mode)


def _build(recipe: Recipe, checkpoint: ForeignCheckpoint, encoder_weights: str | None) -> ReverseDistillation:
    model = build_model(recipe) if encoder_weights is None else build_network(recipe, encoder_weights)
    fill_network(model, checkpoint)
    return model.eval()
