"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeDir = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe folder.")]
RoiMask = Annotated[
    Path | None, typer.Option(help="Grey image of a frame's aspect: anomalies count where it is not black.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
