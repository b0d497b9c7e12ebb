"""`inspector calibrate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from inspector.cli.terminal.options import Device, KeepOutliers, Policy, Qualification, RecipeDir, RoiMask, Trim
from inspector.cli.terminal.progress import show_progress
from inspector.cli.terminal.summary import show_recipe


def _check_area(value: str | None) -> str | None:
    if value not in {None, "auto"} and not re.fullmatch(r"[1-9]\d{0,8}", str(value)):
        raise typer.BadParameter(f"must be auto or a number of pixels of at least 1, got {value!r}")
    return value


def _check_zones(values: list[str]) -> list[str]:
    for value in values:
        if not re.fullmatch(r"[^=]+=.+", value):
            raise typer.BadParameter(f"must be NAME=MASK, got {value!r}")
    return values


def _check_groups(value: str | None) -> str | None:
    from inspector.errors import TrainingError
    from inspector.training.data.good_frames import FOLDER, compile_groups

    try:
        if value not in {None, FOLDER}:
            compile_groups(str(value))
    except TrainingError as error:
        raise typer.BadParameter(str(error).removeprefix("--groups: ")) from error
    return value


def calibrate(
    recipe: RecipeDir,
    good_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GOOD_DIR]",
            help="Good frames that were not used in training; default: the scores stored by the last calibration.",
        ),
    ] = None,
    false_reject_rate: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Target false-reject rate, per frame.")
    ] = 0.01,
    policy: Policy = "near",
    trim: Trim = False,
    keep_outliers: KeepOutliers = False,
    warn_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.9,
            help="Share of good frames that may score in the warn band or higher; default: 5 × the target.",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            callback=_check_groups,
            help="Leave each group out in turn: folder, or a regular expression on the path with one capture group.",
        ),
    ] = None,
    min_region_area: Annotated[
        str | None,
        typer.Option(
            callback=_check_area,
            metavar="N|auto",
            help="Smallest region that counts as a defect, in map pixels; default: that of the recipe.",
        ),
    ] = None,
    zone: Annotated[
        list[str],
        typer.Option(
            callback=_check_zones, metavar="NAME=MASK", help="A zone with its own threshold. May be repeated."
        ),
    ] = [],  # noqa: B006 (typer copies it)
    defects: Annotated[
        Path | None,
        typer.Option(
            help="Folder of defective frames: the escape rate is measured on them; the threshold does not change."
        ),
    ] = None,
    set_from_defects: Annotated[
        bool,
        typer.Option(
            "--set-from-defects",
            help="Set the threshold from the defective frames: the highest one that lets at most "
            "--escape-rate of them pass.",
        ),
    ] = False,
    escape_rate: Annotated[float, typer.Option(min=0, max=0.99, help="For --set-from-defects.")] = 0.0,
    qualification: Qualification = 120,
    roi_mask: RoiMask = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
        typer.Option(
            help="Default: that of the recipe. int8 (CPU only) is quantised on GOOD_DIR and needs the extra int8."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Set a recipe's threshold from good frames, or recompute it from the stored scores."""
    from inspector.training.calibrate import calibrate as run_calibration

    if set_from_defects and defects is None:
        raise typer.BadParameter("must be given together with --defects", param_hint="--set-from-defects")
    if trim and keep_outliers:
        raise typer.BadParameter("must not be given together with --keep-outliers", param_hint="--trim")
    area: int | Literal["auto"] | None = "auto"
    if min_region_area != "auto":
        area = int(min_region_area) if min_region_area else None
    with show_progress() as update:
        calibrated = run_calibration(
            recipe,
            good_dir,
            false_reject_rate=false_reject_rate,
            policy=policy,
            trim=trim,
            keep_outliers=keep_outliers,
            warn_rate=warn_rate,
            groups=groups,
            min_region_area=area,
            zones={name: Path(mask) for name, _, mask in (value.partition("=") for value in zone)},
            defects_dir=defects,
            set_from_defects=set_from_defects,
            escape_rate=escape_rate,
            qualification=qualification,
            roi_mask=roi_mask,
            precision=precision,
            device=device,
            advance=lambda done, total: update("calibrate", done / total, f"{done} of {total}"),
        )
    show_recipe(calibrated, recipe)
