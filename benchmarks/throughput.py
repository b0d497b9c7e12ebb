"""Speed side by side: anomalib's Reverse Distillation with its own tiler, and ours, in one run.

    python benchmarks/throughput.py --frame-hw 2048 2448 --precision fp32 bf16 int8 --frames 10 --stage --json cpu.json

Frames alternate between the methods, in turn first and last, after each has warmed up. Both judge the same frames with
the same weights, random ones whose features are alive, and with as many threads as this process may use. With --recipe
ours has that recipe's weights and tiling, and anomalib random ones of the same backbone: as fast, but nothing to
compare. Theirs: float32, all tiles of a frame at once, as it runs them; its time starts at the pixels on the host and
ends with map and score there, normalisation and transfers included. On CUDA it runs with TF32 as torch sets it, which
is what its users get, and once more without. Ours: `Detector.judge`, from the same pixels to a
decision; on CUDA a frame that passes leaves its map on the device, as it does on the line. The threshold lies above all
scores. anomalib pads frames with zeros to whole tiles, ours shifts the last tile inward: both counts are given. Its map
is smoothed over the whole frame rather than tile by tile, so differences are taken to our float32 reference.
With --bottleneck official ours has the official code's width, and anomalib its own (of wide_resnet50_2 half of it).
With --student light ours has the light student.
Where an engine can have several frames under way, as on CUDA, they are timed so as well, after the frames by turns.
Memory is that of a process per method. --quick gives up memory, stages, p99 (three frames) and three quarters of the
frame, of which fixed costs then take a larger share.
Needs the bench extra for --against anomalib, the int8 extra for int8.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import count_flops, measure_matmul, measure_memory, measure_memory_apart
from _methods import (
    PEER,
    PEER_WITHOUT_TF32,
    Case,
    Method,
    Ours,
    Peer,
    Pixels,
    adopt_recipe,
    build_engine,
    build_recipe,
    build_reference,
    cut_tiles,
    make_frames,
)
from _stages import STAGES, measure_stages
from rich.console import Console
from rich.table import Table

from inspector.config import Recipe, Threshold
from inspector.detection.preprocessing import normalise
from inspector.engine.base import Precision
from inspector.model import ReverseDistillation

_DIFFERENT_FRAMES = 4
_WARM_UPS = 2
_HEADROOM = 1.5
_QUICK_FRAMES, _QUICK_HW = 3, (1024, 1224)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = parse(arguments)
    case = adopt_recipe(build_case(options))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if options.only:
        print(json.dumps(measure_memory(case, options.only, options.frames)))
        return
    content = run(case, options)
    console = Console(width=190, stderr=options.json == "-")
    print_methods(content, console)
    if content["stages_ms"]:
        print_stages(content["stages_ms"], console)
    text = json.dumps(content, indent=1)
    if options.json == "-":
        print(text)
    elif options.json:
        Path(options.json).write_text(text, encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_arguments(parser)
    parser.add_argument("--precision", nargs="+", type=Precision, default=[Precision.FP32], choices=list(Precision))
    parser.add_argument("--frames", type=int, default=5, help="timed frames per method")
    parser.add_argument("--against", choices=[PEER, "none"], default=PEER)
    parser.add_argument("--stage", action="store_true", help="ours stage by stage, too")
    parser.add_argument("--no-memory", action="store_true", help="leave out the process per method")
    parser.add_argument("--quick", action="store_true", help="a first look: three frames of 1024x1224, no memory")
    parser.add_argument("--json", help="file to write, - for the standard output")
    parser.add_argument("--only", choices=[PEER, *Precision], help="measure only this method's memory, in this process")
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.frame_hw, options.no_memory, options.stage = _QUICK_FRAMES, _QUICK_HW, True, False
        print("quick: without memory, stages and a p99 that means anything; small frames", file=sys.stderr)
    return options


def add_case_arguments(parser: argparse.ArgumentParser) -> None:
    """What `build_case` reads."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[2048, 2448], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--stride", type=int, default=256)
    parser.add_argument("--batch", type=int, help="tiles at once of ours; the engine's own by default")
    parser.add_argument("--recipe", type=Path, help="folder whose weights and tiling ours takes")
    parser.add_argument("--bottleneck", choices=["anomalib", "official"], default="anomalib", help="width of ours")
    parser.add_argument("--student", choices=["full", "light"], default="full", help="of random weights")
    parser.add_argument("--seed", type=int, default=0)


