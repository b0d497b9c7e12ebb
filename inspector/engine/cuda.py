"""The CUDA engine: half-precision kernels fused by torch.compile, replayed as one CUDA graph per batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inspector.device import is_out_of_memory
from inspector.engine.base import Precision, allocate_tiles, allow_only_float32
from inspector.engine.network import DistanceNetwork, MapNetwork
from inspector.model import ReverseDistillation
from inspector.types import Fallback

logger = logging.getLogger(__name__)

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
_WARM_UPS = 3

_INDUCTOR: dict[str, str | int | bool | Callable[..., Any]] = {
    "max_autotune": False,
    "max_autotune_gemm_backends": "ATEN",
    "max_autotune_conv_backends": "ATEN",
}
"""No kernels of Triton for convolutions and products, whatever the environment says.

Its templates for convolutions give wrong results with 8 warps before torch 2.14.1, are no faster than cuDNN's on Hopper
by torch's own word, and each shape would have up to 17 of them compiled and tried.
"""

_MOST_VARIANTS = 64
"""Recipes, and recompilations after a switch, of one process."""


class CudaEngine:
    """Runs batches of one fixed size, so that nothing is decided or allocated from one to the next.

    `infer` returns at once; whoever reads the maps on the host waits for them.
    """

    pays_for_full_batch = True
    frames_in_flight = 3
    brings_own_threads = False
    fallback = Fallback.NONE

    def __init__(
        self,
        model: ReverseDistillation,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        precision: Precision,
        *,
        side: int,
        dtype: torch.dtype,
        device: torch.device,
        batch: int = 32,
        compile_: bool = True,
    ) -> None:
        """Compile and capture.

        Args:
            model: the network, on any device; it is copied.
            mean: of RGB in [0, 1].
            std: of RGB in [0, 1].
            precision: fp32, bf16 or fp16.
            side: of a tile, in pixels.
            dtype: of the tiles.
            device: a CUDA device.
            batch: tiles at once.
            compile_: fuse operations with torch.compile; where that fails, torch's own kernels run, with a warning.

        Raises:
            RuntimeError: the device's fault, memory included.
        """
        self.device = device
        self.precision = precision
        self.tiles = allocate_tiles(batch, side, dtype, device)
        torch.backends.cudnn.benchmark = True  # shapes never change: the fastest kernel is found once
        allow_only_float32()
        network = DistanceNetwork(model, mean, std, DTYPES[precision]).to(device).to(memory_format=torch.channels_last)
        self._forward = _Forward(network, MapNetwork(model.anomaly_map).to(device))
        self._run: Callable[[Tensor], Tensor] = self._forward
        kernels = "torch's own kernels"
        if compile_:
            try:
                self._run = _compile(self._forward, self.tiles)
                kernels = "compiled kernels"
            except Exception as error:  # the compiler lets whatever its back ends raise through
                if is_out_of_memory(error):
                    raise
                self.fallback = Fallback.NOT_COMPILED
                logger.warning("torch.compile failed, so torch's own kernels run, which are slower: %s", error)
        self._graph, self._maps = self._capture(self.tiles)
        self.name = f"CUDA graph of {kernels} on {torch.cuda.get_device_name(device)}"

    def _capture(self, tiles: Tensor) -> tuple[Any, Tensor]:
        """Record one batch, which is from then on replayed in one launch: the graph, and where it leaves the maps."""
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(_WARM_UPS):
                self._run(tiles)
        torch.cuda.synchronize(self.device)
        graph: Any = torch.cuda.CUDAGraph()
        # On that stream, so on this device whichever is the current one; other threads may go on meanwhile.
        capture = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
        with torch.inference_mode(), capture:
            maps = self._run(tiles)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return graph, maps

    def infer(self, count: int) -> Tensor:
        """As `Engine`; what the last batch left in the other places is computed again and ignored."""
        self._graph.replay()
        return self._maps[:count]

    def halve_batch(self) -> None:
        """As `Engine`: a new graph, on torch's own kernels: compiling takes longer than a frame may wait.

        The old graph stays until the new one is there: where memory does not even suffice for that, this engine goes
        on as it was once memory is back.

        Raises:
            RuntimeError: the device's fault, memory included.
        """
        torch.cuda.empty_cache()
        tiles = self.tiles[: max(1, len(self.tiles) // 2)].clone(memory_format=torch.channels_last)
        run_before, self._run = self._run, self._forward
        # To try out cuDNN's kernels takes seconds that the worker has not: those its heuristic names will do.
        benchmark_before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        try:
            self._graph, self._maps = self._capture(tiles)
        except BaseException:
            self._run = run_before
            raise
        finally:
            torch.backends.cudnn.benchmark = benchmark_before
        self.tiles = tiles
        torch.cuda.empty_cache()  # what the old graph held


class _Forward(nn.Module):
    """Tiles → maps (B, t, t)."""

    def __init__(self, network: DistanceNetwork, maps: MapNetwork) -> None:
        super().__init__()
        self._network = network
        self._maps = maps

    def forward(self, tiles: Tensor) -> Tensor:
        maps: Tensor = self._maps(*self._network(tiles))
        return maps


def _compile(network: nn.Module, tiles: Tensor) -> Callable[[Tensor], Tensor]:
    # Each recipe is a variant of the same code to Dynamo, which silently stops compiling at the ninth.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VARIANTS)
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, fullgraph=True, options=_INDUCTOR)
    with torch.inference_mode():
        compiled(tiles)  # compiles now, so that its faults come now
    return compiled
