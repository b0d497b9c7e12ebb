"""Where the time of a frame goes, stage by stage."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from _methods import Case, Ours, Pixels
from torch import Tensor, nn

from inspector.detection.preprocessing import preprocess
from inspector.detection.run import FrameRun
from inspector.engine.base import Precision
from inspector.engine.cuda import DTYPES
from inspector.engine.network import DistanceNetwork, MapNetwork, compare
from inspector.engine.upload import Uploader
from inspector.model import ReverseDistillation
from inspector.types import PixelFormat

PARTS = ("encoder", "bottleneck", "decoder")
STAGES = ("prepare", "upload", "tile", *PARTS, "distances", "map", "untile", "decide", "download")
"""`prepare`: checks, padding and an empty canvas. `upload` and `download`: None on the CPU."""

_DEVICE_STAGES = {"upload", "download"}
_CONVOLUTION = re.compile(r"(?<![a-z])convolution(?:_(\d+))?(?=/aten)")
_COMPARISON = re.compile(r"^(?:mul|sum|pow|clamp|linalg_vector_norm|Multiply|div_\d+)[_/]")


def measure_stages(
    case: Case, ours: Ours, model: ReverseDistillation, graphs: dict[str, Any], pixels: Pixels, repeats: int
) -> dict[str, float | None]:
    """Milliseconds per frame and stage, the mean of `repeats`."""
    if case.device == "cpu":
        totals = _measure_openvino(ours, model, graphs, pixels, repeats)
    else:
        recipe, precision = ours.detector.recipe, ours.detector.engine.precision
        mean, std = recipe.preprocessing.normalisation.mean, recipe.preprocessing.normalisation.std
        network = DistanceNetwork(model, mean, std, DTYPES[precision])
        network = network.to(case.device).to(memory_format=torch.channels_last)
        totals = measure_modules(ours, network, MapNetwork(model.anomaly_map).to(case.device), pixels, repeats)
    left_out = _DEVICE_STAGES if case.device == "cpu" else set()
    return {stage: None if stage in left_out else totals.get(stage, 0.0) / repeats for stage in STAGES}


class Laps:
    """Time from one mark to the next, by stage; on CUDA by events, so that nothing is waited for in between."""

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self.mark("")

    def mark(self, stage: str) -> None:
        """End `stage` here."""
        if self._on_device:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, time.perf_counter()))

    def add_to(self, totals: dict[str, float]) -> None:
        """Add each stage's time in milliseconds."""
        if self._on_device:
            torch.cuda.synchronize()
        for (_, start), (stage, end) in zip(self._marks, self._marks[1:], strict=False):
            lap = start.elapsed_time(end) if self._on_device else (end - start) * 1e3
            totals[stage] = totals.get(stage, 0.0) + lap


def _next_share(run: FrameRun, ours: Ours) -> tuple[Sequence[int], Tensor]:
    share = run.tiles[run.done : run.done + len(ours.detector.engine.tiles)]
    return share, ours.detector.engine.tiles[: len(share)]


@torch.inference_mode()
def measure_modules(
    ours: Ours, network: DistanceNetwork, maps: MapNetwork, pixels: Pixels, repeats: int
) -> dict[str, float]:
    """The detector's loop with the network run module by module, by torch's own kernels and without a graph (ms)."""
    detector = ours.detector
    device = detector.engine.device
    uploader = Uploader(device, 1)
    totals: dict[str, float] = {}
    for repeat in range(repeats + 1):  # the first one warms up
        laps = Laps(device)
        run = detector.begin(pixels, PixelFormat.RGB8)
        laps.mark("prepare")
        uploader.upload(preprocess(pixels, PixelFormat.RGB8, detector.recipe.preprocessing))
        laps.mark("upload")  # `prepare` uploaded, too: it is taken off below
        while not run.is_done:
            share, tiles = _next_share(run, ours)
            run.grid.cut(run.image, share, tiles)
            laps.mark("tile")
            result = maps(*_run_parts(network, tiles, laps))
            laps.mark("map")
            run.grid.blend(run.canvas, result[:, None], share)
            laps.mark("untile")
            run.done += len(share)
        judgement = detector.finish(run)
        laps.mark("decide")
        _ = judgement.anomaly_map
        laps.mark("download")
        if repeat:
            laps.add_to(totals)
    totals["prepare"] = max(0.0, totals["prepare"] - totals["upload"])
    return totals


def _run_parts(network: DistanceNetwork, tiles: Tensor, laps: Laps) -> list[Tensor]:
    """As `DistanceNetwork.forward`, with a mark after each part."""
    dtype = next(network.encoder.parameters()).dtype
    images = ((tiles.float() - network.mean) / network.std).to(dtype)
    teacher = network.encoder(images)
    laps.mark("encoder")
    embedding = network.bottleneck(teacher)
    laps.mark("bottleneck")
    student = network.decoder(embedding)
    laps.mark("decoder")
    distances = [compare(t, s) for t, s in zip(teacher, student, strict=True)]
    laps.mark("distances")
    return distances


