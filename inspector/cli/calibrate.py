"""`inspector calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspector.cli.options import Device, RecipeDir, RoiMask
from inspector.cli.progress import show_progress
from inspector.cli.train import show_recipe


def calibrate(
    recipe: RecipeDir,
    good_dir: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="Good frames that training never saw.")],
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target.")] = 0.01,
    defects: Annotated[Path | None, typer.Option(help="Defective frames: measures escapes, moves nothing.")] = None,
    roi_mask: RoiMask = None,
    device: Device = "auto",
) -> None:
    """Set a recipe's threshold from good frames."""
    from inspector.training.calibrate import calibrate as run_calibration

    with show_progress() as update:
        calibrated = run_calibration(
            recipe,
            good_dir,
            false_reject_rate=false_reject_rate,
            defects_dir=defects,
            roi_mask=roi_mask,
            device=device,
            advance=lambda done, total: update("calibrate", done / total, f"{done} of {total}"),
        )
    show_recipe(calibrated, recipe)
