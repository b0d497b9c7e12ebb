"""`inspector train`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inspector.cli.options import Device, RoiMask
from inspector.cli.progress import show_progress

if TYPE_CHECKING:
    from inspector.config import Recipe, Threshold


def train(
    good_dir: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="Folder of good frames.")],
    out: Annotated[Path, typer.Option(help="The recipe folder to write.")],
    backbone: Annotated[str, typer.Option(help="resnet18 … wide_resnet101_2; a timm tag may follow.")] = "resnet18",
    encoder_weights: Annotated[str, typer.Option(help="pretrained, none, or a .pth/.safetensors file.")] = "pretrained",
    tile_size: Annotated[int, typer.Option(min=32, help="Tile side in pixels, a multiple of 32.")] = 256,
    stride: Annotated[int | None, typer.Option(min=1, help="Step between tiles; the tile size by default.")] = None,
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Frames are shrunk by this before tiling.")] = 1.0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many batches (3000 if no limit).")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after so long.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Tiles per step.")] = 16,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    bottleneck_width: Annotated[Literal["official", "anomalib"], typer.Option(help="Whose student.")] = "official",
    holdout: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of frames kept for calibration.")] = 0.2,
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target for the threshold.")] = 0.01,
    sigma: Annotated[float, typer.Option(min=0, help="Of the map's Gaussian, in tile pixels.")] = 4.0,
    anomaly_map_mode: Annotated[Literal["add", "multiply"], typer.Option(help="How layers are fused.")] = "add",
    map_normalisation: Annotated[
        Literal["position", "none"],
        typer.Option(help="Distances relative to what good tiles show there, or the paper's (multiply needs these)."),
    ] = "position",
    mono16_range: Annotated[tuple[int, int], typer.Option(help="Black and white of 16-bit frames.")] = (0, 65_535),
    roi_mask: RoiMask = None,
    recipe_id: Annotated[str | None, typer.Option(help="Name of the recipe; the folder's by default.")] = None,
) -> None:
    """Train on good frames and calibrate on those kept aside: one command gives a usable recipe."""
    from inspector.training.train import TrainingProgress, TrainOptions
    from inspector.training.train import train as run_training

    options = TrainOptions(
        backbone=backbone,
        encoder_weights=encoder_weights,
        tile_size=tile_size,
        stride=stride,
        scale=scale,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        batch_size=batch_size,
        device=device,
        seed=seed,
        bottleneck_width=bottleneck_width,
        anomaly_map_mode=anomaly_map_mode,
        sigma=sigma,
        map_normalisation=map_normalisation,
        holdout=holdout,
        false_reject_rate=false_reject_rate,
        mono16_range=mono16_range,
        roi_mask=roi_mask,
        recipe_id=recipe_id,
    )
    with show_progress() as update:

        def report(progress: TrainingProgress) -> None:
            text = f"step {progress.steps} loss {progress.loss:.4f} {progress.tiles_per_second:.1f} tiles/s"
            update(progress.stage, progress.share, text if progress.stage == "train" else "")

        recipe = run_training(good_dir, out, options, report)
    show_recipe(recipe, out)


def show_recipe(recipe: Recipe, folder: Path) -> None:
    threshold = recipe.threshold
    typer.echo(f"recipe {recipe.recipe_id} in {folder}")
    if recipe.training:
        facts = recipe.training
        typer.echo(f"trained: {facts['steps']} steps, {facts['tiles_seen']} tiles, {facts['seconds']} s")
    if threshold is not None:
        for line in describe_threshold(threshold, len(recipe.zones)):
            typer.echo(line)
    if recipe.min_region_area > 1:
        typer.echo(f"minimum region area {recipe.min_region_area} pixels of the map")
    for zone in recipe.zones:
        if zone.threshold is not None:
            typer.echo(f"zone {zone.name}: threshold {zone.threshold.value:.5g} ({zone.threshold.method})")


def describe_threshold(threshold: Threshold, zones: int = 0) -> Iterator[str]:
    """Lines that say how it was set and what the frames show of it."""
    line = f"threshold {threshold.value:.5g} ({threshold.method}, {threshold.n_good} good frames never trained on)"
    if threshold.false_reject_bound is not None:
        line += f"; false rejects at most {threshold.false_reject_bound:.1%} at 95 % confidence"
    yield line
    target = threshold.target_false_reject_rate
    if target is not None and threshold.n_good * target < 1 + zones:
        # (1 - rate)^n = 0.05, in each of the parts that share the target and the doubt: about 3 / target for one.
        needed = math.ceil(math.log(20 * (1 + zones)) * (1 + zones) / target)
        yield (
            f"  {threshold.n_good} good frames cannot show less; for the target of {100 * target:.3g}% at least "
            f"{needed} with no reject are needed, so the threshold extrapolates"
        )
    if threshold.tail is not None:
        low, high = threshold.tail.rate_interval
        yield f"  by the fitted tail, {low:.2%} to {high:.2%} of good frames score above it; that is no bound"
    if threshold.warn_above is not None:
        yield f"  warns above {threshold.warn_above:.5g}"
    if threshold.groups is not None:
        groups = threshold.groups
        yield (
            f"  groups left out in turn: {groups.false_reject_rate:.1%} rejected ({groups.interval[0]:.1%} to "
            f"{groups.interval[1]:.1%}); worst {groups.worst_group} with {groups.worst_false_reject_rate:.1%}"
        )
    if threshold.escape_rate is not None:
        low, high = threshold.escape_interval or (0.0, 1.0)
        yield (
            f"escapes: {threshold.escape_rate:.1%} of {threshold.n_defective} defective frames "
            f"({low:.1%} to {high:.1%} at 95 % confidence)"
        )
