"""Frames → anomaly maps: preprocessing, tiling and Reverse Distillation on one device, micro-batched."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inspector.config import WEIGHTS_FILE, Preprocessing, Recipe, Zone, load_recipe
from inspector.decision import Decision, Map, Mask, Parts, build_parts, compute_gain, decide, merge
from inspector.errors import (
    ConfigError,
    DeviceFaultError,
    DeviceOutOfMemoryError,
    FrameMismatchError,
    RecipeError,
)
from inspector.masks import MASK_ASPECT_TOLERANCE, load_roi, load_zones
from inspector.model import ReverseDistillation
from inspector.model.checkpoint import load_weights, verify_sha256
from inspector.tiling import TileGrid, Tiler
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector made of one frame: the decision, the map it rests on, and where the time went (ms)."""

    decision: Decision
    anomaly_map: Map
    tiles: int
    latency_ms: dict[str, float]


def choose_device(device: str) -> torch.device:
    """`auto` → the first CUDA device, or the CPU; anything else as named.

    Raises:
        ConfigError: no such device on this machine.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: must be auto, cpu, cuda or cuda:N, got {device!r}", field=("device",)) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ConfigError(
            f"device: must be on this machine, which has {count} of CUDA, got {device!r}", field=("device",)
        )
    return chosen


def preprocess(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> Tensor:
    """Check a frame and bring it to the network's scale; the same function serves training and the daemon.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or (H, W) uint16 for Mono16.
        pixel_format: what `pixels` holds.
        preprocessing: what the recipe expects.

    Returns:
        (3, h, w) uint8 RGB, h and w scaled, or `resize_hw`; Mono16 is float32 in [0, 255].

    Raises:
        FrameMismatchError: another size or pixel format than the recipe's.
    """
    _check(pixels, pixel_format, preprocessing)
    if pixel_format is PixelFormat.MONO16:
        low, high = preprocessing.mono16_range
        pixels = np.clip((pixels.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255)
    height, width = preprocessing.resize_hw or (max(1, round(n * preprocessing.scale)) for n in pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    # torch wants memory it may write to, though nothing here does; pixels off a socket are, a caller's may not be.
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if image.ndim == 2:
        return image.expand(3, *image.shape)
    image = image.permute(2, 0, 1)
    return image.flip(0) if pixel_format is PixelFormat.BGR8 else image


def _check(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> None:
    expected = preprocessing.pixel_format
    same_colours = {pixel_format, expected} == {PixelFormat.RGB8, PixelFormat.BGR8}
    if pixel_format is not expected and not same_colours:
        raise FrameMismatchError(f"pixel_format: the recipe expects {expected}, got {pixel_format}")
    size = tuple(pixels.shape[:2])
    if preprocessing.frame_hw is not None and size != preprocessing.frame_hw:
        raise FrameMismatchError(f"frame_hw: the recipe expects {preprocessing.frame_hw}, got {size}")


def normalise(tiles: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 or float tiles (n, 3, t, t) in [0, 255] → float32, mean and deviation of the recipe."""
    mean = torch.tensor(preprocessing.normalisation.mean, device=tiles.device).view(3, 1, 1) * 255
    std = torch.tensor(preprocessing.normalisation.std, device=tiles.device).view(3, 1, 1) * 255
    return (tiles.float() - mean) / std


