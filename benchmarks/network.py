"""The network, tiles a second: anomalib's Reverse Distillation in torch and in OpenVINO, and our engines.

    python benchmarks/network.py [--backbone resnet18] [--tiles 64] [--rounds 3] [--precisions fp32 int8]

All have the same random weights, judge the same tiles of 256×256 and take turns, round by round. anomalib's network is
converted as a user of OpenVINO would: cosine similarity written out (its own does not convert), float32 as OpenVINO
runs it by default (bfloat16 where the CPU has it), float32 by name, int8 by NNCF's defaults; and run as OpenVINO runs
fastest, requests of one tile in parallel. Its input is normalised already; ours are bytes. Neither cuts nor blends
frames, but for ours in `whole frames`: from the frame's pixels to its decision. `light` has the light student, with
weights of its own. CPU time is that of all threads: on a machine that does other work it says more than the clock.
Needs the extras bench and int8; CPU only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F
from _methods import Case, Ours, Peer, Pixels, build_engine, build_recipe, cut_tiles, make_frames
from anomalib.models.components import GaussianBlur2d
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from inspector.config import Recipe, Threshold
from inspector.detection.preprocessing import normalise
from inspector.engine.base import Engine, Precision

Run = Callable[[], Any]
"""Judges all tiles once, and gives their maps or scores."""

_PRECISIONS = (Precision.FP32, Precision.BF16, Precision.INT8)
_UNREACHED = 1e6
"""A threshold above all scores."""


class ConvertiblePeer(nn.Module):
    """anomalib's network from normalised tiles (n, 3, t, t) to maps (n, 1, t, t), in operations that convert."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._encoder = model.encoder.feature_extractor
        self._bottleneck, self._decoder = model.bottleneck, model.decoder
        size, sigma = model.anomaly_map_generator.kernel_size, model.anomaly_map_generator.sigma
        self._blur = GaussianBlur2d(kernel_size=(size, size), sigma=(sigma, sigma))

    def forward(self, tiles: Tensor) -> Tensor:
        teacher = list(self._encoder(tiles))
        student = self._decoder(self._bottleneck(teacher))
        maps = []
        for one, other in zip(teacher, student, strict=True):
            product = (one * other).sum(1, keepdim=True)
            lengths = torch.sqrt((one * one).sum(1, keepdim=True) * (other * other).sum(1, keepdim=True))
            distance = 1 - product / lengths.clamp(min=1e-8)
            maps.append(F.interpolate(distance, size=tiles.shape[-2:], mode="bilinear", align_corners=True))
        blurred: Tensor = self._blur(torch.stack(maps).sum(0))
        return blurred


def convert(peer: nn.Module, tiles: Tensor) -> ov.Model:
    """OpenVINO's graph of one tile."""
    with torch.no_grad():
        graph = ov.convert_model(peer, example_input=tiles[:1])
    graph.reshape([1, *tiles.shape[1:]])
    return graph


def build_openvino_runs(peer: nn.Module, tiles: Tensor) -> dict[str, Run]:
    """anomalib's network in OpenVINO, in each number format."""
    graph = convert(peer, tiles)
    nncf.set_log_level(logging.WARNING)
    int8 = nncf.quantize(graph.clone(), nncf.Dataset([tile[None] for tile in tiles[:16].numpy()]), subset_size=16)
    formats: dict[str, tuple[ov.Model, dict[str, str]]] = {
        "anomalib in OpenVINO": (graph, {}),
        "anomalib in OpenVINO, float32": (graph, {"INFERENCE_PRECISION_HINT": "f32"}),
        "anomalib in OpenVINO, int8": (int8, {}),
    }
    runs: dict[str, Run] = {}
    for name, (model, options) in formats.items():
        throughput = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0))}
        runs[name] = _Requests(ov.Core().compile_model(model, "CPU", throughput | options), tiles.numpy())
    return runs


class _Requests:
    """All tiles through requests that run in parallel."""

    def __init__(self, compiled: ov.CompiledModel, tiles: np.ndarray[Any, Any]) -> None:
        self._tiles = tiles
        self._maps: list[Any] = [None] * len(tiles)
        self._queue = ov.AsyncInferQueue(compiled)
        self._queue.set_callback(self._keep)

    def _keep(self, request: Any, number: int) -> None:
        self._maps[number] = request.get_output_tensor(0).data.copy()

    def __call__(self) -> np.ndarray[Any, Any]:
        for number, tile in enumerate(self._tiles):
            self._queue.start_async([tile[None]], number)
        self._queue.wait_all()
        return np.concatenate(self._maps)[:, 0]


