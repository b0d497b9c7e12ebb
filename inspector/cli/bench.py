"""`inspector bench`: throughput and latency of recipes on this machine, through the engine the daemon would run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspector.cli.terminal.options import Device

if TYPE_CHECKING:
    from rich.table import Table

    from inspector.config import Preprocessing
    from inspector.detection.detector import Detector

_STAGES = ("preprocess", "infer", "decide")


def bench(
    target: Annotated[Path, typer.Argument(metavar="STATION.yaml|RECIPE", help="A station file or a recipe folder.")],
    frame_hw: Annotated[
        tuple[int, int] | None,
        typer.Option(min=1, max=65_536, help="Height and width of the frames; default: those in the recipe."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Number of frames to time, after one warm-up frame.")] = 10,
    device: Device = "auto",
) -> None:
    """Measure the speed of recipes on noise images: frames per second, tiles per second, latency by stage."""
    from rich.console import Console

    for name, detector in _load(target, device).items():
        typer.echo(f"{name}: {detector.engine.precision}, {detector.engine.name}", err=True)
        Console().print(_time(detector, frame_hw, frames, name))


def _load(target: Path, device: str) -> dict[str, Detector]:
    """A detector by camera, or by the recipe's name; the station's own device where there is one."""
    from inspector.config import load_station
    from inspector.device import choose_device
    from inspector.engine.cache import find_user_cache
    from inspector.recipe.opening import open_detector
    from inspector.service.flow.judges import load_judges

    if target.is_file():
        judges = load_judges(load_station(target), find_user_cache())
        return {name: judge.detector for name, judge in judges.items()}
    return {target.name: open_detector(target, device=choose_device(device))}


def _time(detector: Detector, frame_hw: tuple[int, int] | None, frames: int, name: str) -> Table:
    import numpy as np
    from rich.table import Table

    preprocessing = detector.recipe.preprocessing
    size = frame_hw or preprocessing.frame_hw
    if size is None:
        raise typer.BadParameter("must be given, since the recipe accepts frames of any size", param_hint="--frame-hw")
    pixels = _make_noise(preprocessing, size)
    if detector.fixture is not None:  # it finds no part in noise
        pixels = detector.fixture.draw_frame(pixels)
    tiles = detector.judge(pixels, preprocessing.pixel_format, any_frame=True).tiles
    seconds, latencies = [], []
    for _ in range(frames):
        started = time.monotonic()
        # The times alone: a map that is kept would take the device's memory.
        latencies.append(detector.judge(pixels, preprocessing.pixel_format, any_frame=True).latency_ms)
        seconds.append(time.monotonic() - started)
    rate = 1 / float(np.mean(seconds))
    table = Table("", "", title=f"{name}: {frames} frames of {size[0]}×{size[1]}, {tiles} tiles per frame")
    table.add_row("frames/s", f"{rate:.2f}")
    table.add_row("tiles/s", f"{rate * tiles:.1f}")
    table.add_row("MPixel/s", f"{rate * size[0] * size[1] / 1e6:.1f}")
    for quantile in (0.5, 0.9, 0.99):
        table.add_row(f"latency p{quantile * 100:.0f}", f"{np.quantile(seconds, quantile) * 1e3:.1f} ms")
    for stage in _STAGES:
        median = np.median([latency_ms[stage] for latency_ms in latencies])
        table.add_row(f"{stage}, median", f"{median:.1f} ms")
    return table


def _make_noise(preprocessing: Preprocessing, size: tuple[int, int]) -> Any:
    import numpy as np

    from inspector.types import PixelFormat

    generator = np.random.default_rng(0)
    if preprocessing.pixel_format is PixelFormat.MONO16:
        return generator.integers(0, 65_536, size, dtype=np.uint16)
    shape = size if preprocessing.pixel_format is PixelFormat.MONO8 else (*size, 3)
    return generator.integers(0, 256, shape, dtype=np.uint8)