class Detector:
    """Judges frames with one recipe on one device. Used by one thread at a time."""

    def __init__(
        self,
        recipe: Recipe,
        model: ReverseDistillation,
        *,
        device: torch.device,
        tile_batch: int = 8,
        roi: Mask | None = None,
        zones: Mapping[str, Mask] | None = None,
    ) -> None:
        """Make it; `zones` holds the mask of each of the recipe's zones by name."""
        self.recipe = recipe
        self.device = device
        self.tile_batch = tile_batch
        self.tiler = Tiler(recipe.tiling.tile_size, recipe.tiling.stride)
        self._roi = roi
        self._zones = [((zones or {})[zone.name], _gain(recipe, zone)) for zone in recipe.zones]
        self._parts_by_shape: dict[tuple[int, ...], Parts] = {}
        self._model = model.to(device).to(memory_format=torch.channels_last).eval()

    @classmethod
    def load(cls, folder: Path, *, device: torch.device, tile_batch: int = 8, recipe: Recipe | None = None) -> Detector:
        """Load a recipe folder, every checksum verified; `recipe` instead of its recipe.yaml, where given.

        Raises:
            RecipeError: anything missing, altered or not fitting.
        """
        recipe = recipe or load_recipe(folder)
        verify_sha256(folder / WEIGHTS_FILE, recipe.weights_sha256)
        model = build_model(recipe)
        load_weights(model, folder / WEIGHTS_FILE)
        roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
        return cls(recipe, model, device=device, tile_batch=tile_batch, roi=roi, zones=zones)

    def warm_up(self) -> None:
        """Run one batch at the real shape, so that the first frame pays for nothing."""
        side = self.recipe.tiling.tile_size
        self._infer(torch.zeros(self.tile_batch, 3, side, side, dtype=torch.uint8))

    def judge(
        self, pixels: Pixels, pixel_format: PixelFormat, *, between_batches: Callable[[], None] = lambda: None
    ) -> Judgement:
        """Judge one frame.

        Args:
            pixels, pixel_format: as in `Frame`.
            between_batches: called after every micro-batch, to show progress or to give up by raising.

        Raises:
            FrameMismatchError, NotFiniteError: the frame's fault.
            RecipeError: the recipe has no threshold.
            DeviceOutOfMemoryError, DeviceFaultError: the device's fault.
        """
        if self.recipe.threshold is None:
            raise RecipeError(f"recipe {self.recipe.recipe_id}: threshold: must be set; run `inspector calibrate`")
        started = time.monotonic()
        image = preprocess(pixels, pixel_format, self.recipe.preprocessing)
        prepared = time.monotonic()
        anomaly_map = self.compute_anomaly_map(image, between_batches)
        inferred = time.monotonic()
        decision = self.decide(anomaly_map, self.recipe.threshold.value, pixels.shape[:2])
        latency_ms = {
            "preprocess": (prepared - started) * 1e3,
            "infer": (inferred - prepared) * 1e3,
            "decide": (time.monotonic() - inferred) * 1e3,
        }
        return Judgement(decision, anomaly_map, len(self._grid(image)), latency_ms)

    def decide(self, anomaly_map: Map, threshold: float, frame_hw: tuple[int, ...] | None = None) -> Decision:
        """Apply the recipe's region rules at `threshold`.

        Args:
            anomaly_map: (h, w) float32 of a whole frame.
            threshold: as for `decision.decide`.
            frame_hw: the frame's size; regions are in its pixels and do not cross zones. None: in the map's.
        """
        return merge(self.decide_parts(anomaly_map, threshold, self.recipe.min_region_area, frame_hw))

    def decide_parts(
        self, anomaly_map: Map, threshold: float, min_region_area: int, frame_hw: tuple[int, ...] | None = None
    ) -> list[Decision]:
        """The decision on each part of the frame: outside all zones, then zone by zone."""
        warn_above = self.recipe.threshold.warn_above if self.recipe.threshold else None
        height, width = anomaly_map.shape
        scale_hw = (height / frame_hw[0], width / frame_hw[1]) if frame_hw else (1.0, 1.0)
        return [
            decide(
                anomaly_map,
                threshold,
                min_region_area=min_region_area,
                roi=mask,
                scale_hw=scale_hw,
                warn_above=warn_above,
            )
            for mask in self._parts(anomaly_map.shape).masks
        ]

    def _parts(self, shape: tuple[int, ...]) -> Parts:
        if shape not in self._parts_by_shape:
            self._check_masks(shape)
            self._parts_by_shape = {shape: build_parts(shape, self._roi, self._zones)}  # one size is kept
        return self._parts_by_shape[shape]

    def _check_masks(self, shape: tuple[int, ...]) -> None:
        if self.recipe.preprocessing.resize_hw is not None:
            return  # the map no longer has the frame's aspect
        for mask in [mask for mask in (self._roi, *(mask for mask, _ in self._zones)) if mask is not None]:
            if abs(mask.shape[1] * shape[0] / (mask.shape[0] * shape[1]) - 1) > MASK_ASPECT_TOLERANCE:
                raise FrameMismatchError(f"frame: must have the aspect of its mask {mask.shape}, got a map of {shape}")

    def compute_anomaly_map(self, image: Tensor, between_batches: Callable[[], None] = lambda: None) -> Map:
        """Anomaly map (h, w) float32 of a preprocessed frame (3, h, w).

        It is weighed so that the recipe's one threshold holds in all zones.
        Memory: the frame, the map and one micro-batch. Out of memory halves the micro-batch and tries the
        frame once more.
        """
        try:
            return self._run(image, between_batches)
        except RuntimeError as error:  # OutOfMemoryError and AcceleratorError are RuntimeErrors
            if not is_out_of_memory(error):
                raise DeviceFaultError(f"device: {error}") from error
            self.tile_batch = max(1, self.tile_batch // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return self._run(image, between_batches)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise DeviceFaultError(f"device: {error}") from error
            raise DeviceOutOfMemoryError(f"device out of memory even at {self.tile_batch} tiles: {error}") from error

    def _run(self, image: Tensor, between_batches: Callable[[], None]) -> Map:
        grid = self._grid(image)
        image = image.to(self.device)
        canvas = grid.blank((1,), torch.float32, self.device)
        for start in range(0, len(grid), self.tile_batch):
            tiles = grid.tile(image, start, min(start + self.tile_batch, len(grid)))
            grid.blend(canvas, self._infer(tiles), start)
            between_batches()
        anomaly_map: Map = grid.crop(canvas)[0].cpu().numpy()
        gain = self._parts(anomaly_map.shape).gain
        return anomaly_map if gain is None else anomaly_map * gain

    @torch.inference_mode()
    def _infer(self, tiles: Tensor) -> Tensor:
        images = normalise(tiles.to(self.device), self.recipe.preprocessing)
        maps: Tensor = self._model(images.contiguous(memory_format=torch.channels_last))
        return maps

    def _grid(self, image: Tensor) -> TileGrid:
        height, width = image.shape[-2:]
        return self.tiler.grid((height, width))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: the device's, or the host's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def build_model(recipe: Recipe, *, pre_trained: bool = False) -> ReverseDistillation:
    """The recipe's network, weights still random, or with the encoder's fetched through timm.

    Raises:
        RecipeError: a parameter the network refuses.
        WeightsError: the encoder's weights cannot be fetched.
    """
    side = recipe.tiling.tile_size
    try:
        return ReverseDistillation(
            recipe.backbone,
            (side, side),
            recipe.layers,
            recipe.anomaly_map_mode,
            pre_trained=pre_trained,
            sigma=recipe.sigma,
            bottleneck_width=recipe.bottleneck_width,
            map_normalisation=recipe.map_normalisation,
        )
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.recipe_id}: {error}") from error


def _gain(recipe: Recipe, zone: Zone) -> float:
    if recipe.threshold is None or zone.threshold is None:
        return 1.0
    return compute_gain(recipe.threshold.value, zone.threshold.value)