def build_case(options: argparse.Namespace) -> Case:
    """The case that the command line names."""
    height, width = options.frame_hw
    return Case(
        device=options.device,
        backbone=options.backbone,
        frame_hw=(height, width),
        tile=options.tile,
        stride=options.stride,
        batch=options.batch,
        recipe=options.recipe,
        seed=options.seed,
        width=options.bottleneck,
        student=options.student,
    )


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All measurements of a case."""
    frames = make_frames(case.frame_hw, min(options.frames, _DIFFERENT_FRAMES), case.seed)
    recipe, model = build_recipe(case)
    reference = build_reference(recipe, model, case.frame_hw).compute(frames[0])
    recipe = recipe.model_copy(update={"threshold": Threshold(value=_HEADROOM * reference[1], method="manual")})
    methods: list[Method] = []
    same_weights = None
    if options.against == PEER:
        peer, same_weights = _build_peer(case, recipe, model, frames[0])
        methods.append(peer)
        if case.device != "cpu":
            methods.append(_build_peer(case, recipe, model, frames[0], tf32=False)[0])
    built = {precision: build_engine(case, recipe, model, precision, frames[0]) for precision in options.precision}
    ours = [Ours(precision.value, recipe, engine, case.frame_hw) for precision, (engine, _) in built.items()]
    methods += ours
    durations = time_methods(methods, frames, options.frames)
    flops = count_flops(model, case.tile)
    rows = {method.name: _summarise(method, durations[method.name], case, flops) for method in methods}
    for method in ours:
        rows[method.name] |= {"engine": method.detector.engine.name} | _compare(method.compute(frames[0]), reference)
        if method.detector.engine.frames_in_flight > 1:
            rows[method.name] |= time_pipelined(method, frames, options.frames)
    _add_ratios(rows)
    stages = {}
    if options.stage:
        for method, (_, graphs) in zip(ours, built.values(), strict=True):
            stages[method.name] = measure_stages(case, method, model, graphs, frames[0], options.frames)
    if not options.no_memory:
        for name, row in rows.items():
            if name == PEER_WITHOUT_TF32:  # as much as with it
                continue
            row["memory"] = measure_memory_apart(case, name)
    return {
        "case": asdict(case) | {"recipe": str(case.recipe) if case.recipe else None},
        "frames": options.frames,
        "machine": describe_machine(case),
        "flops_per_tile": flops,
        "reference_score": reference[1],
        "same_weights_max_difference": same_weights,
        "methods": rows,
        "stages_ms": stages,
    }


def _build_peer(
    case: Case, recipe: Recipe, model: ReverseDistillation, frame: Pixels, *, tf32: bool = True
) -> tuple[Peer, float | None]:
    """anomalib's model, and how far its features are from ours; None where it has weights of its own."""
    assert recipe.threshold is not None  # noqa: S101 (set by the caller)
    peer = Peer(case, recipe, recipe.threshold.value, tf32=tf32)
    if not case.is_the_peers_network:
        print(f"{PEER} runs with its own network and random weights: nothing to compare", file=sys.stderr)
        return peer, None
    peer.copy_weights(model)
    return peer, peer.compare_features(model, normalise(cut_tiles(frame, recipe, 1), recipe.preprocessing))


def time_methods(methods: Sequence[Method], frames: Sequence[Pixels], count: int) -> dict[str, list[float]]:
    """Seconds of `count` frames per method: frame by frame, in turn first and last."""
    for method in methods:
        for number in range(_WARM_UPS):
            method.judge(frames[number % len(frames)])
    durations: dict[str, list[float]] = {method.name: [] for method in methods}
    for number in range(count):
        for method in methods if number % 2 == 0 else methods[::-1]:
            started = time.perf_counter()
            method.judge(frames[number % len(frames)])
            durations[method.name].append(time.perf_counter() - started)
    return durations


def time_pipelined(method: Ours, frames: Sequence[Pixels], count: int) -> dict[str, float]:
    """Frames a second of `count` frames with several under way at once, which ends with the last one's decision."""
    depth = method.detector.engine.frames_in_flight
    method.judge_all(frames[number % len(frames)] for number in range(depth))
    started = time.perf_counter()
    method.judge_all(frames[number % len(frames)] for number in range(count))
    return {"frames_in_flight": depth, "pipelined_frames_per_s": count / (time.perf_counter() - started)}