@torch.inference_mode()
def _measure_openvino(
    ours: Ours, model: ReverseDistillation, graphs: dict[str, Any], pixels: Pixels, repeats: int
) -> dict[str, float]:
    """The detector's loop, the engine's time shared out by what OpenVINO says of each node of the same graph (ms)."""
    detector = ours.detector
    engine = detector.engine
    totals: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the detector does beside this engine
    try:
        for repeat in range(repeats + 1):  # the first one warms up
            laps = Laps(engine.device)
            run = detector.begin(pixels, PixelFormat.RGB8)
            laps.mark("prepare")
            while not run.is_done:
                share, tiles = _next_share(run, ours)
                run.grid.cut(run.image, share, tiles)
                laps.mark("tile")
                result = engine.infer(len(share))
                laps.mark("infer")
                run.grid.blend(run.canvas, result[:, None], share)
                laps.mark("untile")
                run.done += len(share)
            detector.finish(run)
            laps.mark("decide")
            if repeat:
                laps.add_to(totals)
    finally:
        torch.set_num_threads(threads)
    inferred = totals.pop("infer")
    shares = profile(graphs, model, engine.precision, engine.tiles)
    return totals | {stage: share * inferred for stage, share in shares.items()}


def profile(
    graphs: dict[str, Any], model: ReverseDistillation, precision: Precision, tiles: Tensor
) -> dict[str, float]:
    """Shares of one batch's time that encoder, bottleneck, decoder, distances and map take; they sum to 1.

    The network's graph is compiled once more, with counters, and run as the engine runs it: one stream per core. The
    map's share is measured by the clock, since its graph uses all cores at once.
    """
    network, requests = _compile_counted(graphs, precision, len(tiles))
    batch = np.ascontiguousarray(tiles.permute(0, 2, 3, 1).numpy())
    parts = np.array_split(batch, len(requests))
    network_s = min(_time_requests(requests, parts) for _ in range(3))
    names = [
        (node.node_name, node.real_time.total_seconds()) for request in requests for node in request.profiling_info
    ]
    seconds = attribute(names, count_convolutions(model))
    layers = [np.concatenate([request.get_output_tensor(i).data for request in requests]) for i in range(3)]
    map_s = _time_map(graphs, layers)
    del network
    scale = network_s / (network_s + map_s) / sum(seconds.values())
    return {stage: value * scale for stage, value in seconds.items()} | {"map": map_s / (network_s + map_s)}


def count_convolutions(model: ReverseDistillation) -> tuple[int, ...]:
    """Convolutions of encoder, bottleneck and decoder; a graph numbers its own in this order."""
    parts = (model.encoder, model.bottleneck, model.decoder)
    return tuple(sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in part.modules()) for part in parts)


def attribute(nodes: list[tuple[str, float]], convolutions: tuple[int, ...]) -> dict[str, float]:
    """Seconds of nodes, by name and in the order they ran, summed by stage.

    A convolution's number says which part it is in; the comparison's operations are in no part; whatever else there
    is (a reordering, an activation not fused) belongs to the convolution it names, or else to the stage before.
    """
    ends = np.cumsum(convolutions)
    seconds = dict.fromkeys((*PARTS, "distances"), 0.0)
    stage = PARTS[0]
    for name, duration in nodes:
        numbers = _CONVOLUTION.findall(name)
        if numbers:
            stage = PARTS[int(np.searchsorted(ends, int(numbers[-1] or 0), side="right"))]
        elif _COMPARISON.match(name):
            stage = "distances"
        elif name.startswith("cat/"):
            stage = "bottleneck"
        seconds[stage] += duration
    return seconds


def _compile_counted(graphs: dict[str, Any], precision: Precision, batch: int) -> tuple[Any, list[Any]]:
    from inspector.engine.openvino import CORE, DISTANCES, count_cores

    hint = "bf16" if precision is Precision.BF16 else "f32"
    cores = count_cores()
    options = {
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": cores,
        "INFERENCE_PRECISION_HINT": hint,
        "PERF_COUNT": True,
    }
    network = CORE.compile_model(graphs[DISTANCES], "CPU", options)
    return network, [network.create_infer_request() for _ in range(min(cores, batch))]


def _time_requests(requests: list[Any], parts: list[Any]) -> float:
    started = time.perf_counter()
    for request, part in zip(requests, parts, strict=True):
        request.start_async([part])
    for request in requests:
        request.wait()
    return time.perf_counter() - started


def _time_map(graphs: dict[str, Any], layers: list[Any]) -> float:
    from inspector.engine.openvino import CORE, MAP, count_cores

    options = {"INFERENCE_NUM_THREADS": count_cores(), "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    request = CORE.compile_model(graphs[MAP], "CPU", options).create_infer_request()
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        request.infer(layers)
        durations.append(time.perf_counter() - started)
    return min(durations)
