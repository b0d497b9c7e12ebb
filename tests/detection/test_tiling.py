"""Tiling: cutting and blending lose nothing, anywhere, for any size."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from inspector.detection.tiling import Tiler, TilingMode

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tiler, tuple[int, int, int], int]:
    """A tiler, an image's (C, H, W) and a seed; sizes bounded so that at most about 200 tiles come out."""
    tile_size = draw(st.integers(8, 48))
    stride = draw(st.integers(1, tile_size))
    side = st.integers(1, min(200, tile_size + 12 * stride))
    mode = draw(st.sampled_from(TilingMode))
    return Tiler(tile_size, stride, mode), (draw(st.integers(1, 4)), draw(side), draw(side)), draw(st.integers(0, 99))


def draw_image(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype is torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=dtype)
    return (torch.randn(shape, generator=generator) * 100).to(dtype)


@thorough
@given(cases())
def test_untile_restores_the_image_when_tiles_are_unchanged(case: tuple[Tiler, tuple[int, int, int], int]) -> None:
    tiler, shape, seed = case
    grid = tiler.grid(shape[1:])
    for dtype in (torch.uint8, torch.float16):
        image = draw_image(shape, dtype, seed)
        restored = grid.untile(grid.tile(image))
        assert restored.dtype is dtype
        assert torch.equal(restored, image)
    image = draw_image(shape, torch.float32, seed)
    # Summing n weighted tiles in float32 rounds by at most (n + 3) · 2⁻²⁴: beyond 1e-6 only where n > 13.
    overlapping = (math.ceil(tiler.tile_size / tiler.stride) + 1) ** 2
    rtol = max(1e-6, (overlapping + 3) * 2**-24)
    torch.testing.assert_close(grid.untile(grid.tile(image)), image, rtol=rtol, atol=0)


def test_untile_restores_the_image_when_every_pixel_lies_in_hundreds_of_tiles() -> None:
    grid = Tiler(24, 1).grid((40, 41))
    image = draw_image((2, 40, 41), torch.float32)
    torch.testing.assert_close(grid.untile(grid.tile(image)), image, rtol=1e-5, atol=0)
    grey = draw_image((40, 41), torch.uint8)
    assert torch.equal(grid.untile(grid.tile(grey)), grey)


@thorough
@given(cases())
def test_untile_restores_two_dimensional_images_when_there_is_no_channel(
    case: tuple[Tiler, tuple[int, int, int], int],
) -> None:
    tiler, (_, *size), seed = case
    image = draw_image(tuple(size), torch.uint8, seed)
    grid = tiler.grid(tuple(size))
    assert torch.equal(grid.untile(grid.tile(image)), image)


@thorough
@given(cases(), st.data())
def test_nan_stays_where_it_is_when_one_pixel_holds_it(
    case: tuple[Tiler, tuple[int, int, int], int], data: st.DataObject
) -> None:
    tiler, (channels, height, width), seed = case
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    image = draw_image((channels, height, width), torch.float32, seed)
    image[0, y, x] = float("nan")
    grid = tiler.grid((height, width))
    assert grid.untile(grid.tile(image)).isnan().nonzero().tolist() == [[0, y, x]]


def test_tiles_hold_the_image_when_cut() -> None:
    image = torch.arange(40 * 50).reshape(40, 50)
    grid = Tiler(16, 12).grid((40, 50))
    tiles = grid.tile(image)
    corners = [(y, x) for y in grid.tops for x in grid.lefts]
    assert len(tiles) == len(grid) == len(corners)
    for tile, (y, x) in zip(tiles, corners, strict=True):
        assert torch.equal(tile, image[y : y + 16, x : x + 16])
    assert torch.equal(grid.tile(image, 3, 7), tiles[3:7])


@pytest.mark.parametrize(
    ("tile_size", "stride", "length", "offsets"),
    [
        (64, 48, 130, (0, 48, 66)),
        (64, 48, 112, (0, 48)),
        (64, 64, 128, (0, 64)),
        (64, 64, 129, (0, 64, 65)),
        (64, 64, 65, (0, 1)),
        (64, 64, 64, (0,)),
        (64, 32, 10, (0,)),
    ],
)
def test_last_tile_is_shifted_inward_when_the_stride_does_not_fit(
    tile_size: int, stride: int, length: int, offsets: tuple[int, ...]
) -> None:
    assert Tiler(tile_size, stride).grid((length, 64)).tops == offsets
    assert Tiler(tile_size, stride).grid((64, length)).lefts == offsets


def test_last_tile_is_not_shifted_when_in_anomalib_mode() -> None:
    assert Tiler(64, 48, TilingMode.ANOMALIB).grid((130, 64)).tops == (0, 48, 96)


