"""The reference engine is the model itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inspector.engine.base import Precision
from inspector.engine.eager import EagerEngine
from inspector.model import ReverseDistillation

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

MakeEager = Callable[..., EagerEngine]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_maps_are_the_models_when_tiles_are_normalised(
    make_eager: MakeEager, model: ReverseDistillation, make_tiles: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    engine, tiles = make_eager(batch=4, dtype=dtype), make_tiles(4, dtype=dtype)
    assert (engine.precision, engine.device.type) == (Precision.FP32, "cpu")
    assert engine.tiles.dtype == dtype
    engine.tiles.copy_(tiles)
    with torch.inference_mode():
        expected = model((tiles.float() / 255 - MEAN) / STD)[:, 0]
    torch.testing.assert_close(engine.infer(4), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(engine.infer(3), expected[:3], rtol=0, atol=1e-5)


def test_batch_is_half_when_halved_and_1_stays_1(make_eager: MakeEager, make_tiles: Callable[..., Tensor]) -> None:
    engine, tiles = make_eager(batch=5), make_tiles(1)
    engine.tiles[:1] = tiles
    whole = engine.infer(1)
    for expected in (2, 1, 1):
        engine.halve_batch()
        assert len(engine.tiles) == expected
    engine.tiles[:1] = tiles
    torch.testing.assert_close(engine.infer(1), whole)


def test_map_is_nan_when_a_pixel_is(make_eager: MakeEager, make_tiles: Callable[..., Tensor]) -> None:
    engine = make_eager(batch=2, dtype=torch.float32)
    engine.tiles.copy_(make_tiles(2, dtype=torch.float32))
    engine.tiles[0, 1, 20, 30] = torch.nan
    maps = engine.infer(2)
    assert bool(maps[0].isnan().any())
    assert bool(maps[1].isfinite().all())
