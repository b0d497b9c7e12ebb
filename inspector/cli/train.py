"""`inspector train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from inspector.cli.terminal.options import (
    FRAMES,
    NETWORK,
    THRESHOLD,
    WHEN_TO_STOP,
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
    encoder_weights: Annotated[str, typer.Option(help="pretrained, none, or a .pth/.safetensors file.")] = "pretrained",
    tile_size: TileSize = 256,
    stride: Stride = None,
    scale: Scale = 1.0,
    resize: Resize = None,
    short_side: ShortSide = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many epochs.", rich_help_panel=WHEN_TO_STOP)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop after this many batches (3000 if no limit is given).", rich_help_panel=WHEN_TO_STOP
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after this time.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many validations without improvement.", rich_help_panel=WHEN_TO_STOP),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run that had the same options.")
    ] = False,
    backbone: Annotated[
        str,
        typer.Option(
            callback=check_backbone, help="resnet18 … wide_resnet101_2; a timm tag may follow.", rich_help_panel=NETWORK
        ),
    ] = "resnet18",
    batch_size: Annotated[int, typer.Option(min=2, help="Tiles per batch.", rich_help_panel=NETWORK)] = 16,
    learning_rate: Annotated[
        float,
        typer.Option(min=1e-6, max=1, help="Adam's learning rate; the peak of the schedule.", rich_help_panel=NETWORK),
    ] = 0.005,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="Train and compute maps as in the paper, without the improvements below.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    schedule: Annotated[
        Literal["onecycle", "constant"] | None,
        typer.Option(help="Schedule of the learning rate; default: onecycle.", rich_help_panel=NETWORK),
    ] = None,
    average_decay: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9999,
            help="Decay of the moving average of the weights; default: 0.98; 0: no average.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    pseudo_defects: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of tiles shown with an artificial defect; default: 0.5.", rich_help_panel=NETWORK
        ),
    ] = None,
    map_normalisation: Annotated[
        Literal["position", "none"] | None,
        typer.Option(
            help="position: distances relative to those of good tiles at the same place (default); "
            "none: as in the paper.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    keep: Annotated[
        Literal["best", "last"] | None,
        typer.Option(
            help="Which weights to keep: those with the lowest validation loss (default), or the last.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        typer.Option(
            help="Precision of training; auto: bf16 if the device supports it natively.", rich_help_panel=NETWORK
        ),
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.", rich_help_panel=NETWORK)] = 0,
    bottleneck_width: Annotated[
        Literal["official", "anomalib"],
        typer.Option(help="Width of the bottleneck, as in the official code or in anomalib.", rich_help_panel=NETWORK),
    ] = "official",
    student: Annotated[
        Literal["full", "light"],
        typer.Option(
            help="Width of bottleneck and decoder: full as in the paper; light: half of it, faster.",
            rich_help_panel=NETWORK,
        ),
    ] = "full",
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of networks that score frames they were not trained on, for the threshold. 0: some frames are "
            "held out instead. Default: 2 if a fifth of the frames would be too few for the target, else 0.",
            rich_help_panel=THRESHOLD,
        ),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=0.9,
            help="Share of frames held out for the threshold, instead of folds; 0.2 if there are many.",
            rich_help_panel=THRESHOLD,
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, help="Share of frames held out for the validation loss.", rich_help_panel=THRESHOLD
        ),
    ] = 0.1,
    groups: Annotated[
        str | None,
        typer.Option(help="Keep lots together: `folder`, or a regular expression on the path with one capture group."),
    ] = None,
    false_reject_rate: Annotated[
        float,
        typer.Option(min=1e-6, max=0.5, help="Target false-reject rate of the threshold.", rich_help_panel=THRESHOLD),
    ] = 0.01,
    policy: Policy = "near",
    trim: Trim = False,
    keep_outliers: KeepOutliers = False,
    qualification: Qualification = 120,
    sigma: Annotated[
        float,
        typer.Option(
            min=0, help="Sigma of the Gaussian that smooths the map, in tile pixels.", rich_help_panel=NETWORK
        ),
    ] = 4.0,
    anomaly_map_mode: Annotated[
        Literal["add", "multiply"],
        typer.Option(help="How layers are fused; multiply needs --map-normalisation none.", rich_help_panel=NETWORK),
    ] = "add",
    mono16_range: Annotated[
        tuple[int, int] | None,
        typer.Option(
            help="Values of black and white in 16-bit frames; default: from the 10, 12, 14 or 16 bits they use.",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    roi_mask: RoiMask = None,
    fixture: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Parts move: warp each frame onto this good frame, on which --roi-mask is drawn.",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    recipe_id: RecipeId = None,
) -> None:
    """Train on good frames and set the threshold: one command gives a usable recipe.

    \b
    inspector train good/ --out recipes/lens
    inspector train good/ --out recipes/lens --minutes 60 --groups folder
    inspector train good/ --out recipes/lens --encoder-weights r18.safetensors

    The first stops after 3000 batches.
    The second stops after an hour, and keeps each folder's frames together.
    The third needs no network: `inspector encoder fetch` made that file.
    """
    from inspector.training.optimise.options import REFERENCE, TrainOptions
    from inspector.training.optimise.training_setup import TrainingProgress
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
        student=student,
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
        fixture=fixture,
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
