"""Made-up defects on good tiles, so that the student learns to answer with good features whatever it is shown.

Trained on good tiles alone, the student learns to reconstruct defects as well, the longer the better: the loss falls
and so does the detection. Shown a tile with a pseudo-defect and asked for the teacher's features of the same tile
without it, it learns not to (the idea of DeSTSeg, arXiv 2211.11317, and of RD++, Tien et al., CVPR 2023, here without
added networks). Nothing about real defects is assumed beyond: smaller than the tile, of any shape and contrast.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = (2, 4, 8, 16, 32)
"""Cells across the tile that smooth noise has, per axis: from blobs to specks, and streaks where the axes differ."""


def add_pseudo_defect(tile: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Put one pseudo-defect on a tile.

    Args:
        tile: (3, t, t), any dtype, [0, 255].
        other: another tile of the same shape, for foreign texture.
        generator: everything random comes from it.

    Returns:
        The tile with a spot, speckle, scratch or crack of foreign texture, of another brightness, or of noise;
        dtype and range kept.
    """
    clean = tile.float()
    opacity = _uniform(generator, 0.3, 1.0)
    mask = opacity * draw_mask(tile.shape[-1], generator)
    changed = clean * (1 - mask) + mask * _draw_content(clean, other.float(), generator)
    return (changed.clamp(0, 255).round() if tile.dtype == torch.uint8 else changed.clamp(0, 255)).to(tile.dtype)


def draw_mask(side: int, generator: torch.Generator) -> Tensor:
    """Where the pseudo-defect is: (1, side, side) float32 in [0, 1], 0.3 to 10 % of the tile before it is confined."""
    noise = _rotate(_draw_noise(side, _choose(generator), _choose(generator), generator), generator)
    if _uniform(generator) < 0.5:
        noise = -noise.abs()  # the lines where noise changes its sign: thin, branching, like cracks
    area = 0.003 + 0.1 * _uniform(generator) ** 2
    level = torch.quantile(noise, 1 - area)
    mask = (noise > level).float()
    if _uniform(generator) < 0.7:
        mask = mask * _draw_disc(mask[0], generator)
    return F.avg_pool2d(mask[None], 3, stride=1, padding=1)[0]  # no lens draws an edge sharper than that


def _draw_content(clean: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    side = clean.shape[-1]
    kind = int(torch.randint(3, (1,), generator=generator))
    if kind == 0:
        shift = torch.randint(side, (2,), generator=generator).tolist()
        return other.roll(shift, (1, 2))
    if kind == 1:
        step = _uniform(generator, 15.0, 120.0)
        return clean + (step if _uniform(generator) < 0.4 else -step)  # more often dark: holes and cracks swallow light
    cells = 2 * _choose(generator, smallest=8)
    return clean + 60 * _draw_noise(side, cells, cells, generator)


def _draw_noise(side: int, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    cells = torch.randn(1, 1, rows, columns, generator=generator)
    return F.interpolate(cells, (side, side), mode="bicubic", align_corners=False)[0]


def _rotate(image: Tensor, generator: torch.Generator) -> Tensor:
    angle = _uniform(generator, 0, math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    grid = F.affine_grid(turn, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def _draw_disc(mask: Tensor, generator: torch.Generator) -> Tensor:
    """A disc about some point of the mask, so that never nothing is left of it."""
    places = mask.nonzero()
    top, left = places[int(torch.randint(len(places), (1,), generator=generator))]
    side = len(mask)
    radius = side * _uniform(generator, 0.04, 0.3)
    position = torch.arange(side)
    inside: Tensor = (position[:, None] - top) ** 2 + (position - left) ** 2 <= radius**2
    return inside.float()


def _choose(generator: torch.Generator, smallest: int = 2) -> int:
    cells = [count for count in _CELLS if count >= smallest]
    return cells[int(torch.randint(len(cells), (1,), generator=generator))]


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))
