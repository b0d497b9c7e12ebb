"""The CUDA engine: half-precision kernels, fused by cuDNN or by torch.compile, replayed as one CUDA graph per batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import inspector
from inspector.device import is_out_of_memory, read_driver
from inspector.engine.base import Precision, allocate_tiles, allow_only_float32
from inspector.engine.cache import compute_key
from inspector.engine.fusion import CUDNN, Form, Operators, fuse, get_layers
from inspector.engine.layer_choice import UNLIMITED, Budget, Memory, choose_forms
from inspector.engine.network import DistanceNetwork, Finish, Forward, MapNetwork
from inspector.errors import KernelsError
from inspector.model import ReverseDistillation
from inspector.types import Fallback

logger = logging.getLogger(__name__)

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
_WARM_UPS = 3
_TIMED_RUNS = 5
_TIMINGS = 2

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


class Kernels(StrEnum):
    """What the graph is made of, in the order in which they are tried.

    FUSED: convolutions of cuDNN with bias, sum and ReLU in them, the rest compiled.
    COMPILED: all by torch.compile, which leaves convolutions alone and fuses what is between them.
    OWN: torch's own, operation by operation.
    """

    FUSED = "fused"
    COMPILED = "compiled"
    OWN = "own"


class CudaEngine:
    """Runs batches of one fixed size, so that nothing is decided or allocated from one to the next.

    `infer` returns at once; whoever reads the maps on the host waits for them.

    Attributes:
        forms: how many layers run in which form, where they are fused.
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
        kernels: Kernels = Kernels.FUSED,
        operators: Operators = CUDNN,
        cache: Path | None = None,
        budget: Budget = UNLIMITED,
    ) -> None:
        """Fuse or compile, and capture.

        Args:
            model: the network, on any device; it is copied.
            mean: of RGB in [0, 1].
            std: of RGB in [0, 1].
            precision: fp32, bf16 or fp16.
            side: of a tile, in pixels.
            dtype: of the tiles.
            device: a CUDA device.
            batch: tiles at once.
            kernels: what to run; where torch.compile fails, torch's own run in place of compiled ones, with a warning.
            operators: what runs fused layers.
            cache: folder in which the forms of fused layers are remembered; None: nowhere.
            budget: time to choose those that are not.

        Raises:
            KernelsError: fused kernels cannot be had, have no room, or fewer than half of the layers are known to be
                right and faster in them.
            RuntimeError: the device's fault, memory included.
        """
        self.device = device
        self.precision = precision
        self.tiles = allocate_tiles(batch, side, dtype, device)
        self.forms: Mapping[Form, int] = {}
        prepare_torch()
        network = DistanceNetwork(model, mean, std, DTYPES[precision]).to(device).to(memory_format=torch.channels_last)
        self._forward = Forward(network, MapNetwork(model.anomaly_map).to(device))
        try:
            self._run = self._build_run(kernels, operators, cache, budget)
            self._graph, self._maps = self._capture(self.tiles)
        except Exception as error:  # torch, cuDNN and the compiler each have their own
            if kernels is not Kernels.FUSED:
                raise
            raise KernelsError(f"fused kernels cannot run: {error}") from error
        made_of = {Kernels.FUSED: "fused kernels", Kernels.COMPILED: "compiled kernels"}
        if kernels is Kernels.COMPILED and self.fallback is Fallback.NOT_COMPILED:
            kernels = Kernels.OWN
        name = made_of.get(kernels, "torch's own kernels")
        self.name = f"CUDA graph of {name} on {torch.cuda.get_device_name(device)}"

    def _build_run(
        self, kernels: Kernels, operators: Operators, cache: Path | None, budget: Budget
    ) -> Callable[[Tensor], Tensor]:
        if kernels is Kernels.FUSED:
            return self._fuse(operators, cache, budget)
        return self._try_compile(self._forward, self.tiles) if kernels is Kernels.COMPILED else self._forward

    def _fuse(self, operators: Operators, cache: Path | None, budget: Budget) -> Callable[[Tensor], Tensor]:
        """Fused convolutions, between what is done to the pixels before them and to the features after them."""
        normalise, finish = self._forward.network.normalise, Finish(self._forward.maps)
        features = fuse(self._forward.network.features, operators)
        noise = torch.randint(0, 256, self.tiles.shape, generator=torch.Generator().manual_seed(0))
        self.tiles.copy_(noise)
        with torch.inference_mode():
            images = normalise(self.tiles)
            memory = open_memory(cache, self.device)
            self.forms = choose_forms(features, images, CudaBench(self.device), memory, budget)
            able = [layer for layer in get_layers(features) if len(layer.forms) > 1]
            fused = sum(layer.form is not Form.PLAIN for layer in able)
            if 2 * fused < len(able):  # too few of them to beat the compiler's fusion of what is between
                raise KernelsError(f"only {fused} of {len(able)} layers are known to be right and faster when fused")
            logger.info("layers: %s", ", ".join(f"{count} as {form}" for form, count in sorted(self.forms.items())))
            compiled_normalise = self._try_compile(normalise, self.tiles)
            compiled_finish = self._try_compile(finish, *features(images))
        self.tiles.zero_()
        return lambda tiles: compiled_finish(*features(compiled_normalise(tiles)))

    def _try_compile(self, step: Callable[..., Tensor], *inputs: Any) -> Callable[..., Tensor]:
        """`step` compiled; as it is, with a warning, where that fails."""
        if self.fallback is Fallback.NOT_COMPILED:
            return step
        try:
            return _compile(step, *inputs)
        except Exception as error:  # the compiler lets whatever its back ends raise through
            if is_out_of_memory(error):
                raise
            self.fallback = Fallback.NOT_COMPILED
            logger.warning("torch.compile failed, so torch's own kernels run, which are slower: %s", error)
            return step

    def _capture(self, tiles: Tensor) -> tuple[Any, Tensor]:
        """Record one batch, which is from then on replayed in one launch: the graph, and where it leaves the maps."""
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return capture(lambda: self._run(tiles), self.device, stream)

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


