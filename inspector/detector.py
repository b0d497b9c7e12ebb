"""Frames → decisions: preprocessing, tiling and Reverse Distillation on one engine, micro-batched."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspector.config import WEIGHTS_FILE, Recipe, Zone, load_recipe
from inspector.decision import Decision, Map, Mask, Parts, build_parts, compute_gain, decide, merge
from inspector.device import is_out_of_memory, translate_fault
from inspector.engine.base import Engine
from inspector.engine.build import build_engine
from inspector.engine.cache import find_user_cache
from inspector.engine.upload import Uploader
from inspector.errors import (
    DeviceFaultError,
    FrameError,
    FrameMismatchError,
    RecipeError,
)
from inspector.looks import Expectation, load_expectation
from inspector.masks import MASK_ASPECT_TOLERANCE, check_area, check_parts, load_roi, load_zones
from inspector.model.checkpoint import verify_sha256
from inspector.preprocessing import Pixels, check_frame, preprocess
from inspector.recipe_network import load_model
from inspector.tiling import TileGrid, Tiler
from inspector.types import PixelFormat, Reason, Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector made of one frame: the decision, the map it rests on, and where the time went (ms).

    `map_or_tensor` is the map, or where it still lies on the device; read it as `anomaly_map`.
    """

    decision: Decision
    map_or_tensor: Map | Tensor
    tiles: int
    latency_ms: dict[str, float]

    @property
    def anomaly_map(self) -> Map:
        """(h, w) float32, fetched from the device only now where the decision did not need it."""
        values = self.map_or_tensor
        return values if isinstance(values, np.ndarray) else np.asarray(values.cpu())


@dataclass(frozen=True, slots=True)
class _Layout:
    """For maps of one size: parts, tiles to run, and where it counts, on the device (None: everywhere)."""

    parts: Parts
    tiles: tuple[int, ...]
    counts: Tensor | None


class FrameRun:
    """One frame on its way through the device. Made by `Detector.begin`; `is_done` once all its tiles have run."""

    doubt: FrameError | None = None
    """Raised in place of a PASS: what the frame shows, which only a defect explains."""

    def __init__(self, image: Tensor, grid: TileGrid, tiles: Sequence[int], frame_hw: tuple[int, int]) -> None:
        """Make it; `image` (3, h, w), padded, is on the device, `tiles` are those that must run."""
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
        """Forget what has run."""
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


