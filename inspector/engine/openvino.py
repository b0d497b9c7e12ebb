"""The CPU engine: OpenVINO in float32, bfloat16 or int8. Compiled in a second, without a compiler on the machine."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from inspector.engine.base import Precision, allocate_tiles
from inspector.types import Fallback

DISTANCES = "distances"
MAP = "map"
VERSION = str(ov.__version__)
_TILES_PER_CORE = 4
_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.INT8: "f32"}

# One core for the life of the process. A core's CPU plugin makes its own memory the stack on which the thread that
# loads it handles signals, and frees it when it ends: of two that end in the order they began, the second restores what
# the first freed, and the next SIGTERM or SIGCHLD kills the process.
CORE = ov.Core()
# A mapped file is read again from the disk while frames are judged: overwritten, it lets defects pass; cut short, it
# kills the process. What was verified is what must judge.
CORE.set_property({"ENABLE_MMAP": False})


class OpenVinoEngine:
    """Runs two compiled graphs: tiles → distances in the precision chosen, distances → maps in float32.

    They are two because OpenVINO's precision holds for a whole graph, and a map in bfloat16 has three digits.
    A batch is shared out over the cores, one stream each, which need not wait for each other at every layer; fewer
    tiles than cores go one after another through all cores.
    """

    pays_for_full_batch = False  # any number of tiles up to the batch, each as fast
    frames_in_flight = 1  # the cores that would prepare the next frame are the ones that compute
    brings_own_threads = True
    fallback = Fallback.NONE

    def __init__(
        self,
        graphs: dict[str, ov.Model],
        precision: Precision,
        *,
        side: int,
        dtype: torch.dtype,
        batch: int | None = None,
    ) -> None:
        """Compile what `convert`, `read` or `quantise` gave.

        Args:
            graphs: `DISTANCES` and `MAP`.
            precision: fp32, bf16 or int8; int8 is in the quantised graph itself.
            side: of a tile, in pixels.
            dtype: of the tiles.
            batch: tiles at once; four per core by default.
        """
        cores = count_cores()
        self.device = torch.device("cpu")
        self.precision = precision
        self.tiles = allocate_tiles(batch or _TILES_PER_CORE * cores, side, dtype, self.device)
        options = {"INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        network = graphs[DISTANCES]
        streams = CORE.compile_model(network, "CPU", options | {"NUM_STREAMS": cores})
        used = streams.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != _HINTS[precision]:
            raise RuntimeError(f"OpenVINO does not support {precision} on this CPU, it would use {used}")
        self._streams = [streams.create_infer_request() for _ in range(cores)]
        self._single = CORE.compile_model(network, "CPU", options | {"NUM_STREAMS": 1}).create_infer_request()
        options["INFERENCE_PRECISION_HINT"] = "f32"
        self._map = CORE.compile_model(graphs[MAP], "CPU", options | {"NUM_STREAMS": 1}).create_infer_request()
        self._layers = [
            np.empty((len(self.tiles), *(size.get_length() for size in port.partial_shape[1:])), dtype=np.float32)
            for port in graphs[MAP].inputs
        ]
        cpu = CORE.get_property("CPU", "FULL_DEVICE_NAME").strip()
        self.name = f"OpenVINO {VERSION.partition('-')[0]} on {cpu}, {cores} threads"

    def infer(self, count: int) -> Tensor:
        pixels = self.tiles[:count].permute(0, 2, 3, 1).numpy()
        requests = self._streams if count >= len(self._streams) else [self._single] * count
        share = -(-count // len(requests))  # ceiling division
        shares = [slice(start, min(start + share, count)) for start in range(0, count, share)]
        try:
            for request, part in zip(requests, shares, strict=False):
                request.start_async([pixels[part]], share_inputs=True)
                if request is self._single:
                    self._collect(request, part)
            if requests is self._streams:
                for request, part in zip(requests, shares, strict=False):
                    self._collect(request, part)
        except BaseException:
            for request in requests:  # the others still run: the next batch must not meet them busy
                with contextlib.suppress(Exception):
                    request.wait()
            raise
        results = self._map.infer([layer[:count] for layer in self._layers], share_inputs=True, share_outputs=True)
        maps = torch.from_numpy(results[0])
        if self.tiles.is_floating_point():  # OpenVINO's ReLU makes 0 of NaN: the map would be finite, and PASS
            maps[~self.tiles[:count].isfinite().all(dim=(1, 2, 3))] = torch.nan
        return maps

    def _collect(self, request: ov.InferRequest, part: slice) -> None:
        request.wait()
        for layer, output in zip(self._layers, request.output_tensors, strict=True):
            layer[part] = output.data

    def halve_batch(self) -> None:
        self.tiles = self.tiles[: max(1, len(self.tiles) // 2)]


def count_cores() -> int:
    """Cores this process may run on; OpenVINO by itself counts the machine's, whatever the affinity allows."""
    return len(os.sched_getaffinity(0))


