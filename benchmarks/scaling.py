"""How the cost of a frame grows: with its size, with tile size and stride, and with the tiles at once. Ours alone.

    python benchmarks/scaling.py --device cpu --precision bf16 --frames 3 --json scaling.json --plot scaling.png

One axis at a time, the others as the command line says; square frames along the first axis. Host memory is the peak of
a process per frame size, while it judges. Each point is the median of a few frames after one to warm up.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _machine import measure_memory_apart
from _methods import Case, Ours, adopt_recipe, build_engine, build_recipe, make_frames
from rich.console import Console
from rich.table import Table
from throughput import add_case_arguments, build_case, describe_machine

from inspector.config import Threshold
from inspector.engine.base import Precision

_NEVER = 1e6
"""A threshold that no score reaches."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that changes, its values, and what they are called."""

    name: str
    label: str
    values: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = parse(arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    base = adopt_recipe(build_case(options))
    axes = [
        Axis("megapixels", "frame size (MPixel)", tuple(options.megapixels)),
        Axis("tile", "tile size (pixels)", tuple(options.tiles)),
        Axis("stride", "stride (pixels)", tuple(options.strides)),
        Axis("batch", "tiles at once", tuple(options.batches)),
    ]
    rows = []
    for axis in axes:
        for row in measure(base, axis, options):
            rows.append(row)
            if options.verbose:
                print(row, flush=True)
    print_rows(axes, rows)
    if options.json:
        content = {"precision": options.precision, "machine": describe_machine(base), "rows": rows}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if options.plot:
        draw(axes, rows, options.plot)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_arguments(parser)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32, choices=list(Precision))
    parser.add_argument("--frames", type=int, default=3, help="timed frames per point")
    parser.add_argument("--megapixels", type=int, nargs="*", default=[1, 4, 12, 25, 65])
    parser.add_argument("--tiles", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--strides", type=int, nargs="*", default=[256, 192, 128])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--no-memory", action="store_true", help="leave out the process per frame size")
    parser.add_argument("--verbose", action="store_true", help="print each point as soon as it is measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG to write")
    return parser.parse_args(arguments)


def vary(base: Case, axis: Axis, value: int) -> Case:
    """The case at one point of an axis; along the tile size tiles do not overlap more or less: the stride goes with it.

    Raises:
        ValueError: a recipe's tile size cannot change.
    """
    if axis.name == "megapixels":
        side = round(math.sqrt(value * 1e6))
        return dataclasses.replace(base, frame_hw=(side, side))
    if axis.name == "tile":
        if base.recipe is not None:
            raise ValueError(f"--tiles: must be empty with --recipe, whose tile size is fixed, got {value}")
        return dataclasses.replace(base, tile=value, stride=round(value * base.stride / base.tile))
    if axis.name == "stride":
        return dataclasses.replace(base, stride=value)
    return dataclasses.replace(base, batch=value)


def measure(base: Case, axis: Axis, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per value of an axis."""
    for value in axis.values:
        case = vary(base, axis, value)
        ours, frame = _build(case, options.precision)
        ours.judge(frame)
        milliseconds = statistics.median(_time(ours, frame) for _ in range(options.frames))
        row: dict[str, Any] = {
            "axis": axis.name,
            "value": value,
            "frame_hw": case.frame_hw,
            "tiles": ours.tiles,
            "frame_ms": milliseconds,
            "tiles_per_s": ours.tiles / milliseconds * 1e3,
        }
        del ours, frame
        if axis.name == "megapixels" and not options.no_memory:
            row["memory"] = measure_memory_apart(case, options.precision.value, frames=1)
        yield row


def _build(case: Case, precision: Precision) -> tuple[Ours, Any]:
    frame = make_frames(case.frame_hw, 1, case.seed)[0]
    recipe, model = build_recipe(case)
    tiling = recipe.tiling.model_copy(update={"stride": case.stride})  # a recipe's own stride may change, too
    recipe = recipe.model_copy(update={"tiling": tiling, "threshold": Threshold(value=_NEVER, method="manual")})
    engine, _ = build_engine(case, recipe, model, precision, frame)
    return Ours(precision.value, recipe, engine, case.frame_hw), frame


def _time(ours: Ours, frame: Any) -> float:
    started = time.perf_counter()
    ours.judge(frame)
    return (time.perf_counter() - started) * 1e3


def print_rows(axes: Sequence[Axis], rows: Sequence[dict[str, Any]]) -> None:
    """One table, a section per axis."""
    table = Table(title="cost of a frame")
    for heading in ("axis", "value", "tiles", "ms per frame", "tiles/s", "judging MB"):
        table.add_column(heading, justify="left" if heading == "axis" else "right")
    for axis in axes:
        for row in rows:
            if row["axis"] == axis.name:
                megabytes = row.get("memory", {}).get("judging_mb")
                numbers = (f"{row['frame_ms']:.1f}", f"{row['tiles_per_s']:.1f}")
                cells = (str(row["value"]), str(row["tiles"]), *numbers, f"{megabytes:.0f}" if megabytes else "–")
                table.add_row(axis.label, *cells)
        table.add_section()
    Console(width=110).print(table)


def draw(axes: Sequence[Axis], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Four panels of milliseconds per frame; the first with host memory on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    for axis, panel in zip(axes, panels, strict=True):
        chosen = sorted((row for row in rows if row["axis"] == axis.name), key=lambda row: row["value"])
        panel.set(xlabel=axis.label, ylabel="ms per frame")
        panel.grid(visible=True, alpha=0.3)
        if chosen:
            _draw_panel(panel, axis, chosen)
    figure.savefig(path, dpi=150)


def _draw_panel(panel: Any, axis: Axis, rows: Sequence[dict[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogFormatter, NullLocator

    values, milliseconds = [row["value"] for row in rows], [row["frame_ms"] for row in rows]
    (line,) = panel.plot(values, milliseconds, "o-", color="tab:blue", label="time")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    if axis.name == "megapixels":
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(plain)
        panel.yaxis.set_minor_formatter(LogFormatter())  # writes numbers only where decades are few
        _draw_memory(panel, line, rows)
    else:
        panel.set_ylim(0, 1.1 * max(milliseconds))
        if axis.name == "batch":
            panel.set_xscale("log", base=2)
    panel.set_xticks(values)
    panel.xaxis.set_major_formatter(plain)
    panel.xaxis.set_minor_locator(NullLocator())


def _draw_memory(panel: Any, line: Any, rows: Sequence[dict[str, Any]]) -> None:
    measured = [(row["value"], mb) for row in rows if (mb := row.get("memory", {}).get("judging_mb"))]
    if not measured:
        return
    right = panel.twinx()
    (memory,) = right.plot(*zip(*measured, strict=True), "s--", color="tab:orange", label="peak host memory")
    right.set(ylabel="MB", ylim=(0, 1.15 * max(mb for _, mb in measured)))
    panel.legend(handles=[line, memory], loc="upper left", fontsize="small")


if __name__ == "__main__":
    main()
