"""One frame on its way through the device, and what comes out of it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inspector.detection.decision import Decision, Map
from inspector.detection.fixture import unwarp_map, unwarp_region
from inspector.detection.tiling import TileGrid
from inspector.engine.download import Download
from inspector.errors import DeviceFaultError, FrameError
from inspector.types import Pose


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector made of one frame: the decision, the map it rests on, and where the time went (ms).

    `fetch_map` gives the map, which may still lie on the device: with columns enough for a picture of so many, or, for
    None, all of it. `pose`: of recipes with a fixture; regions and map are those of the frame as the camera took
    it all the same.
    """

    decision: Decision
    fetch_map: Callable[[int | None], Map]
    tiles: int
    latency_ms: dict[str, float]
    pose: Pose | None = None

    def unwarp(self, pose: Pose, frame_hw: tuple[int, int]) -> Judgement:
        """The same of the frame as the camera took it, where it was found on one that was warped by `pose`."""
        regions = tuple(unwarp_region(region, pose, frame_hw) for region in self.decision.regions)
        unwarped = functools.cache(lambda: unwarp_map(self.fetch_map(None), pose, frame_hw))
        decision = dataclasses.replace(self.decision, regions=regions)
        return dataclasses.replace(self, decision=decision, fetch_map=lambda _: unwarped(), pose=pose)

    @property
    def anomaly_map(self) -> Map:
        """(h, w) float32, fetched from the device only now where the decision did not need it."""
        return self.fetch_map(None)


class FrameRun:
    """One frame on its way through the device. Made by `Detector.begin`; `is_done` once all its tiles have run."""

    doubt: FrameError | None = None
    """Raised in place of a PASS: what the frame shows, which only a defect explains."""
    pose: Pose | None = None
    """Where the part lay before the frame was warped."""

    def __init__(self, image: Tensor, grid: TileGrid, tiles: Sequence[int], frame_hw: tuple[int, int]) -> None:
        """`image` (3, h, w), padded, is on the device; `tiles` are those that must run."""
        self.image = image
        self.grid = grid
        self.tiles = tiles
        self.frame_hw = frame_hw
        self.canvas = grid.blank((1,), torch.float32, image.device)
        self.done = 0
        self.summary: Download | None = None  # of its map, queued right after its last tile
        self.started = time.monotonic()
        self.preprocess_ms = 0.0

    def restart(self) -> None:
        """Discard what was computed; all tiles run again."""
        self.canvas.zero_()
        self.done = 0
        self.summary = None

    @property
    def anomaly_map(self) -> Tensor:
        """(h, w) float32 on the device: what has been blended so far."""
        return self.grid.crop(self.canvas)[0]

    @property
    def is_done(self) -> bool:
        """Whether all tiles have run, or have been handed to a device that does not make us wait."""
        return self.done == len(self.tiles)

    @property
    def is_ready(self) -> bool:
        """Whether `Detector.finish` would not have to wait."""
        return self.is_done and (self.summary is None or self.summary.is_ready)


def restart(runs: Sequence[FrameRun]) -> None:
    """Forget what these frames have: memory may have run out with half a batch blended, in any of them."""
    try:
        for run in runs:
            run.restart()
    except RuntimeError as error:
        raise DeviceFaultError(f"device: {error}") from error