class _ChannelsLast(nn.Module):
    """A network whose input is in the order cameras deliver: (B, t, t, 3)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, pixels: Tensor) -> Any:
        return self._network(pixels.permute(0, 3, 1, 2))


def convert(distances: nn.Module, maps: nn.Module, *, side: int, dtype: torch.dtype) -> dict[str, ov.Model]:
    """OpenVINO's graphs of a `DistanceNetwork` and a `MapNetwork` in float32, for any number of tiles."""
    pixels = torch.zeros(2, side, side, 3, dtype=dtype)
    network = _ChannelsLast(distances)
    with torch.no_grad():
        layers = network(pixels)
    return {DISTANCES: _convert(network, (pixels,)), MAP: _convert(maps, layers)}


def _convert(network: nn.Module, inputs: tuple[Tensor, ...]) -> ov.Model:
    count = torch.export.Dim("count", min=1, max=4096)
    with torch.no_grad():
        program = torch.export.export(network.eval(), inputs, dynamic_shapes=({0: count},) * len(inputs))
    graph = ov.convert_model(program)
    graph.reshape(
        {port: ov.PartialShape([-1, *tensor.shape[1:]]) for port, tensor in zip(graph.inputs, inputs, strict=True)}
    )
    return graph


def read(files: Mapping[str, bytes]) -> dict[str, ov.Model]:
    """The graphs that `write` left, from its files' contents by name.

    Raises:
        RuntimeError: missing or torn.
    """
    try:
        return {name: CORE.read_model(files[f"{name}.xml"], files[f"{name}.bin"]) for name in (DISTANCES, MAP)}
    except KeyError as error:
        raise RuntimeError(f"{error} is missing") from error


def write(graphs: dict[str, ov.Model], folder: Path) -> None:
    """Write graphs, each as an .xml and a .bin, in float32.

    Raises:
        OSError: they cannot be written.
    """
    try:
        for name, graph in graphs.items():
            ov.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
    except RuntimeError as error:  # what a full disk looks like
        raise OSError(f"{folder}: {error}") from error
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


_COMPARISON = {"Multiply", "Divide", "ReduceSum", "ReduceL2", "Maximum", "Clamp", "Sqrt", "Power", "Subtract"}


def quantise(graph: ov.Model, tiles: np.ndarray[Any, Any]) -> ov.Model:
    """An int8 copy of the distances' graph: ranges of all features measured on `tiles` (n, t, t, 3) of good frames.

    The comparison of teacher and student computes in float32, from the bytes that convolutions read where they do: a
    feature is not written in float32 beside them. Ranges reach to the extremes over all tiles and biases are left
    alone: NNCF's defaults (mean extremes, corrected biases) cost three times as much accuracy.

    Raises:
        ImportError: the extra `int8` (NNCF) is not installed.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.WARNING)
    untouched = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() in _COMPARISON]
    quantised = nncf.quantize(
        graph.clone(),
        nncf.Dataset([tile[None] for tile in tiles]),
        subset_size=len(tiles),
        ignored_scope=nncf.IgnoredScope(names=untouched, validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=True
        ),
    )
    _share_bytes(quantised)
    return quantised


def _share_bytes(graph: ov.Model) -> None:
    """Let the comparison read a feature as the bytes that a convolution reads, where one does."""
    for node in graph.get_ordered_ops():
        readers = list(node.output(0).get_target_inputs()) if node.get_output_size() == 1 else []
        kinds = [reader.get_node().get_type_name() for reader in readers]
        if node.get_type_name() == "FakeQuantize" or "FakeQuantize" not in kinds:
            continue
        # Those of one feature are alike: all were measured on it.
        quantised = readers[kinds.index("FakeQuantize")].get_node().output(0)
        for reader, kind in zip(readers, kinds, strict=True):
            if kind in _COMPARISON:
                reader.replace_source_output(quantised)
    graph.validate_nodes_and_infer_types()
