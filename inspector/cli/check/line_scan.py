"""What `inspector check` finds of cameras whose pictures are strips of a web."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from inspector.cli.check.finding import Finding
from inspector.config import Camera, Station, load_recipe
from inspector.errors import ConfigError
from inspector.sources.cameras.settings import GenicamSettings


def check_line_scans(station: Station) -> list[Finding]:
    """Whether frames that are put together are of the size that the recipe judges, and overlap."""
    return [
        _check(f"cameras.{name}.line_scan", camera)
        for name, camera in station.cameras.items()
        if camera.line_scan is not None
    ]


def _check(what: str, camera: Camera) -> Finding:
    assert camera.line_scan is not None  # noqa: S101 (`check_line_scans`)
    lines, overlap = camera.line_scan.frame_lines, camera.line_scan.overlap_lines
    frame_hw = None if camera.recipe is None else _read_frame_hw(camera.recipe)
    width = camera.source.width if isinstance(camera.source, GenicamSettings) else None
    if frame_hw is not None and (lines, width or frame_hw[1]) != frame_hw:
        return Finding(
            f"{what}.frame_lines",
            problem=f"frames will be {lines} lines of {width or 'any number of'} pixels, the recipe's are "
            f"{frame_hw[0]} × {frame_hw[1]}: every frame will be answered ERROR FRAME_MISMATCH",
            fix=f"set frame_lines: {frame_hw[0]}, and a width of {frame_hw[1]} pixels at the camera; or train a recipe "
            "with frames of this size",
        )
    if overlap == 0:
        return Finding(
            f"{what}.overlap_lines",
            problem="0: a defect at the end of a frame is whole in none",
            fix="set it to the height of the largest defect that must be found whole, in lines, or more",
            fatal=False,
        )
    return Finding(what, f"frames of {lines} lines, the last {overlap} of which are in the next one too")


def _read_frame_hw(recipe: Path) -> tuple[int, int] | None:
    """The size of the recipe's frames; None: any, or it cannot be read, which is a finding of its own."""
    with suppress(ConfigError):
        return load_recipe(recipe).preprocessing.frame_hw
    return None
