"""How fast, how long and how precisely a training computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch

from inspector.training.options import OFFICIAL_STEPS, TrainOptions


def compute_rate_factor(schedule: Literal["constant", "onecycle"], share: float) -> float:
    """The learning rate as a share of its peak, at `share` (0 to 1) of the run.

    onecycle: a tenth of the run up from 4 %, then down to 0.1 % along a cosine (Smith & Topin, arXiv 1708.07120).
    """
    if schedule == "constant":
        return 1.0
    rise = 0.1
    if share < rise:
        return 0.04 + 0.96 * share / rise
    return 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - rise) / (1 - rise))))


def find_limits(tiles_per_epoch: int, options: TrainOptions) -> tuple[float, float]:
    """Steps and tiles at which a run of these options ends, infinity where that does not end it.

    `OFFICIAL_STEPS` where nothing else gives a run its length: a plateau may only end it sooner.
    """
    tiles = options.epochs * tiles_per_epoch if options.epochs else math.inf
    steps = options.steps or (math.inf if options.epochs or options.minutes else OFFICIAL_STEPS)
    return steps, tiles


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is native there: on a CUDA device since Ampere, on a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(flag in flags.read_text(encoding="utf-8") for flag in ("avx512_bf16", "amx_bf16"))
