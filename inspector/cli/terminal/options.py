"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

StationFile = Annotated[Path, typer.Argument(metavar="STATION.yaml", help="The station file.")]
RecipeDir = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe folder.")]
RoiMask = Annotated[
    Path | None, typer.Option(help="Grey image of a frame's aspect: anomalies count where it is not black.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def check_backbone(name: str | None) -> str | None:
    """Refuse a backbone that is none of the nine, as wrong usage."""
    from inspector.model.backbones import BACKBONES

    if name is not None and name.partition(".")[0] not in BACKBONES:
        raise typer.BadParameter(f"must be one of {', '.join(BACKBONES)} (a timm tag may follow), got {name!r}")
    return name


def check_tile_size(side: int) -> int:
    """Refuse a tile side the network cannot halve five times, as wrong usage."""
    if side % 32:
        raise typer.BadParameter(f"must be a multiple of 32, got {side}")
    return side


def check_stride(stride: int | None, tile_size: int) -> None:
    """Refuse a step that leaves gaps between tiles, as wrong usage."""
    if stride is not None and stride > tile_size:
        raise typer.BadParameter(f"must be at most --tile-size ({tile_size}), got {stride}", param_hint="'--stride'")


TileSize = Annotated[
    int, typer.Option(min=32, max=4096, callback=check_tile_size, help="Tile side in pixels, a multiple of 32.")
]
Stride = Annotated[int | None, typer.Option(min=1, help="Step between tiles; the tile size by default.")]
Scale = Annotated[float, typer.Option(min=0.01, max=1, help="Frames are shrunk by this before tiling.")]
Resize = Annotated[
    tuple[int, int] | None, typer.Option(help="Height and width that frames are squeezed to, instead of a scale.")
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        min=32, max=4096, help="Pixels of the shorter side, instead of a scale: shrinks or enlarges, keeps the aspect."
    ),
]
Mono16Range = Annotated[tuple[int, int], typer.Option(help="Black and white of 16-bit frames.")]
RecipeId = Annotated[str | None, typer.Option(help="Name of the recipe; the folder's by default.")]
Policy = Annotated[
    Literal["near", "extrapolate"],
    typer.Option(
        help="Where frames are too few for the target: a threshold near the highest good score, or where a law over "
        "the good frames' peaks puts the target."
    ),
]
Trim = Annotated[bool, typer.Option("--trim", help="Leave good frames out that stand out.")]
KeepOutliers = Annotated[
    bool,
    typer.Option("--keep-outliers", help="Frames that stand out are good: the threshold lies above them."),
]
Qualification = Annotated[
    int, typer.Option(min=0, max=10_000, help="Artificial defects of each kind that the recipe is tried on; 0: none.")
]
ClientKeyFile = Annotated[
    Path | None, typer.Option("--key", help="Key file for a station with security; see inspector keys new.")
]
