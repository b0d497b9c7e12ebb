"""How fast and how long a training learns."""

from __future__ import annotations

import math
from typing import Literal

from inspector.training.data.datasets import FrameSet
from inspector.training.data.tiles import TileStream
from inspector.training.optimise.options import OFFICIAL_STEPS, TrainOptions


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


def count_steps(frames: FrameSet, options: TrainOptions) -> float:
    """Steps that a run on all of `frames` takes at most; infinity where only minutes end it."""
    steps, tiles = find_limits(TileStream(frames, options.tile_size, 0).tiles_per_epoch, options)
    return min(steps, tiles / options.batch_size)
