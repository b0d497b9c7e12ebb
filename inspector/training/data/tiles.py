"""Which tiles training sees, in which order: tile i of a run follows from the seed and i alone.

So a run that was killed goes on where it stopped, whatever the batch size or the number of worker processes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from inspector.detection.tiling import Tiler
from inspector.training.data.datasets import FrameSet
from inspector.training.data.pseudo_defects import add_pseudo_defect

_MAX_WORKERS = 8


class TrainingTile(NamedTuple):
    """One tile, or one batch of them.

    Attributes:
        clean: (3, t, t) uint8, or float32 of Mono16 frames, [0, 255]: what the teacher sees.
        shown: the same with a pseudo-defect on it, where `changed`: what the student is shown.
        changed: bool scalar.
    """

    clean: Tensor
    shown: Tensor
    changed: Tensor


class Place(NamedTuple):
    """Position of a tile: its frame and its corner."""

    frame: int
    top: int
    left: int


class TileStream(Dataset[TrainingTile]):
    """An endless sequence of tiles, epoch after epoch.

    An epoch lays over each frame a gapless grid, shifted at random, so that every part of every frame is seen, and
    takes its tiles in random order. One that would reach over the frame's edge is moved inward.
    """

    def __init__(self, frames: FrameSet, tile_size: int, seed: int, pseudo_defect_share: float = 0.0) -> None:
        """Build it.

        Args:
            frames: the good frames.
            tile_size: pixels of the scaled frame.
            seed: of places, order and pseudo-defects.
            pseudo_defect_share: of the tiles that get a pseudo-defect, 0 to 1.
        """
        self._frames = frames
        self._tile_size = tile_size
        self._seed = seed
        self._share = pseudo_defect_share
        self._plan = lru_cache(maxsize=2)(self._plan_epoch)

    @property
    def tiles_per_epoch(self) -> int:
        """Tiles of one epoch."""
        side = self._tile_size
        return sum(math.prod(_count(length, side) for length in size) for size in self._frames.sizes)

    def __len__(self) -> int:
        return 2**62  # without end: the sampler says how far

    def __getitem__(self, number: int) -> TrainingTile:
        """Tile `number` of the run, from 0."""
        clean = self._cut(self._place(number))
        generator = self._generator(1, number)
        if float(torch.rand(1, generator=generator)) >= self._share:
            return TrainingTile(clean, clean, torch.tensor(False))
        other = int(torch.randint(self.tiles_per_epoch, (1,), generator=generator))
        foreign = self._cut(self._place(number - number % self.tiles_per_epoch + other))
        return TrainingTile(clean, add_pseudo_defect(clean, foreign, generator), torch.tensor(True))

    def load(self, start: int, batch_size: int, device: torch.device) -> Iterator[TrainingTile]:
        """Batches from tile `start` on, without end.

        Worker processes cut tiles where frames have to be decoded again and again, or where a fast device waits.
        """
        busy = not self._frames.all_cached or device.type == "cuda"
        workers = min(_MAX_WORKERS, max(1, (os.cpu_count() or 1) - 1)) if busy else 0
        loader = DataLoader(
            self,
            batch_size=batch_size,
            sampler=range(start, len(self)),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # shares the cached frames
            pin_memory=device.type == "cuda",
        )
        return iter(loader)

    def _place(self, number: int) -> Place:
        epoch, index = divmod(number, self.tiles_per_epoch)
        return self._plan(epoch)[index]

    def _plan_epoch(self, epoch: int) -> list[Place]:
        generator = self._generator(0, epoch)
        places = [
            Place(frame, top, left)
            for frame, (height, width) in enumerate(self._frames.sizes)
            for tops, lefts in [(self._offsets(height, generator), self._offsets(width, generator))]
            for top in tops
            for left in lefts
        ]
        return [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]

    def _offsets(self, length: int, generator: torch.Generator) -> list[int]:
        side = self._tile_size
        shift = int(torch.randint(side, (1,), generator=generator))
        last = max(0, length - side)
        return [min(max(0, step * side - shift), last) for step in range(_count(length, side))]

    def _cut(self, place: Place) -> Tensor:
        side = self._tile_size
        crop = self._frames[place.frame][:, place.top : place.top + side, place.left : place.left + side]
        height, width = crop.shape[1:]
        return Tiler(side, side).grid((height, width)).tile(crop)[0]  # fills up by reflection what is smaller

    def _generator(self, purpose: int, number: int) -> torch.Generator:
        # torch keeps 32 bits of a seed, so that they have to be mixed first.
        mixed = np.random.SeedSequence((self._seed, purpose, number)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))


def _count(length: int, side: int) -> int:
    return 1 if length <= side else math.ceil(length / side) + 1