def _summarise(method: Method, durations: Sequence[float], case: Case, flops: int) -> dict[str, Any]:
    is_peer = method.name in {PEER, PEER_WITHOUT_TF32}
    precision = Precision.FP32 if is_peer else Precision(method.name)
    frames_per_s = len(durations) / sum(durations)
    latencies = np.percentile(np.array(durations) * 1e3, (50, 90, 99))
    rate, achieved = measure_matmul(torch.device(case.device), precision), flops * method.tiles * frames_per_s
    return {
        "tiles_per_frame": method.tiles,
        "tiles_per_s": method.tiles * frames_per_s,
        "frames_per_s": frames_per_s,
        "megapixels_per_s": case.frame_hw[0] * case.frame_hw[1] * frames_per_s / 1e6,
        "latency_ms": dict(zip(("p50", "p90", "p99"), latencies.tolist(), strict=True)),
        "flop_per_s": achieved,
        "matmul_flop_per_s": rate,
        "share_of_matmul": achieved / rate if rate and not (is_peer and case.width != PEER) else None,
    }


def _compare(result: tuple[Any, float], reference: tuple[Any, float]) -> dict[str, float]:
    difference = np.abs(result[0] - reference[0])
    return {
        "map_max_difference": float(difference.max()),
        "map_mean_difference": float(difference.mean()),
        "score_difference": (result[1] - reference[1]) / reference[1],
    }


def _add_ratios(rows: dict[str, dict[str, Any]]) -> None:
    peer = rows.get(PEER)
    for row in rows.values():
        for unit in ("tiles_per_s", "frames_per_s"):
            row[f"{unit}_ratio"] = row[unit] / peer[unit] if peer else None


def describe_machine(case: Case) -> dict[str, Any]:
    """What the numbers hold for."""
    on_cuda = case.device != "cpu"
    packages = ("torch", "openvino", "anomalib", "nncf")
    return {
        "cpu": _find_cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(torch.device(case.device)) if on_cuda else None,
        "python": platform.python_version(),
        "versions": {name: _find_version(name) for name in packages},
    }


def _find_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:  # as PackageNotFoundError is
        return None


def print_methods(content: dict[str, Any], console: Console) -> None:
    """One row per method, then what they were measured on."""
    case, machine = content["case"], content["machine"]
    height, width = case["frame_hw"]
    title = f"{case['backbone']}, {height}×{width}, tile {case['tile']}, stride {case['stride']}, {case['device']}"
    table = Table(title=title)
    for heading in (
        "method", "tiles", "tiles/s", "frames/s", "pipelined", "MP/s", "p50 ms", "p90 ms", "p99 ms", "× tiles/s",
        "× frames/s", "of matmul", "map max Δ", "map mean Δ", "score Δ", "peak MB", "judging MB", "device MB",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, row in content["methods"].items():
        table.add_row(name, *_cells(row))
    console.print(table)
    console.print(
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores; {content['frames']} frames per method"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    memory, latency = row.get("memory", {}), row["latency_ms"]
    return [
        str(row["tiles_per_frame"]),
        f"{row['tiles_per_s']:.1f}",
        f"{row['frames_per_s']:.2f}",
        _optional(row.get("pipelined_frames_per_s"), ".2f"),
        f"{row['megapixels_per_s']:.1f}",
        *(f"{latency[share]:.0f}" if latency[share] >= 100 else f"{latency[share]:.1f}" for share in latency),
        _optional(row["tiles_per_s_ratio"], ".2f"),
        _optional(row["frames_per_s_ratio"], ".2f"),
        _optional(row["share_of_matmul"], ".0%"),
        _optional(row.get("map_max_difference"), ".1e"),
        _optional(row.get("map_mean_difference"), ".1e"),
        _optional(row.get("score_difference"), "+.2%"),
        *(_optional(memory.get(key), ".0f") for key in ("peak_mb", "judging_mb", "device_mb")),
    ]


def _optional(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def print_stages(stages: dict[str, dict[str, float | None]], console: Console) -> None:
    """A row per stage, for each precision milliseconds per frame and share."""
    table = Table(title="ours, stage by stage: ms per frame and share")
    table.add_column("stage")
    for name in stages:
        table.add_column(name, justify="right")
    totals = {name: sum(value or 0.0 for value in values.values()) for name, values in stages.items()}
    for stage in STAGES:
        values = [(values[stage], totals[name]) for name, values in stages.items()]
        table.add_row(stage, *("–" if ms is None else f"{ms:.2f}  {ms / total:4.0%}" for ms, total in values))
    table.add_row("sum", *(f"{total:.2f}      " for total in totals.values()))
    console.print(table)


if __name__ == "__main__":
    main()
