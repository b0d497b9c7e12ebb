"""Frames → decisions: preprocessing, tiling and Reverse Distillation on one engine, micro-batched.

Over 300 lines: begin, advance and finish are the three parts of one judgement.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inspector.config import Recipe, Zone
from inspector.detection.decision import Decision, Map, Mask, decide, merge
from inspector.detection.fixture import Fixture
from inspector.detection.layout import Layouts
from inspector.detection.looks import Expectation
from inspector.detection.partial import decide_partially, gather, parse, shrink, summarise
from inspector.detection.parts import Parts, compute_gain
from inspector.detection.preprocessing import Pixels, check_frame, make_blank_frame, prepare
from inspector.detection.run import FrameRun, Judgement, restart
from inspector.detection.tiling import Tiler
from inspector.device import is_out_of_memory, torch_threads, translate_fault
from inspector.engine.base import Engine
from inspector.engine.download import Download, Downloads, build_downloads
from inspector.engine.upload import Uploader
from inspector.errors import DeviceFaultError, FrameError, RecipeError
from inspector.types import PixelFormat, Verdict


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
        fixture: Fixture | None = None,
        whole_maps: bool = False,
        downloads: Downloads | None = None,
    ) -> None:
        """Combine a recipe and its engine.

        Args:
            recipe: what to judge.
            engine: what runs its network.
            roi: its region of interest; None: everywhere.
            zones: the mask of each of its zones by name.
            expectation: what a frame must show to be judged; None: whatever fits is judged.
            fixture: what frames are warped onto before they are judged; None: they stay as they lie.
            whole_maps: run the tiles in which nothing counts, too: for who measures maps.
            downloads: how results come to the host; None: as suits the engine.

        Raises:
            RecipeError: `fixture` is given and the recipe has none, or the other way round.
        """
        if (recipe.fixture is None) != (fixture is None):  # its masks would lie beside the part
            raise RecipeError(f"recipe {recipe.recipe_id}: fixture: frames must be warped exactly where it names one")
        self.recipe = recipe
        self.expectation = expectation
        self.fixture = fixture
        self.engine = engine
        self.tiler = Tiler(recipe.tiling.tile_size, recipe.tiling.stride)
        self._uploader = Uploader(engine.device, engine.frames_in_flight)
        self._downloads = downloads or build_downloads(engine)
        self._waits = engine.frames_in_flight == 1  # else the device computes on while we do something else
        masks = [((zones or {})[zone.name], _gain(recipe, zone)) for zone in recipe.zones]
        self._layouts = Layouts(recipe, self.tiler, roi, masks, device=engine.device, whole_maps=whole_maps)

    def warm_up(self) -> None:
        """Run what frames will need at their real shapes, so that the first ones pay for nothing.

        A full batch and a single tile; and, where several frames are under way at once, that many blank ones of the
        recipe's size all the way: pinned memory, cutting, blending, summary and map. What is made of them is not
        looked at.

        Raises:
            DeviceOutOfMemoryError, DeviceFaultError: the device's fault.
        """
        self.engine.infer(len(self.engine.tiles))
        self.engine.infer(1)
        if self._waits or self.recipe.threshold is None:
            return
        side = self.recipe.tiling.tile_size
        preprocessing = self.recipe.preprocessing
        blank = make_blank_frame(preprocessing.frame_hw or (2 * side, 2 * side), preprocessing.pixel_format)
        with contextlib.suppress(FrameError):
            frames = [blank] * self.engine.frames_in_flight
            runs = [self._bring(frame, preprocessing.pixel_format, None) for frame in frames]
            while waiting := [run for run in runs if not run.is_done]:
                self.advance(waiting)
            for run in runs:
                _ = self.finish(run).anomaly_map

    def judge(self, pixels: Pixels, pixel_format: PixelFormat, *, any_frame: bool = False) -> Judgement:
        """Judge one frame; `pixels` and `pixel_format` as in `Frame`.

        `any_frame`: also one that does not show what good frames show, for who wants its score.

        Raises:
            FrameMismatchError, ImageHealthError, UnlikeGoodError, NotLocatedError, NotFiniteError: the frame's fault.
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
        preprocessing = self.recipe.preprocessing
        check_frame(pixels, pixel_format, preprocessing)
        try:
            doubt = None
            if self.expectation is not None and not any_frame:
                doubt = self.expectation.check(pixels, pixel_format, preprocessing)
            run = self._bring(pixels, pixel_format, self.fixture)
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error
        run.doubt = doubt
        run.preprocess_ms = (run.started - started) * 1e3
        return run

    def _bring(self, pixels: Pixels, pixel_format: PixelFormat, fixture: Fixture | None) -> FrameRun:
        turn = fixture is None and pixel_format is PixelFormat.BGR8 and self._uploader.can_turn
        as_sent = PixelFormat.RGB8 if turn else pixel_format
        image, pose = prepare(pixels, as_sent, self.recipe.preprocessing, fixture)
        run = self._begin(image, (pixels.shape[0], pixels.shape[1]), turn=turn)
        run.pose = pose
        return run

    def _begin(self, image: Tensor, frame_hw: tuple[int, int], *, turn: bool = False) -> FrameRun:
        grid = self.tiler.grid((image.shape[-2], image.shape[-1]))
        on_device = grid.pad(self._uploader.upload(image, turn=turn))
        return FrameRun(on_device, grid, self._layouts.get(grid.frame_hw).tiles, frame_hw)

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
                restart(runs)
                self.engine.halve_batch()
                if self.engine.device.type == "cuda":
                    torch.cuda.empty_cache()
                self._advance(runs)
            except (RuntimeError, MemoryError) as again:
                restart(runs)
                raise translate_fault(again) from again

    @torch.inference_mode()
    def _advance(self, runs: Sequence[FrameRun]) -> None:
        with torch_threads(1 if self.engine.brings_own_threads else None):
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
            if run.is_done:
                self._complete(run)

    def _complete(self, run: FrameRun) -> None:
        anomaly_map = run.anomaly_map
        gain = self._layouts.get(tuple(anomaly_map.shape)).gain
        if gain is not None:
            anomaly_map *= gain
        if not self._waits:  # queued now, it waits for no batch of a later frame
            run.summary = self._summarise(anomaly_map)

    def finish(self, run: FrameRun) -> Judgement:
        """Decide on a frame whose tiles have all run. Raises as `judge`."""
        try:
            if run.summary is not None:
                run.summary.wait()
            inferred = time.monotonic()
            decision = self._decide(run)
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error
        if run.doubt is not None and decision.verdict is Verdict.PASS:
            raise run.doubt
        latency_ms = {
            "preprocess": run.preprocess_ms,
            "infer": (inferred - run.started) * 1e3,
            "decide": (time.monotonic() - inferred) * 1e3,
        }
        # Of the map alone, once: the frame's pixels on the device are not kept for as long as a judgement lives.
        fetch = functools.cache(functools.partial(self._fetch, run.anomaly_map, run.summary))
        judgement = Judgement(decision, fetch, len(run.tiles), latency_ms)
        return judgement if run.pose is None else judgement.unwarp(run.pose, run.frame_hw)

    def _summarise(self, anomaly_map: Tensor) -> Download:
        counts = self._layouts.get(tuple(anomaly_map.shape)).counts
        return self._downloads.queue(summarise(anomaly_map, counts))

    def _decide(self, run: FrameRun) -> Decision:
        """By the blocks of the map that matter, or by the whole of it where they are too many or not finite."""
        threshold = self.recipe.threshold
        assert threshold is not None  # noqa: S101 (`begin` refused)
        height, width = run.grid.frame_hw
        after = run.summary = run.summary or self._summarise(run.anomaly_map)
        decision = decide_partially(
            parse(after.wait(), (height, width)),
            lambda blocks: self._downloads.fetch(lambda: gather(run.anomaly_map, blocks), after),
            threshold.value,
            masks=self._layouts.get((height, width)).parts.masks,
            min_region_area=self.recipe.min_region_area,
            scale_hw=(height / run.frame_hw[0], width / run.frame_hw[1]),
            warn_above=threshold.warn_above,
        )
        return decision or self.decide(self._fetch(run.anomaly_map, after), threshold.value, run.frame_hw)

    def _fetch(self, anomaly_map: Tensor, after: Download | None, columns: int | None = None) -> Map:
        """The map; on a device that computes on meanwhile, no more of it than a picture of so many columns shows."""
        step = 1 if self._waits or columns is None else max(1, anomaly_map.shape[1] // columns)
        after = after or self._downloads.queue(anomaly_map[:1, :1])
        return self._downloads.fetch(lambda: shrink(anomaly_map, step), after)

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
            for mask in self._layouts.get(anomaly_map.shape).parts.masks
        ]

    def get_parts(self, map_hw: tuple[int, ...]) -> Parts:
        """Where anomalies count in maps of this size. Raises FrameMismatchError where the masks do not fit it."""
        return self._layouts.get(map_hw).parts

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
            return self._fetch(run.anomaly_map, run.summary)
        except (RuntimeError, MemoryError) as error:
            raise translate_fault(error) from error


def _gain(recipe: Recipe, zone: Zone) -> float:
    if recipe.threshold is None or zone.threshold is None:
        return 1.0
    return compute_gain(recipe.threshold.value, zone.threshold.value)