def build_torch_run(peer: Peer, tiles: Tensor) -> Run:
    """anomalib's own model in torch, eight tiles at once."""
    peer.model.tiler = None

    @torch.no_grad()
    def run() -> Tensor:
        return torch.cat([peer.model(batch).anomaly_map for batch in tiles.split(8)])[:, 0]

    return run


def build_our_run(engine: Engine, tiles: Tensor) -> Run:
    """One of our engines, its own batch at once."""

    def run() -> Tensor:
        maps = []
        for batch in tiles.split(len(engine.tiles)):
            engine.tiles[: len(batch)].copy_(batch)
            maps.append(engine.infer(len(batch)).clone())
        return torch.cat(maps)

    return run


def build_our_runs(
    case: Case, kind: str, precisions: Sequence[Precision], frame: Pixels, tiles: Tensor
) -> dict[str, Run]:
    """Our engines in each precision, with the tiles alone and with the whole frame they are cut from."""
    recipe, model = build_recipe(case)
    runs: dict[str, Run] = {}
    for precision in precisions:
        engine = build_engine(case, recipe, model, precision, frame)[0]
        runs[f"ours, {precision.value}{kind}"] = build_our_run(engine, tiles)
        runs[f"ours, {precision.value}{kind}, whole frames"] = build_frame_run(engine, recipe, frame)
    return runs


def build_frame_run(engine: Engine, recipe: Recipe, frame: Pixels) -> Run:
    """One of our engines in a detector: a frame's pixels to its decision."""
    passing = recipe.model_copy(update={"threshold": Threshold(value=_UNREACHED, method="manual")})
    ours = Ours(engine.precision.value, passing, engine, (frame.shape[0], frame.shape[1]))
    return lambda: ours.judge(frame)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--tiles", type=int, default=64, help="a multiple of 8, the tiles in a row of the frame")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", type=Precision, choices=_PRECISIONS, default=_PRECISIONS)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    if arguments.tiles < 8 or arguments.tiles % 8:
        parser.error(f"--tiles: must be a positive multiple of 8, got {arguments.tiles}")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    case = Case(backbone=arguments.backbone, frame_hw=(256, 256))
    rows = measure(case, arguments.tiles, arguments.rounds, arguments.precisions)
    headings = "network", "tiles/s", "× anomalib in torch", "CPU ms/tile", "× by CPU time", "largest change of the map"
    table = Table(*headings, title=arguments.backbone)
    for name, row in rows.items():
        cells = [f"{row[key]:.2f}" for key in ("tiles_per_s", "ratio", "cpu_ms_per_tile", "cpu_ratio")]
        table.add_row(name, *cells, f"{row['map_max_difference']:.1e}" if "map_max_difference" in row else "–")
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def measure(
    case: Case, count: int, rounds: int, precisions: Sequence[Precision] = _PRECISIONS
) -> dict[str, dict[str, float]]:
    """Tiles a second and CPU time (medians of the rounds), ratios to the first, and the map's change from the first's.

    `count` is a multiple of 8: the frame is 8 tiles wide.
    """
    frame = make_frames((count // 8 * case.tile, 8 * case.tile), 1, case.seed)[0]
    recipe, model = build_recipe(case)
    peer = Peer(case, recipe, 1.0)
    peer.copy_weights(model)
    pixels = cut_tiles(frame, recipe, count)
    tiles = normalise(pixels, recipe.preprocessing)
    runs = {"anomalib in torch": build_torch_run(peer, tiles)}
    runs |= build_openvino_runs(ConvertiblePeer(peer.model).eval(), tiles)
    runs |= build_our_runs(case, "", precisions, frame, pixels)
    runs |= build_our_runs(dataclasses.replace(case, student="light"), ", light", precisions, frame, pixels)
    comparable = [name for name in runs if "light" not in name and "whole" not in name]
    maps = {name: np.asarray(run()) for name, run in runs.items()}  # also warms up
    durations = time_runs(runs, rounds)
    first, *_ = runs
    return {
        name: {
            "tiles_per_s": len(tiles) / clock,
            "ratio": durations[first][0] / clock,
            "cpu_ms_per_tile": cpu / len(tiles) * 1e3,
            "cpu_ratio": durations[first][1] / cpu,
        }
        | ({"map_max_difference": float(np.abs(maps[name] - maps[first]).max())} if name in comparable else {})
        for name, (clock, cpu) in durations.items()
    }


def time_runs(runs: Mapping[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of CPU time of each, medians of the rounds; they take turns, first and last."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            clock, cpu = time.perf_counter(), time.process_time()
            runs[name]()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return {name: (_median(of, 0), _median(of, 1)) for name, of in seconds.items()}


def _median(pairs: Sequence[tuple[float, float]], place: int) -> float:
    return statistics.median(pair[place] for pair in pairs)


if __name__ == "__main__":
    main()