class Detector:
    """Judges frames with one recipe on one engine. Used by one thread at a time.

    `judge` takes one frame from start to end. A caller that wants more than one under way (uploads beside
    inference, batches shared between frames) calls `begin`, `advance` and `finish` itself.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine,
        *,
        roi: Mask | None = None,
        zones: Mapping[str, Mask] | None = None,
        expectation: Expectation | None = None,
        whole_maps: bool = False,
    ) -> None:
        """Make it.

        Args:
            recipe: what to judge.
            engine: what runs its network.
            roi: its region of interest; None: everywhere.
            zones: the mask of each of its zones by name.
            expectation: what a frame must show to be judged; None: whatever fits is judged.
            whole_maps: run the tiles in which nothing counts, too: for who measures maps.
        """
        self.recipe = recipe
        self.expectation = expectation
        self._whole_maps = whole_maps
        self.engine = engine
        self.tiler = Tiler(recipe.tiling.tile_size, recipe.tiling.stride)
        self._uploader = Uploader(engine.device, engine.frames_in_flight)
        self._roi = roi
        self._zones = [((zones or {})[zone.name], _gain(recipe, zone)) for zone in recipe.zones]
        self._layouts: dict[tuple[int, ...], _Layout] = {}
        self._waits = engine.frames_in_flight == 1  # else the device computes on while we do something else

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device,
        tile_batch: int | None = None,
        recipe: Recipe | None = None,
        cache: Path | None = None,
        proved: bool = True,
        whole_maps: bool = False,
    ) -> Detector:
        """Load a recipe folder, every checksum verified, onto the engine that its precision and the device ask for.

        Args:
            folder: the recipe.
            device: see `choose_device`.
            tile_batch: tiles at once; None: what suits the device.
            recipe: instead of the folder's recipe.yaml.
            cache: where compiled artefacts are kept; None: the user's cache.
            proved: as for `build_engine`.
            whole_maps: as for the constructor.

        Raises:
            RecipeError: anything missing, altered or not fitting, or scores that move in the recipe's precision.
        """
        recipe = recipe or load_recipe(folder)
        verify_sha256(folder / WEIGHTS_FILE, recipe.weights_sha256)
        roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
        expectation = load_expectation(recipe, folder)
        check_area(recipe, roi, zones)
        engine = build_engine(
            recipe,
            lambda: load_model(folder, recipe),
            device=device,
            batch=tile_batch,
            folder=folder,
            cache=cache or find_user_cache(),
            proved=proved,
        )
        return cls(recipe, engine, roi=roi, zones=zones, expectation=expectation, whole_maps=whole_maps)

    def warm_up(self) -> None:
        """Run a full batch and a single tile at the real shape, so that the first frame pays for nothing."""
        self.engine.infer(len(self.engine.tiles))
        self.engine.infer(1)

    def judge(self, pixels: Pixels, pixel_format: PixelFormat, *, any_frame: bool = False) -> Judgement:
        """Judge one frame; `pixels` and `pixel_format` as in `Frame`.

        `any_frame`: also one that does not show what good frames show, for who wants its score.

        Raises:
            FrameMismatchError, ImageHealthError, UnlikeGoodError, NotFiniteError: the frame's fault.
            RecipeError: the recipe has no threshold.
            DeviceOutOfMemoryError, DeviceFaultError: the device's fault.
        """
        run = self.begin(pixels, pixel_format, any_frame=any_frame)
        while not run.is_done:
            self.advance([run])
        return self.finish(run)

    def begin(self, pixels: Pixels, pixel_format: PixelFormat, *, any_frame: bool = False) -> FrameRun:
        """Bring a frame onto the device; its pixels must not change until it is finished. Raises as `judge`."""
        if self.recipe.threshold is None:
            raise RecipeError(f"recipe {self.recipe.recipe_id}: threshold: must be set; run `inspector calibrate`")
        started = time.monotonic()
        height, width = pixels.shape[:2]
        preprocessing = self.recipe.preprocessing
        check_frame(pixels, pixel_format, preprocessing)
        try:
            doubt = None
            if self.expectation is not None and not any_frame:
                doubt = self.expectation.check(pixels, pixel_format, preprocessing)
            run = self._begin(preprocess(pixels, pixel_format, preprocessing), (height, width))
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error
        run.doubt = doubt
        run.preprocess_ms = (run.started - started) * 1e3
        return run

    def _begin(self, image: Tensor, frame_hw: tuple[int, int]) -> FrameRun:
        height, width = image.shape[-2:]
        grid = self.tiler.grid((height, width))
        tiles = self._lay_out((height, width)).tiles
        return FrameRun(grid.pad(self._uploader.upload(image)), grid, tiles, frame_hw)

    def advance(self, runs: Sequence[FrameRun]) -> None:
        """Run one micro-batch, filled from `runs` in their order. Out of memory halves it and starts once more.

        Raises:
            DeviceOutOfMemoryError, DeviceFaultError: the device's fault.
        """
        try:
            self._advance(runs)
        except (RuntimeError, MemoryError) as error:  # torch's OutOfMemoryError and AcceleratorError are the former
            if not is_out_of_memory(error):
                raise DeviceFaultError(f"device: {error}") from error
            try:
                _restart(runs)
                self.engine.halve_batch()
                if self.engine.device.type == "cuda":
                    torch.cuda.empty_cache()
                self._advance(runs)
            except (RuntimeError, MemoryError) as again:
                _restart(runs)
                raise translate_fault(again) from again

    @torch.inference_mode()
    def _advance(self, runs: Sequence[FrameRun]) -> None:
        with _torch_threads(1 if self.engine.brings_own_threads else None):
            self._run_batch(runs)

    def _run_batch(self, runs: Sequence[FrameRun]) -> None:
        tiles = self.engine.tiles
        shares: list[tuple[FrameRun, Sequence[int]]] = []
        count = 0
        for run in runs:
            share = run.tiles[run.done : run.done + len(tiles) - count]
            run.grid.cut(run.image, share, tiles[count : count + len(share)])
            shares.append((run, share))
            count += len(share)
        maps = self.engine.infer(count)
        for run, share in shares:
            run.grid.blend(run.canvas, maps[: len(share), None], share)
            maps = maps[len(share) :]
            run.done += len(share)
            if run.is_done and not self._waits:
                run.computed = torch.cuda.Event()  # type: ignore[no-untyped-call]
                run.computed.record(torch.cuda.current_stream(self.engine.device))

    def finish(self, run: FrameRun) -> Judgement:
        """Decide on a frame whose tiles have all run. Raises as `judge`."""
        assert self.recipe.threshold is not None  # noqa: S101 (`begin` refused)
        on_device = run.grid.crop(run.canvas)[0]
        anomaly_map: Map | Tensor = on_device
        try:
            summary = None if self._waits else self._summarise(on_device)
            inferred = time.monotonic()
            decision = self._decide_by(summary) if summary else None
            if decision is None:
                anomaly_map = self._fetch(on_device)
                decision = self.decide(anomaly_map, self.recipe.threshold.value, run.frame_hw)
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error
        if run.doubt is not None and decision.verdict is Verdict.PASS:
            raise run.doubt
        latency_ms = {
            "preprocess": run.preprocess_ms,
            "infer": (inferred - run.started) * 1e3,
            "decide": (time.monotonic() - inferred) * 1e3,
        }
        return Judgement(decision, anomaly_map, len(run.tiles), latency_ms)

    def _summarise(self, anomaly_map: Tensor) -> tuple[float, float, float]:
        """Lowest and highest value of a map, and the highest in the region of interest: all that a PASS needs."""
        inside = anomaly_map
        counts = self._lay_out(tuple(anomaly_map.shape)).counts
        if counts is not None:
            inside = torch.where(counts, anomaly_map, 0.0)
        low, high, score = torch.stack([anomaly_map.amin(), anomaly_map.amax(), inside.amax()]).tolist()
        return low, high, score

    def _decide_by(self, summary: tuple[float, float, float]) -> Decision | None:
        """PASS without the map leaving the device; None where the map is needed: zones, areas, regions, NaN."""
        threshold = self.recipe.threshold
        assert threshold is not None  # noqa: S101 (`begin` refused)
        low, high, score = summary
        if self._zones or self.recipe.min_region_area > 1 or not (math.isfinite(low) and math.isfinite(high)):
            return None
        if score > threshold.value:
            return None
        warn = threshold.warn_above is not None and score > threshold.warn_above
        return Decision(Verdict.PASS, Reason.OK, score, (), warn=warn)

    def _fetch(self, anomaly_map: Tensor) -> Map:
        values: Map = anomaly_map.cpu().numpy()
        gain = self._lay_out(values.shape).parts.gain
        return values if gain is None else values * gain

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
            for mask in self._lay_out(anomaly_map.shape).parts.masks
        ]

    def hide_uncounted(self, anomaly_map: Map) -> Map:
        """A map (h, w) with 0 where anomalies do not count."""
        masks = self._lay_out(anomaly_map.shape).parts.masks
        counted = [mask > 0 for mask in masks if mask is not None]
        return np.where(np.logical_or.reduce(counted), anomaly_map, np.float32(0)) if counted else anomaly_map

    def _lay_out(self, shape: tuple[int, ...]) -> _Layout:
        """For maps of `shape`: the parts of the frame, and the tiles in which anything counts."""
        if shape not in self._layouts:
            self._check_masks(shape)
            parts = build_parts(shape, self._roi, self._zones)
            grid = self.tiler.grid((shape[0], shape[1]))
            counted = [mask for mask in parts.masks if mask is not None]
            tiles = tuple(range(len(grid)))
            if counted and not self._whole_maps:
                tiles = grid.overlapping(np.maximum.reduce(counted))
            if not tiles:
                raise FrameMismatchError(f"frame: nothing is left of the region of interest in a map of {shape}")
            try:
                check_parts(self.recipe, parts, shape)
            except RecipeError as error:  # in frames of this size
                raise FrameMismatchError(f"frame: {error}") from error
            counts = None
            if not self._waits and parts.masks[0] is not None:
                counts = torch.from_numpy(parts.masks[0]).to(self.engine.device) > 0
            self._layouts = {shape: _Layout(parts, tiles, counts)}  # one size is kept
        return self._layouts[shape]

    def _check_masks(self, shape: tuple[int, ...]) -> None:
        if self.recipe.preprocessing.resize_hw is not None:
            return  # the map no longer has the frame's aspect
        for mask in [mask for mask in (self._roi, *(mask for mask, _ in self._zones)) if mask is not None]:
            if abs(mask.shape[1] * shape[0] / (mask.shape[0] * shape[1]) - 1) > MASK_ASPECT_TOLERANCE:
                raise FrameMismatchError(f"frame: must have the aspect of its mask {mask.shape}, got a map of {shape}")

    def get_parts(self, map_hw: tuple[int, int]) -> Parts:
        """Where anomalies count in maps of this size. Raises FrameMismatchError where the masks do not fit it."""
        return self._lay_out(map_hw).parts

    def compute_anomaly_map(self, image: Tensor, where: Mask | None = None) -> Map:
        """Anomaly map (h, w) float32 of a preprocessed frame (3, h, w).

        It is weighed so that the recipe's one threshold holds in all zones, and 0 in tiles where nothing counts.
        `where` (h, w) is above 0 at the pixels asked for: tiles that have none of them are not run, and 0, too.
        Memory: the frame, the map and one micro-batch.
        """
        height, width = image.shape[-2:]
        try:
            run = self._begin(image, (height, width))
            if where is not None:
                run.tiles = sorted({*run.tiles} & {*run.grid.overlapping(where)})
            while not run.is_done:
                self.advance([run])
            return self._fetch(run.grid.crop(run.canvas)[0])
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error


@contextlib.contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    # The count is each thread's own, but a thread begins with that of whoever set one last: threads that live beside
    # another detector's look at theirs first thing.
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _restart(runs: Sequence[FrameRun]) -> None:
    """Forget what these frames have: memory may have run out with half a batch blended, in any of them."""
    try:
        for run in runs:
            run.restart()
    except RuntimeError as error:
        raise DeviceFaultError(f"device: {error}") from error


def _gain(recipe: Recipe, zone: Zone) -> float:
    if recipe.threshold is None or zone.threshold is None:
        return 1.0
    return compute_gain(recipe.threshold.value, zone.threshold.value)