def test_small_frames_are_reflected_when_smaller_than_a_tile() -> None:
    grid = Tiler(8, 8).grid((1, 3))
    tile = grid.tile(torch.tensor([[10, 20, 30]]))[0]
    assert tile.tolist() == [[10, 20, 30, 20, 10, 20, 30, 20]] * 8


@pytest.mark.parametrize(("tile_size", "stride"), [(32, 16), (32, 8), (32, 24)])
def test_blend_is_continuous_when_tiles_differ_and_overlap(tile_size: int, stride: int) -> None:
    grid = Tiler(tile_size, stride).grid((tile_size + 3 * stride, tile_size + 2 * stride))
    generator = torch.Generator().manual_seed(5)
    offsets = torch.rand(len(grid), generator=generator)  # tiles disagree by less than 1
    blended = grid.untile(offsets[:, None, None].expand(-1, tile_size, tile_size))
    steps = max(float(blended.diff(dim=0).abs().max()), float(blended.diff(dim=1).abs().max()))
    # A tile fades in over the overlap, or over the stride where more tiles overlap; a hard seam would be a step of 1.
    assert steps <= 1 / min(stride, tile_size - stride)
    assert float(offsets.min()) - 1e-6 <= float(blended.min())
    assert float(blended.max()) <= float(offsets.max()) + 1e-6


def test_overlap_is_weighted_by_the_distance_to_the_edge_when_two_tiles_meet() -> None:
    grid = Tiler(4, 2).grid((4, 6))
    tiles = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    # Windows 1 2 2 1: column 2 weighs 2 (left tile) against 1 (right tile), column 3 weighs 1 against 2.
    assert grid.untile(tiles)[0].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_two_threads_do_not_disturb_each_other_when_sharing_a_tiler() -> None:
    tiler = Tiler(32, 20)

    def work(size: tuple[int, int]) -> bool:
        image = draw_image((3, *size), torch.uint8, seed=size[0])
        return all(torch.equal(tiler.grid(size).untile(tiler.grid(size).tile(image)), image) for _ in range(15))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [(70, 91), (113, 40)])) == [True, True]


@pytest.fixture(scope="module")
def anomalib_tiler() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "anomalib.data.utils.tiler",
            reason="anomalib is not installed: install the bench extra",
            exc_type=ImportError,
        )
    return module.Tiler


@pytest.mark.parametrize("size", [(64, 96), (70, 101), (32, 33), (95, 64)])
@pytest.mark.parametrize("stride", [32, 16, 24, 13])
def test_anomalib_mode_equals_anomalib_when_tiling_and_untiling(
    anomalib_tiler: Any, size: tuple[int, int], stride: int
) -> None:
    theirs = anomalib_tiler(32, stride)
    grid = Tiler(32, stride, TilingMode.ANOMALIB).grid(size)
    image = draw_image((3, *size), torch.float32)
    expected = theirs.tile(image[None])
    tiles = grid.tile(image)
    assert torch.equal(tiles, expected)
    changed = tiles + torch.arange(len(tiles), dtype=torch.float32)[:, None, None, None]
    torch.testing.assert_close(grid.untile(changed), theirs.untile(changed)[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_blend_in_pieces_equals_untile_when_micro_batched(batch: int) -> None:
    grid = Tiler(32, 20).grid((77, 90))
    tiles = draw_image((len(grid), 2, 32, 32), torch.float32)
    canvas = grid.blank((2,), torch.float32, tiles.device)
    for start in range(0, len(grid), batch):
        part = tiles[start : start + batch]
        grid.blend(canvas, part, range(start, start + len(part)))
    assert torch.equal(grid.crop(canvas), grid.untile(tiles))


@pytest.mark.parametrize(
    ("tile_size", "stride", "message"),
    [
        (0, 1, r"^tile_size: must be at least 1, got 0"),
        (32, 0, r"^stride: must be 1 to tile_size \(32\), got 0"),
        (32, 33, r"^stride: must be 1 to tile_size \(32\), got 33"),
    ],
)
def test_tiler_names_the_field_when_refused(tile_size: int, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiler(tile_size, stride)


def test_grid_names_the_field_when_sizes_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^frame_hw: height and width must be at least 1, got \(0, 5\)"):
        Tiler(8, 8).grid((0, 5))
    grid = Tiler(8, 8).grid((16, 16))
    with pytest.raises(ValueError, match=r"^image: height and width must be \(16, 16\), got \(16, 17\)"):
        grid.tile(torch.zeros(3, 16, 17))
    with pytest.raises(ValueError, match=r"^tiles: must be 4 tiles of 8×8, got \(3, 1, 8, 8\)"):
        grid.untile(torch.zeros(3, 1, 8, 8))
    with pytest.raises(ValueError, match=r"^tiles: must be 4 tiles of 8×8, got \(4, 1, 8, 9\)"):
        grid.untile(torch.zeros(4, 1, 8, 9))
