"""`inspector train`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inspector.cli.options import (
    Device,
    Mono16Range,
    RecipeId,
    Resize,
    RoiMask,
    Scale,
    ShortSide,
    Stride,
    TileSize,
    check_backbone,
    check_stride,
)
from inspector.cli.progress import show_progress

if TYPE_CHECKING:
    from inspector.config import ExpectedFrames, Recipe, Threshold


def train(
    good_dir: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="Folder of good frames.")],
    out: Annotated[Path, typer.Option(help="The recipe folder to write.")],
    backbone: Annotated[
        str, typer.Option(callback=check_backbone, help="resnet18 … wide_resnet101_2; a timm tag may follow.")
    ] = "resnet18",
    encoder_weights: Annotated[str, typer.Option(help="pretrained, none, or a .pth/.safetensors file.")] = "pretrained",
    tile_size: TileSize = 256,
    stride: Stride = None,
    scale: Scale = 1.0,
    resize: Resize = None,
    short_side: ShortSide = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many batches (3000 if no limit).")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after so long.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many validations without gain.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where a killed run of the same options stood.")] = False,
    batch_size: Annotated[int, typer.Option(min=2, help="Tiles per step.")] = 16,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1, help="Adam's; the schedule's peak.")] = 0.005,
    reference: Annotated[bool, typer.Option(help="The paper's training and maps: none of the gains below.")] = False,
    schedule: Annotated[
        Literal["onecycle", "constant"] | None, typer.Option(help="Of the learning rate; onecycle by default.")
    ] = None,
    average_decay: Annotated[
        float | None, typer.Option(min=0, max=0.9999, help="Of the weights' moving average, 0.98 by default; 0: none.")
    ] = None,
    pseudo_defects: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of tiles shown with a made-up defect, 0.5 by default.")
    ] = None,
    map_normalisation: Annotated[
        Literal["position", "none"] | None,
        typer.Option(help="Distances relative to what good tiles show there (default), or the paper's."),
    ] = None,
    keep: Annotated[
        Literal["best", "last"] | None, typer.Option(help="Weights of the lowest validation loss (default), or last.")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None, typer.Option(help="Of training; auto is bf16 where it is native.")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    bottleneck_width: Annotated[Literal["official", "anomalib"], typer.Option(help="Whose student.")] = "official",
    holdout: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of frames kept for calibration.")] = 0.2,
    validation: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share kept for the validation loss.")] = 0.1,
    groups: Annotated[
        str | None,
        typer.Option(help="Lots stay together: `folder`, or a regular expression with one group over the path."),
    ] = None,
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target for the threshold.")] = 0.01,
    sigma: Annotated[float, typer.Option(min=0, help="Of the map's Gaussian, in tile pixels.")] = 4.0,
    anomaly_map_mode: Annotated[
        Literal["add", "multiply"], typer.Option(help="How layers are fused; multiply needs map normalisation none.")
    ] = "add",
    mono16_range: Mono16Range = (0, 65_535),
    roi_mask: RoiMask = None,
    recipe_id: RecipeId = None,
) -> None:
    """Train on good frames and calibrate on those kept aside: one command gives a usable recipe."""
    from inspector.training.options import REFERENCE, TrainOptions
    from inspector.training.train import TrainingProgress
    from inspector.training.train import train as run_training

    check_stride(stride, tile_size)
    gains = {
        "schedule": schedule,
        "average_decay": average_decay,
        "pseudo_defect_share": pseudo_defects,
        "map_normalisation": map_normalisation,
        "keep": keep,
        "precision": precision,
    }
    chosen = {name: value for name, value in gains.items() if value is not None}
    options = TrainOptions(
        backbone=backbone,
        encoder_weights=encoder_weights,
        tile_size=tile_size,
        stride=stride,
        scale=scale,
        resize_hw=resize,
        short_side=short_side,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        patience=patience,
        resume=resume,
        batch_size=batch_size,
        learning_rate=learning_rate,
        device=device,
        seed=seed,
        bottleneck_width=bottleneck_width,
        anomaly_map_mode=anomaly_map_mode,
        sigma=sigma,
        holdout=holdout,
        validation=validation,
        groups=groups,
        false_reject_rate=false_reject_rate,
        mono16_range=mono16_range,
        roi_mask=roi_mask,
        recipe_id=recipe_id,
        **((REFERENCE if reference else {}) | chosen),
    )
    with show_progress() as update:

        def report(progress: TrainingProgress) -> None:
            text = f"step {progress.steps} loss {progress.loss:.4f} {progress.tiles_per_second:.1f} tiles/s"
            update(progress.stage, progress.share, text if progress.stage == "train" else "")

        recipe = run_training(good_dir, out, options, report)
    show_recipe(recipe, out)


def show_recipe(recipe: Recipe, folder: Path) -> None:
    from inspector.config import list_doubts

    threshold = recipe.threshold
    typer.echo(f"recipe {recipe.recipe_id} in {folder}")
    facts = recipe.training
    if "imported_from" in facts:
        typer.echo(f"imported: from {facts['imported_from']} ({facts['format']}), sha256 {facts['sha256']}")
    elif facts:
        typer.echo(f"trained: {facts['steps']} steps, {facts['tiles_seen']} tiles, {facts['seconds']} s")
        if facts.get("n_skipped"):
            typer.echo(f"  {facts['n_skipped']} good frames could not be used; training.json names them")
    if threshold is not None:
        for line in describe_threshold(threshold, len(recipe.zones)):
            typer.echo(line)
    if recipe.expected_frames is not None:
        typer.echo(describe_expectation(recipe.expected_frames))
    if recipe.min_region_area > 1:
        typer.echo(f"minimum region area {recipe.min_region_area} pixels of the map")
    for zone in recipe.zones:
        if zone.threshold is not None:
            typer.echo(f"zone {zone.name}: threshold {zone.threshold.value:.5g} ({zone.threshold.method})")
    for doubt in list_doubts(recipe):
        typer.echo(f"hint: {doubt}")


def describe_expectation(expected: ExpectedFrames) -> str:
    """What frames are refused by, and what that costs."""
    sizes = " or ".join("×".join(map(str, size)) for size in expected.sizes_hw or ()) or "about the good frames' sizes"
    return (
        f"frames must be {sizes} and show what {expected.n_good} good frames show (expected_frames), else ERROR; "
        f"that refuses at most {expected.false_error_bound:.1%} of good frames at 95 % confidence"
        + (f"; switched off: {', '.join(expected.off)}" if expected.off else "")
    )


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
