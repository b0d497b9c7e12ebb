"""Which kernels run a recipe on a GPU, and in which batch: what cannot run, or is not proved, is replaced, aloud."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from inspector.config import Recipe
from inspector.device import is_out_of_memory
from inspector.engine.base import Engine, Precision
from inspector.engine.cuda import DTYPES, CudaBench, CudaEngine, Kernels, open_memory, prepare_torch
from inspector.engine.fusion import CUDNN, fuse
from inspector.engine.graphs import tile_dtype
from inspector.engine.kernels import KernelCache
from inspector.engine.layer_choice import Budget, choose_batch, choose_forms
from inspector.engine.network import FeatureNetwork
from inspector.errors import (
    DeviceFaultError,
    DeviceOutOfMemoryError,
    InspectorError,
    KernelsError,
    ScoreShiftError,
)
from inspector.files import write_whole
from inspector.model import ReverseDistillation
from inspector.model.folding import fold_batch_norm
from inspector.types import Fallback

logger = logging.getLogger(__name__)

_BATCH = 32
_LEAST_BATCH = 8
_MOST_ATTEMPTS = 2
_HANG_S = 240.0
"""A build that takes so long counts as the cause of the stop: systemd stops a start that hangs, see `TUNING_S`."""

TUNING_S = 60.0
"""Time to choose batch and forms: a fifth of what loading a recipe may take before systemd gives the start up."""

_FALLBACKS = {
    Kernels.FUSED: Fallback.NONE,
    Kernels.COMPILED: Fallback.NOT_FUSED,
    Kernels.OWN: Fallback.NOT_COMPILED,
}

Prove = Callable[[Engine], Engine]


@dataclass(frozen=True, slots=True)
class CudaOrder:
    """What is to be built: see `build_engine`.

    Attributes:
        prove: raises `ScoreShiftError` where an engine is not right.
        budget: time to choose batch and forms.
    """

    recipe: Recipe
    model: ReverseDistillation
    precision: Precision
    device: torch.device
    batch: int | None
    cache: Path | None
    prove: Prove
    budget: Budget = field(default_factory=lambda: Budget(TUNING_S))


def build_cuda_engine(order: CudaOrder) -> Engine:
    """The engine, proved, of the first kind of kernels that can be had and is right.

    Its batch is the one asked for, or else the one chosen for fused kernels and `_BATCH` for others; half of it, and
    half again, where the last two kinds have no room.

    Raises:
        ScoreShiftError: no kind of kernels is right.
        DeviceOutOfMemoryError: no room for the smallest batch.
        DeviceFaultError: the device's fault.
    """
    prepare_torch()
    if order.cache is None:
        return _try_batches(order, list(Kernels))
    # torch.compile keeps its kernels there, by machine and versions
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(order.cache / "inductor"))
    cache = KernelCache(order.cache / "inductor")
    cache.clear_torn()
    attempts = _Attempts(order.cache / "fused-attempts")
    kinds = list(Kernels) if attempts.begin() else [Kernels.COMPILED, Kernels.OWN]
    with attempts:
        engine = _try_batches(order, kinds)
    cache.put_on_record()
    return engine


_under_way: set[_Attempts] = set()


def forgive_attempts() -> None:
    """For a process that is stopped while it builds: no build under way is what ends it, unless it hangs."""
    for attempts in tuple(_under_way):
        attempts.forgive()


class _Attempts:
    """Keeps a GPU whose fused kernels end the process, or its device, from ending every start.

    A file counts the builds that began since one ended in good order: with an engine, with an error that is not the
    device's, or in a stop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began_s = time.monotonic()

    def begin(self) -> bool:
        """Whether fused kernels may be tried."""
        try:
            count = int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            count = 0
        if count >= _MOST_ATTEMPTS:
            logger.warning("fused kernels are left out: %d starts in a row ended while they were tried", count)
            return False
        with contextlib.suppress(InspectorError, OSError):  # without a cache there is nothing to count in
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, str(count + 1).encode())
        return True

    def forgive(self) -> None:
        if time.monotonic() - self._began_s < _HANG_S:
            self._delete()

    def __enter__(self) -> None:
        _under_way.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _under_way.discard(self)
        if not isinstance(error, DeviceFaultError):
            self._delete()

    def _delete(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


def _try_batches(order: CudaOrder, kinds: Sequence[Kernels]) -> Engine:
    usual = order.batch or _BATCH
    is_tuned = order.cache is not None and Kernels.FUSED in kinds  # what is not remembered would be timed each time
    fused = _tune_batch(order) if is_tuned and order.batch is None else usual
    batches = list_batches(usual)
    for batch in batches:
        try:
            _free()
            fused_now = fused if batch == usual else min(fused, batch)
            return _try_kernels(order, {kind: fused_now if kind is Kernels.FUSED else batch for kind in kinds})
        except RuntimeError as error:
            if not is_out_of_memory(error):  # no fault of the configuration: a restart may help
                raise DeviceFaultError(f"device {order.device}: {error}") from error
            if batch == batches[-1]:
                raise DeviceOutOfMemoryError(
                    f"device {order.device}: recipe {order.recipe.recipe_id} has no room: {error}"
                ) from error
            logger.warning("device %s: no room for %d tiles at once, half as many are tried", order.device, batch)
    raise AssertionError("a batch is tried at least")


def _tune_batch(order: CudaOrder) -> int:
    """The batch in which the fused convolutions are fastest, which take most of the time; `_BATCH` where they fail."""
    recipe = order.recipe
    side, tiles = recipe.tiling.tile_size, count_tiles(recipe)
    name = f"batch of {recipe.backbone} {recipe.bottleneck_width} {side} {order.precision} {tiles}"
    try:
        bench, memory = CudaBench(order.device), open_memory(order.cache, order.device)
        features = functools.cache(lambda: _fuse_features(order))

        def time_batch(batch: int) -> float:
            images = torch.randn(batch, 3, side, side, device=order.device).to(DTYPES[order.precision])
            images = images.to(memory_format=torch.channels_last)
            choose_forms(features(), images, bench, memory, order.budget)
            return bench.time(lambda: features()(images))

        return choose_batch(time_batch, tiles, memory, name, order.budget) or _BATCH
    except Exception as error:  # noqa: BLE001 (torch and cuDNN each have their own; building will show whose fault)
        logger.warning("the batch is %d, and was not timed: %s", _BATCH, error)
        return _BATCH


def _fuse_features(order: CudaOrder) -> nn.Module:
    network = FeatureNetwork(fold_batch_norm(order.model).requires_grad_(False)).to(DTYPES[order.precision]).eval()
    return fuse(network.to(order.device).to(memory_format=torch.channels_last), CUDNN)


def count_tiles(recipe: Recipe) -> int | None:
    """Tiles of a frame; None: frames are of any size."""
    map_hw, tiling = recipe.preprocessing.map_hw, recipe.tiling
    if map_hw is None:
        return None
    down, across = (max(0, -(-(side - tiling.tile_size) // tiling.stride)) + 1 for side in map_hw)
    return down * across


def list_batches(first: int) -> list[int]:
    """The batches to try where memory is short: `first`, then half of each as long as that is `_LEAST_BATCH`."""
    batches = [first]
    while batches[-1] // 2 >= _LEAST_BATCH:
        batches.append(batches[-1] // 2)
    return batches


def _try_kernels(order: CudaOrder, batches: Mapping[Kernels, int]) -> Engine:
    kinds = list(batches)
    for kernels, batch in batches.items():
        try:
            engine = order.prove(_build(order, kernels, batch))
        except (KernelsError, ScoreShiftError) as error:
            if kernels is kinds[-1]:
                raise
            logger.warning("recipe %s: %s kernels are not used: %s", order.recipe.recipe_id, kernels, error)
        else:
            if engine.fallback is Fallback.NONE:
                engine.fallback = _FALLBACKS[kernels]
            return engine
        _free()
    raise AssertionError("torch's own kernels are tried at least")


def _build(order: CudaOrder, kernels: Kernels, batch: int) -> CudaEngine:
    normalisation = order.recipe.preprocessing.normalisation
    return CudaEngine(
        order.model,
        normalisation.mean,
        normalisation.std,
        order.precision,
        side=order.recipe.tiling.tile_size,
        dtype=tile_dtype(order.recipe),
        device=order.device,
        batch=batch,
        kernels=kernels,
        cache=order.cache,
        budget=order.budget,
    )


def _free() -> None:
    """Give back what was allocated for a trial, or by an engine that failed, once its error has let go of it."""
    gc.collect()
    torch.cuda.empty_cache()
