"""`inspector import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from inspector.cli.terminal.options import (
    Mono16Range,
    RecipeId,
    Resize,
    Scale,
    ShortSide,
    Stride,
    TileSize,
    check_backbone,
    check_stride,
)


def import_(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="anomalib's .ckpt or exported .pt, or RD4AD's .pth.")
    ],
    out: Annotated[Path, typer.Option(help="The recipe folder to write.")],
    checkpoint_format: Annotated[
        Literal["auto", "anomalib", "rd4ad"], typer.Option("--format", help="Accept only this format.")
    ] = "auto",
    backbone: Annotated[
        str | None, typer.Option(callback=check_backbone, help="Accept only this one; default: detected from the file.")
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(help="For RD4AD only, which stores no encoder: pretrained (default) or a .pth/.safetensors file."),
    ] = None,
    tile_size: TileSize = 256,
    stride: Stride = None,
    scale: Scale = 1.0,
    resize: Resize = None,
    short_side: ShortSide = None,
    anomaly_map_mode: Annotated[
        Literal["add", "multiply"] | None, typer.Option(help="How layers are fused; default: as the checkpoint says.")
    ] = None,
    pixel_format: Annotated[
        Literal["RGB8", "BGR8", "Mono8", "Mono16"], typer.Option(help="Pixel format that the cameras deliver.")
    ] = "RGB8",
    mono16_range: Mono16Range = (0, 65_535),
    recipe_id: RecipeId = None,
) -> None:
    """Make a recipe from a Reverse Distillation checkpoint trained elsewhere; then run `inspector calibrate` on it.

    No code in the file is run: only tensors are read, and a file that pickles anything but a model is refused.

    Weights and maps stay those of the other program. It squeezes each whole frame to its image size: --resize does the
    same here. Without it frames are tiled; then use --scale or --short-side so that a tile shows the part at that size.
    RGB is normalised as the checkpoint says; if it says nothing, with ImageNet's mean and deviation, their default.
    """
    from inspector.cli.terminal.summary import show_recipe
    from inspector.model.foreign import CheckpointFormat
    from inspector.training.importing import ImportOptions, import_checkpoint
    from inspector.types import PixelFormat

    check_stride(stride, tile_size)
    options = ImportOptions(
        format=None if checkpoint_format == "auto" else CheckpointFormat(checkpoint_format),
        backbone=backbone,
        encoder_weights=encoder_weights,
        tile_size=tile_size,
        stride=stride,
        scale=scale,
        resize_hw=resize,
        short_side=short_side,
        anomaly_map_mode=anomaly_map_mode,
        pixel_format=PixelFormat(pixel_format),
        mono16_range=mono16_range,
        recipe_id=recipe_id,
    )
    recipe = import_checkpoint(checkpoint, out, options)
    show_recipe(recipe, out)
    typer.echo(
        f"network: {recipe.backbone}, bottleneck {recipe.bottleneck_width}, layers fused by {recipe.anomaly_map_mode}, "
        f"sigma {recipe.sigma:g}; encoder {recipe.encoder_weights}"
    )
    typer.echo(f"no threshold yet; next, run `inspector calibrate {out} GOOD_DIR`")
