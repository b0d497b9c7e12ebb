"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# Groups of options in the help of `train` and its like; the few that a first training needs stand before them.
WHEN_TO_STOP = "More on when to stop"
FRAMES = "Frames and tiles"
THRESHOLD = "More on the threshold"
NETWORK = "Network and optimisation"

StationFile = Annotated[Path, typer.Argument(metavar="STATION.yaml", help="The station file.")]
RecipeDir = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe folder.")]
RoiMask = Annotated[
    Path | None,
    typer.Option(
        help="Grey image with the aspect ratio of a frame: anomalies count where it is not black.",
        rich_help_panel=FRAMES,
    ),
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
    int,
    typer.Option(
        min=32,
        max=4096,
        callback=check_tile_size,
        help="Tile side in pixels, a multiple of 32.",
        rich_help_panel=FRAMES,
    ),
]
Stride = Annotated[
    int | None, typer.Option(min=1, help="Step between tiles; default: the tile size.", rich_help_panel=FRAMES)
]
Scale = Annotated[
    float,
    typer.Option(min=0.01, max=1, help="Factor by which frames are shrunk before tiling.", rich_help_panel=FRAMES),
]
Resize = Annotated[
    tuple[int, int] | None,
    typer.Option(
        help="Height and width to which frames are resized without keeping the aspect ratio, instead of a scale.",
        rich_help_panel=FRAMES,
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        min=32,
        max=4096,
        help="Length of the shorter side in pixels, instead of a scale: shrinks or enlarges, keeps the aspect ratio.",
        rich_help_panel=FRAMES,
    ),
]
Mono16Range = Annotated[
    tuple[int, int], typer.Option(help="Values of black and white in 16-bit frames.", rich_help_panel=FRAMES)
]
RecipeId = Annotated[str | None, typer.Option(help="Name of the recipe; default: the name of the folder.")]
Policy = Annotated[
    Literal["near", "extrapolate"],
    typer.Option(
        help="If there are too few frames for the target: near sets the threshold near the highest "
        "good score, extrapolate "
        "where a distribution fitted to the good frames' peaks reaches the target.",
        rich_help_panel=THRESHOLD,
    ),
]
Trim = Annotated[bool, typer.Option("--trim", help="Leave out good frames that stand out.", rich_help_panel=THRESHOLD)]
KeepOutliers = Annotated[
    bool,
    typer.Option(
        "--keep-outliers",
        help="Treat frames that stand out as good: the threshold is set above them.",
        rich_help_panel=THRESHOLD,
    ),
]
Qualification = Annotated[
    int,
    typer.Option(
        min=0,
        max=10_000,
        help="Number of artificial defects of each kind to test the recipe with; 0: none.",
        rich_help_panel=THRESHOLD,
    ),
]
ClientKeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="The client's key file, if the station uses security; see inspector keys new."),
]
