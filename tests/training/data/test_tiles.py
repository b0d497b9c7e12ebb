"""The order of training tiles."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspector.training.data.datasets import FrameSet, list_images, survey
from inspector.training.data.tiles import TileStream

CPU = torch.device("cpu")


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    """Frames of 100×150, 64×64 and 40×200, each pixel telling where it is."""
    for number, (height, width) in enumerate([(100, 150), (64, 64), (40, 200)]):
        rows, columns = np.mgrid[:height, :width]
        image = np.dstack([columns, rows, np.full((height, width), number)]).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    paths = list_images(tmp_path)
    return FrameSet(paths, survey(paths, 1.0, (0, 65_535))[0])


@pytest.mark.parametrize("epoch", range(5))
def test_every_part_of_every_frame_is_seen_in_each_epoch(frames: FrameSet, epoch: int) -> None:
    stream = TileStream(frames, 64, seed=1)
    seen = [np.zeros(size, dtype=bool) for size in frames.sizes]
    for number in range(stream.tiles_per_epoch):
        tile = stream[epoch * stream.tiles_per_epoch + number].clean
        seen[int(tile[0, 0, 0])][tile[1].long().numpy(), tile[2].long().numpy()] = True
    assert all(part.all() for part in seen)
    assert stream.tiles_per_epoch == 3 * 4 + 1 + 1 * 5


def test_epochs_differ_in_places_and_order(frames: FrameSet) -> None:
    stream = TileStream(frames, 64, seed=1)
    first, second = (
        [tuple(stream[epoch * stream.tiles_per_epoch + n].clean[:, 0, 0].tolist()) for n in range(18)]
        for epoch in range(2)
    )
    assert first != second
    assert set(first) != set(second)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_tiles_depend_on_seed_and_number_alone(frames: FrameSet, share: float) -> None:
    stream = TileStream(frames, 64, seed=1, pseudo_defect_share=share)
    straight = list(itertools.islice(stream.load(0, 4, CPU), 10))
    other_batches = list(itertools.islice(TileStream(frames, 64, 1, share).load(8, 16, CPU), 2))
    expected, got = (torch.cat([batch.shown for batch in batches]) for batches in (straight, other_batches))
    assert torch.equal(expected[8:40], got)
    assert not torch.equal(expected[:16], next(TileStream(frames, 64, 2, share).load(0, 16, CPU)).shown)


def test_tiles_are_the_same_out_of_worker_processes(frames: FrameSet, tmp_path: Path) -> None:
    paths = list_images(tmp_path)
    uncached = FrameSet(paths, survey(paths, 1.0, (0, 65_535))[0], cache_bytes=0)
    assert frames.all_cached
    assert not uncached.all_cached
    here, there = (next(TileStream(f, 64, 1, 0.5).load(0, 8, CPU)) for f in (frames, uncached))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_the_stated_share_of_tiles_is_changed_and_no_other(frames: FrameSet) -> None:
    stream = TileStream(frames, 64, seed=1, pseudo_defect_share=0.25)
    tiles = [stream[number] for number in range(400)]
    changed = [bool(tile.changed) for tile in tiles]
    assert 60 < sum(changed) < 140  # 100 ± 4.6 deviations
    assert all(torch.equal(tile.clean, tile.shown) != flag for tile, flag in zip(tiles, changed, strict=True))
    assert not any(tile.changed for tile in map(TileStream(frames, 64, seed=1).__getitem__, range(50)))