def prepare_torch() -> None:
    """The settings that CUDA engines run in, of the whole process, so that what is timed before is timed in them."""
    torch.backends.cudnn.benchmark = True  # shapes never change: the fastest kernel is found once
    allow_only_float32()


def capture(
    step: Callable[[], Any], device: torch.device, stream: Any, *, warm_up: Callable[[], Any] | None = None
) -> tuple[Any, Any]:
    """A CUDA graph of what `step` does, warmed up before, and what it returned: the memory each replay writes to.

    Args:
        step: what is recorded.
        device: where it runs.
        stream: on which it is warmed up and recorded.
        warm_up: what `step` repeats; None: `step` itself.
    """
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), torch.inference_mode():
        for _ in range(_WARM_UPS):
            (warm_up or step)()
    torch.cuda.synchronize(device)
    graph: Any = torch.cuda.CUDAGraph()
    # On that stream, so on this device whichever is the current one; other threads may go on meanwhile.
    capturing = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with torch.inference_mode(), capturing:
        result = step()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result


class CudaBench:
    """A GPU, as `Bench`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # One for all: cuBLAS keeps memory for its work for each stream that it has seen.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def time(self, step: Callable[[], object]) -> float:
        """As `Bench`: of several runs in a graph, as they will be later, where launching them takes no time."""

        def repeat() -> None:
            for _ in range(_TIMED_RUNS):
                step()

        graph, _ = capture(repeat, self._device, self._stream, warm_up=step)
        seconds = []
        for _ in range(_TIMINGS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            stream = torch.cuda.current_stream(self._device)
            start.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            seconds.append(float(start.elapsed_time(end)) / 1e3 / _TIMED_RUNS)
        return min(seconds)

    def poison(self, like: Tensor) -> None:
        """As `Bench`: the allocator finds the same block for the next one of this size, if it is the next at all."""
        torch.full_like(like, torch.nan)


def open_memory(cache: Path | None, device: torch.device) -> Memory:
    """What was chosen on this GPU, with this driver and these versions."""
    driver = read_driver()
    facts = {
        "gpu": torch.cuda.get_device_name(device),
        "driver": driver and driver.version,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "torch": torch.__version__,
        "inspector": inspector.__version__,
    }
    return Memory(None if cache is None else cache / f"layers-{compute_key(facts)}.json")


def _compile(step: Callable[..., Tensor], *inputs: Any) -> Callable[..., Tensor]:
    # Each recipe is a variant of the same code to Dynamo, which silently stops compiling at the ninth.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VARIANTS)
    compiled: Callable[..., Tensor] = torch.compile(step, dynamic=False, fullgraph=True, options=_INDUCTOR)
    with torch.inference_mode():
        compiled(*inputs)  # compiles now, so that its faults come now
    return compiled
