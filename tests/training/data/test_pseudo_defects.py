"""Pseudo-defects change a small part of a tile, and always some of it."""

from __future__ import annotations

import pytest
import torch

from inspector.training.data.pseudo_defects import add_pseudo_defect, draw_mask


@pytest.mark.parametrize("side", [32, 64, 256])
def test_masks_are_never_empty_and_stay_small(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([float((draw_mask(side, generator) > 0).float().mean()) for _ in range(100)])
    assert shares.min() > 0
    assert shares.max() < 0.5  # a tenth, and the seam about thin lines
    assert 0.001 < shares.median() < 0.1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_tile_changes_inside_its_range_and_keeps_its_type(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tile, other = torch.full((3, 64, 64), 90, dtype=dtype), torch.full((3, 64, 64), 160, dtype=dtype)
    for _ in range(50):
        before = tile.clone()
        changed = add_pseudo_defect(tile, other, generator)
        assert changed.dtype == dtype
        assert changed.shape == tile.shape
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 255
        assert not torch.equal(changed, tile)
        assert torch.equal(tile, before)
        assert (changed == tile).float().mean() > 0.4


def test_pseudo_defects_repeat_with_the_generator() -> None:
    tile = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    first, again = (add_pseudo_defect(tile, 255 - tile, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
