"""What every engine offers, and how a precision is chosen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from inspector.types import Fallback


class Precision(StrEnum):
    """Number format of weights and features. Normalisation, distances, maps and scores are float32 in all."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class Engine(Protocol):
    """Runs the network on batches of tiles. Used by one thread at a time.

    Attributes:
        name: what runs it, and where, for people.
        device: where `tiles` and the maps are.
        precision: see `Precision`.
        tiles: (batch, 3, t, t) uint8, or float32 for Mono16, in [0, 255], channels last: the caller fills the first
            `count` and calls `infer(count)`. The same memory every time: nothing is allocated per frame.
        pays_for_full_batch: a batch takes as long however few tiles are in it.
        brings_own_threads: torch must keep to one thread beside it: its own pool's waiting threads would take the
            cores from this one's.
        frames_in_flight: how many frames may be under way at once: more than one where `infer` does not wait.
        fallback: see `Fallback`.
    """

    name: str
    device: torch.device
    precision: Precision
    tiles: Tensor
    pays_for_full_batch: bool
    frames_in_flight: int
    brings_own_threads: bool
    fallback: Fallback

    def infer(self, count: int) -> Tensor:
        """Anomaly maps (count, t, t) float32 of the first `count` tiles; the next call may overwrite them.

        Raises:
            RuntimeError, MemoryError: the device's fault, memory included.
        """
        ...

    def halve_batch(self) -> None:
        """Take half as many tiles at once from now on, to live in less memory; 1 stays 1."""
        ...


def choose_precision(device: torch.device) -> Precision:
    """The fastest precision without quantisation that the hardware has for itself."""
    if device.type == "cuda":
        return Precision.BF16 if torch.cuda.get_device_capability(device) >= (8, 0) else Precision.FP16
    return Precision.BF16 if has_bf16() else Precision.FP32


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this x86 CPU multiplies bfloat16 by itself; emulated it would be slower than float32.

    OpenVINO has no bfloat16 on others.
    """
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def allow_only_float32() -> None:
    """Make float32 mean float32 on GPUs too, whose convolutions would by default multiply with ten bits (TF32)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def allocate_tiles(batch: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate the input tensor of an engine, its `tiles`."""
    return torch.zeros(batch, 3, side, side, dtype=dtype, device=device).to(memory_format=torch.channels_last)
