"""One frame on its way through the device, and what comes out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inspector.detection.decision import Decision, Map
from inspector.detection.tiling import TileGrid
from inspector.errors import DeviceFaultError, FrameError


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector made of one frame: the decision, the map it rests on, and where the time went (ms).

    `fetch_map` gives the map; where the decision did not need it, it still lies on the device.
    """

    decision: Decision
    fetch_map: Callable[[], Map]
    tiles: int
    latency_ms: dict[str, float]

    @property
    def anomaly_map(self) -> Map:
        """(h, w) float32, fetched from the device only now where the decision did not need it."""
        return self.fetch_map()


class FrameRun:
    """One frame on its way through the device. Made by `Detector.begin`; `is_done` once all its tiles have run."""

    doubt: FrameError | None = None
    """Raised in place of a PASS: what the frame shows, which only a defect explains."""

    def __init__(self, image: Tensor, grid: TileGrid, tiles: Sequence[int], frame_hw: tuple[int, int]) -> None:
        """`image` (3, h, w), padded, is on the device; `tiles` are those that must run."""
        self.image = image
        self.grid = grid
        self.tiles = tiles
        self.frame_hw = frame_hw
        self.canvas = grid.blank((1,), torch.float32, image.device)
        self.done = 0
        self.computed: Any = None  # on a device that does not make us wait: its event after the last tile
        self.started = time.monotonic()
        self.preprocess_ms = 0.0

    def restart(self) -> None:
        """Discard what was computed; all tiles run again."""
        self.canvas.zero_()
        self.done = 0
        self.computed = None

    @property
    def is_done(self) -> bool:
        """Whether all tiles have run, or have been handed to a device that does not make us wait."""
        return self.done == len(self.tiles)

    @property
    def is_ready(self) -> bool:
        """Whether `Detector.finish` would not have to wait."""
        return self.is_done and (self.computed is None or bool(self.computed.query()))


def restart(runs: Sequence[FrameRun]) -> None:
    """Forget what these frames have: memory may have run out with half a batch blended, in any of them."""
    try:
        for run in runs:
            run.restart()
    except RuntimeError as error:
        raise DeviceFaultError(f"device: {error}") from error
