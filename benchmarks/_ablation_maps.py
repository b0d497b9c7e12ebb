"""The maps that ablation.py compares: made from a recipe's own network, and joined by one rule each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inspector.config import Recipe, load_recipe
from inspector.detection.preprocessing import normalise, preprocess
from inspector.detection.tiling import Tiler
from inspector.model import MapNormalisation, ReverseDistillation
from inspector.model.anomaly_map import compute_distances, compute_normalisation
from inspector.recipe.network import load_model
from inspector.training.data.datasets import read_image

Array = np.ndarray[Any, Any]

BASE = "Reverse Distillation"
_GOOD_TILES = 256
_CANDIDATES_PER_TILE = 80
_BATCH = 8
_LINE = 21  # pixels long
_ANGLES = 8


@dataclass(frozen=True)
class Bank:
    """Features (n, c) of good tiles, and which frame each is of (n,)."""

    features: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Normal:
    """What good tiles show of one map: mean by place, and one deviation."""

    mean: Array
    deviation: float

    def apply(self, values: Array) -> Array:
        return np.asarray((values - self.mean) / self.deviation, dtype=np.float32)


class Maps:
    """All maps of a tile, made with one recipe."""

    def __init__(self, folder: Path, good: Sequence[Path], n_neighbours: int) -> None:
        """Measure on the frames `good` what good tiles show."""
        self.recipe: Recipe = load_recipe(folder)
        self._model: ReverseDistillation = load_model(folder, self.recipe)
        if self._model.anomaly_map.normalisation is not MapNormalisation.POSITION:
            raise SystemExit(f"{folder}: map_normalisation: must be position, got {self.recipe.map_normalisation}")
        tiles, frames = self._cut_good(good)
        self._bank = self._choose_bank(tiles, frames, n_neighbours)
        distances = [
            [self._measure_nearest(self._embed(part)[0], numbers)]
            for part, numbers in zip(tiles.split(_BATCH), frames.split(_BATCH), strict=True)
        ]
        means, deviations = compute_normalisation(distances)
        self._near = Normal(means[0].numpy(), float(deviations[0]))
        found: dict[str, list[Array]] = {}
        for part, numbers in zip(tiles.split(_BATCH), frames.split(_BATCH), strict=True):
            for maps in self._make_parts(part, numbers):
                for name, values in maps.items():
                    found.setdefault(name, []).append(values)
        self._normals = {name: _fit(np.stack(values)) for name, values in found.items()}

    def make(self, image: Tensor) -> dict[str, Array]:
        """Maps (h, w) float32 by variant, of a preprocessed frame (3, h, w)."""
        tiling = self.recipe.tiling
        grid = Tiler(tiling.tile_size, tiling.stride).grid((image.shape[1], image.shape[2]))
        made: dict[str, list[Array]] = {}
        for part in grid.tile(image).split(_BATCH):
            for maps in self._make_parts(part, None):
                for name, values in _fuse(maps, self._normals).items():
                    made.setdefault(name, []).append(values)
        return {name: grid.untile(torch.from_numpy(np.stack(tiles))).numpy() for name, tiles in made.items()}

    def _cut_good(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        tiles, frames = [], []
        side = self.recipe.tiling.tile_size
        for number, path in enumerate(paths):
            image = preprocess(*read_image(path), self.recipe.preprocessing)
            cut = Tiler(side, side).grid((image.shape[1], image.shape[2])).tile(image)
            step = max(1, -(-len(cut) * len(paths) // _GOOD_TILES))
            cut = cut[number % step :: step]
            tiles.append(cut)
            frames += [number] * len(cut)
        return torch.cat(tiles), torch.tensor(frames)

    @torch.no_grad()
    def _embed(self, tiles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """PatchCore's features (B, c, h, w), and the encoder's."""
        features = self._model.encoder(normalise(tiles, self.recipe.preprocessing))
        middle, coarse = (F.avg_pool2d(layer, 3, 1, 1) for layer in features[1:])
        coarse = F.interpolate(coarse, size=middle.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([middle, coarse], dim=1), features

    def _choose_bank(self, tiles: Tensor, frames: Tensor, count: int) -> Bank:
        generator = torch.Generator().manual_seed(0)
        found = []
        for part in tiles.split(_BATCH):
            places = self._embed(part)[0].flatten(2).transpose(1, 2)
            found.append(places[:, torch.randperm(places.shape[1], generator=generator)[:_CANDIDATES_PER_TILE]])
        candidates = torch.cat(found).flatten(0, 1)
        of_frame = frames.repeat_interleave(_CANDIDATES_PER_TILE)
        chosen = choose_centres(candidates, count)
        return Bank(candidates[chosen], of_frame[chosen])

    def _measure_nearest(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """Distance (B, h, w) to the nearest of the bank; `frames`: of each tile, whose own features do not count."""
        places = features.flatten(2).transpose(1, 2)
        distances = torch.cdist(places, self._bank.features.expand(len(places), -1, -1))
        if frames is not None:
            distances.masked_fill_((frames[:, None] == self._bank.frames)[:, None], torch.inf)
        return distances.amin(-1).view(len(places), *features.shape[-2:])

    @torch.no_grad()
    def _make_parts(self, tiles: Tensor, frames: Tensor | None) -> Iterator[dict[str, Array]]:
        """The maps that variants are made of, (t, t) each, tile by tile."""
        embedded, teacher = self._embed(tiles)
        generator = self._model.anomaly_map
        student = self._model.decoder(self._model.bottleneck(teacher))
        layers = [
            (distances - generator.get_buffer(f"expected{index}")) / generator.get_buffer("deviations")[index]
            for index, distances in enumerate(compute_distances(teacher, student))
        ]
        nearest = self._measure_nearest(embedded, frames)
        layers.append((nearest - torch.from_numpy(self._near.mean).float()) / self._near.deviation)
        size = generator.input_size
        stacked = [F.interpolate(each[:, None], size=size, mode="bilinear", align_corners=True) for each in layers]
        for each in torch.cat(stacked, dim=1).numpy():
            fine, middle, coarse, near = each
            whole = fine + middle + coarse
            yield {
                "whole": _blur(whole, self.recipe.sigma), "near": _blur(near, self.recipe.sigma),
                "fine": _blur(fine, self.recipe.sigma), "lines": find_lines(whole),
                "band": _blur(whole, 1.5) - _blur(whole, 8.0),
            }  # fmt: skip


def _fuse(maps: dict[str, Array], normals: dict[str, Normal]) -> dict[str, Array]:
    """A map for each variant. What is blurred is linear: layers may be added after it."""
    whole, near, fine = maps["whole"], maps["near"], maps["fine"]
    level = {name: normals[name].apply(values) for name, values in maps.items()}
    return {
        BASE: whole,
        "neighbours alone": near,
        "sum, neighbours × 0.5": whole + 0.5 * near,
        "sum": whole + near,
        "sum, neighbours × 2": whole + 2 * near,
        "sum, neighbours × 3": whole + 3 * near,
        "maximum": np.maximum(level["whole"], level["near"]),
        "layer1 × 2": whole + fine,
        "layer1 × 4": whole + 3 * fine,
        "lines alone": level["lines"],
        "with lines": level["whole"] + level["lines"],
        "with band-pass": level["whole"] + level["band"],
        "sum, with lines": level["whole"] + level["near"] + level["lines"],
    }


def choose_centres(features: Tensor, count: int) -> Tensor:
    """Greedy k-center: indices of `count` of the features (n, c), each the farthest from those before it."""
    chosen = [0]
    distances = torch.full((len(features),), torch.inf)
    norms = features.pow(2).sum(1)
    for _ in range(min(count, len(features)) - 1):
        last = features[chosen[-1]]
        distances = torch.minimum(distances, norms - 2 * (features @ last) + last.pow(2).sum())
        chosen.append(int(distances.argmax()))
    return torch.tensor(chosen)


def find_lines(values: Array) -> Array:
    """The highest of oriented line integrals of a map (t, t), less what lies beside the line."""
    offsets = np.mgrid[-_LINE // 2 + 1 : _LINE // 2 + 1, -_LINE // 2 + 1 : _LINE // 2 + 1].astype(np.float32)
    best = np.full(values.shape, -np.inf, dtype=np.float32)
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        across = offsets[0] * np.cos(angle) - offsets[1] * np.sin(angle)
        inside = np.hypot(*offsets) <= _LINE / 2
        centre, beside = (np.exp(-0.5 * (across / sigma) ** 2) * inside for sigma in (1.5, 5.0))
        kernel = centre / centre.sum() - beside / beside.sum()
        best = np.maximum(best, cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REFLECT_101))
    return best


def _blur(values: Array, sigma: float) -> Array:
    side = 2 * int(4 * sigma + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101))


def _fit(values: Array) -> Normal:
    return Normal(values.mean(0), float(values.std(0, ddof=1).mean()))
