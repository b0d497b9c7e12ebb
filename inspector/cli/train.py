"""`inspector train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from inspector.cli.terminal.options import (
    Device,
    KeepOutliers,
    Policy,
    Qualification,
    RecipeId,
    Resize,
    RoiMask,
    Scale,
    ShortSide,
    Stride,
    TileSize,
    Trim,
    check_backbone,
    check_stride,
)
from inspector.cli.terminal.progress import show_progress
from inspector.cli.terminal.summary import show_recipe

if TYPE_CHECKING:
    from inspector.detection.run import Judgement
    from inspector.types import PixelFormat


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
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Networks that score frames they never saw, for the threshold. 0: frames are held aside for it; by "
            "default 2, where a fifth of the frames would be too few for the target.",
        ),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(min=0.05, max=0.9, help="Share of frames kept for the threshold, instead of folds; 0.2 of many."),
    ] = None,
    validation: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share kept for the validation loss.")] = 0.1,
    groups: Annotated[
        str | None,
        typer.Option(help="Lots stay together: `folder`, or a regular expression with one group over the path."),
    ] = None,
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target for the threshold.")] = 0.01,
    policy: Policy = "near",
    trim: Trim = False,
    keep_outliers: KeepOutliers = False,
    qualification: Qualification = 120,
    sigma: Annotated[float, typer.Option(min=0, help="Of the map's Gaussian, in tile pixels.")] = 4.0,
    anomaly_map_mode: Annotated[
        Literal["add", "multiply"], typer.Option(help="How layers are fused; multiply needs map normalisation none.")
    ] = "add",
    mono16_range: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Black and white of 16-bit frames; by default those of the 10, 12, 14 or 16 bits they use."),
    ] = None,
    roi_mask: RoiMask = None,
    recipe_id: RecipeId = None,
) -> None:
    """Train on good frames and calibrate on those kept aside: one command gives a usable recipe.

    \b
    inspector train good/ --out recipes/lens
    inspector train good/ --out recipes/lens --minutes 60 --groups folder
    inspector train good/ --out recipes/lens --encoder-weights r18.safetensors

    The first stops after 3000 batches.
    The second stops after an hour, and keeps each folder's frames together.
    The third needs no network: `inspector encoder fetch` made that file.
    """
    from inspector.training.optimise.lesson import TrainingProgress
    from inspector.training.optimise.options import REFERENCE, TrainOptions
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
        folds=folds,
        holdout=holdout,
        validation=validation,
        groups=groups,
        false_reject_rate=false_reject_rate,
        policy=policy,
        trim=trim,
        keep_outliers=keep_outliers,
        qualification=qualification,
        mono16_range=mono16_range,
        roi_mask=roi_mask,
        recipe_id=recipe_id,
        **((REFERENCE if reference else {}) | chosen),
    )
    with show_progress() as update:

        def report(progress: TrainingProgress) -> None:
            text = f"step {progress.steps} loss {progress.loss:.4f} {progress.tiles_per_second:.1f} tiles/s"
            update(progress.stage, progress.share, text if progress.steps else "")

        recipe = run_training(good_dir, out, options, report, _draw)
    show_recipe(recipe, out)


def _draw(pixels: Any, pixel_format: PixelFormat, judgement: Judgement, threshold: float) -> Any:
    from inspector.sinks.overlays import render_overlay

    decision = judgement.decision
    text = f"score {decision.score:.4g} / {threshold:.4g}"
    return render_overlay(
        pixels, pixel_format, judgement.anomaly_map, text, threshold, decision.regions, decision.verdict
    )
