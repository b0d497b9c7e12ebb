"""What a detector answers to artificial defects: the same measurement for every recipe, on its own good frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.config.qualification import DefectKind
from inspector.detection.decision import Map, Mask, compute_score
from inspector.detection.detector import Detector
from inspector.detection.parts import Parts
from inspector.detection.preprocessing import Pixels, check_frame, preprocess, scale
from inspector.errors import FrameError, TrainingError
from inspector.training.data.datasets import logger, read_image
from inspector.training.thresholds.artificial_defects import ArtificialDefect, Footprint, add, draw_defects
from inspector.types import PixelFormat

PER_KIND = 120
"""Defects of each kind: an interval of a share of 90 % is then about ± 6 %."""

_MOST_FRAMES = 64  # that carry them: more would only be read
_FEATURE_PX = 8  # map pixels: the middle of the three layers' strides

Array = np.ndarray[Any, Any]
Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Response:
    """What the detector answered to one artificial defect.

    Attributes:
        kind, size_px, contrast: as in `ArtificialDefect`.
        response: the highest level that an area as large as a region must be reaches at the defect's own place, weighed
            as maps are: above the recipe's threshold it is caught.
    """

    kind: DefectKind
    size_px: float
    contrast: float
    response: float


@dataclass(frozen=True, slots=True)
class _Place:
    """A defect, and its centre in sensor pixels: row, column."""

    defect: ArtificialDefect
    centre_yx: tuple[float, float]


def qualify(
    detector: Detector,
    paths: Sequence[Path],
    generator: np.random.Generator,
    per_kind: int = PER_KIND,
    advance: Advance = lambda done, total: None,
) -> tuple[list[Response], int]:
    """Put artificial defects on good frames that training never saw, and judge them.

    They are dealt out evenly, over at most 64 frames. A frame with one tile carries one at a time, and comes round
    until all are placed; only tiles that carry one are run, so the cost is that of about three times `per_kind` tiles.

    Args:
        detector: of the recipe; needs no threshold.
        paths: the frames; those that cannot be judged are named and left out.
        generator: everything random comes from it.
        per_kind: defects of each kind.
        advance: told defects judged, and defects in all.

    Returns:
        The responses, and how many frames carried defects.

    Raises:
        TrainingError: no frame can be judged, or nowhere is there room for a defect where anomalies count.
    """
    chosen = [paths[index] for index in sorted(generator.permutation(len(paths))[:_MOST_FRAMES])]
    waiting = plan(detector, chosen, per_kind, generator)
    total, share = len(waiting), math.ceil(len(waiting) / max(1, len(chosen)))
    responses: list[Response] = []
    used: set[Path] = set()
    idle = 0
    for path in itertools.cycle(chosen):
        if not waiting or idle == len(chosen):
            break
        found, left = _try(detector, path, waiting[:share], generator)
        waiting = waiting[share:] + left
        idle = 0 if found else idle + 1
        used |= {path} if found else set()
        responses += found
        advance(len(responses), total)
    if waiting:
        logger.warning("%d of %d artificial defects left out: no frame has room for them", len(waiting), total)
    if not responses:
        raise TrainingError(
            "--roi-mask: must leave room for artificial defects where anomalies count, and good frames must be "
            "fit to be "
            f"judged, got none of {total} defects placed on {len(chosen)} frames"
        )
    return responses, len(used)


def plan(
    detector: Detector, paths: Sequence[Path], per_kind: int, generator: np.random.Generator
) -> list[ArtificialDefect]:
    """Defects of all kinds in random order, sized for the first of the frames that can be judged.

    Raises:
        TrainingError: none can be, or it is too small for any.
    """
    for path in paths:
        try:
            pixels, pixel_format = read_image(path)
            check_frame(pixels, pixel_format, detector.recipe.preprocessing)
        except FrameError:
            continue  # named when its turn comes
        room = measure_room(detector, (pixels.shape[0], pixels.shape[1]))
        defects = [defect for kind in DefectKind for defect in draw_defects(kind, per_kind, room, generator)]
        return [defects[index] for index in generator.permutation(len(defects))]
    raise TrainingError(
        f"artificial defects: at least one good frame must be fit to be judged, got none of {len(paths)}"
    )


def measure_room(detector: Detector, frame_hw: tuple[int, int]) -> float:
    """Side in sensor pixels of the square that a defect has to itself: a tile's, or the frame's where it is smaller."""
    map_hw = detector.recipe.preprocessing.scale_hw(frame_hw)
    tile = detector.recipe.tiling.tile_size
    return min(min(tile, side) * frame / side for frame, side in zip(frame_hw, map_hw, strict=True))


def _try(
    detector: Detector, path: Path, defects: Sequence[ArtificialDefect], generator: np.random.Generator
) -> tuple[list[Response], list[ArtificialDefect]]:
    """The responses, and the defects that found no place."""
    try:
        return _measure(detector, *read_image(path), defects, generator)
    except FrameError as error:
        logger.warning("left out: %s: %s", path, str(error).removeprefix(f"{path}: "))
        return [], list(defects)


def measure(
    detector: Detector,
    pixels: Pixels,
    pixel_format: PixelFormat,
    defects: Sequence[ArtificialDefect],
    generator: np.random.Generator,
) -> list[Response]:
    """Put defects on a copy of one good frame, at most one on a tile, and judge it once.

    What a frame must show (`expected_frames`) is not looked at: a frame that is refused for it does not pass, either.

    Args:
        detector: of the recipe; needs no threshold.
        pixels, pixel_format: as in `Frame`.
        defects: at most as many are placed as there are tiles apart from each other in which anomalies count; one that
            is larger than its tile or the frame is left out.
        generator: chooses the places: where anomalies count, and so that a defect lies in its tile as a whole.

    Raises:
        FrameError: the frame cannot be judged, or nothing in it counts.
    """
    return _measure(detector, pixels, pixel_format, defects, generator)[0]


def _measure(
    detector: Detector,
    pixels: Pixels,
    pixel_format: PixelFormat,
    defects: Sequence[ArtificialDefect],
    generator: np.random.Generator,
) -> tuple[list[Response], list[ArtificialDefect]]:
    preprocessing = detector.recipe.preprocessing
    check_frame(pixels, pixel_format, preprocessing)
    frame_hw = (pixels.shape[0], pixels.shape[1])
    map_hw = preprocessing.scale_hw(frame_hw)
    parts = detector.get_parts(map_hw)
    places, left = _choose_places(detector, frame_hw, parts, defects, generator)
    changed = pixels.copy()
    if detector.fixture is not None:  # then a place in it is the map's
        changed = detector.fixture.straighten(changed, scale(pixels, pixel_format, preprocessing))
    own = [add(changed, place.centre_yx, place.defect, preprocessing.mono16_range) for place in places]
    near = [Vicinity.build(footprint, frame_hw, map_hw, detector.recipe.sigma) for footprint in own]
    if not places:
        return [], left
    where = np.zeros(map_hw, dtype=np.uint8)
    for each in near:
        where[each.rows, each.columns] |= each.mask
    anomaly_map = detector.compute_anomaly_map(preprocess(changed, pixel_format, preprocessing), where)
    area = detector.recipe.min_region_area
    return [
        Response(place.defect.kind, place.defect.size_px, place.defect.contrast, each.measure(anomaly_map, parts, area))
        for place, each in zip(places, near, strict=True)
    ], left


@dataclass(frozen=True, slots=True)
class Vicinity:
    """Where in a map a defect may show: its footprint, and a little around it.

    Attributes:
        rows, columns: of the map.
        mask: (rows, columns) uint8, 1 there.
    """

    rows: slice
    columns: slice
    mask: Mask

    @classmethod
    def build(cls, footprint: Footprint, frame_hw: tuple[int, int], map_hw: tuple[int, int], sigma: float) -> Vicinity:
        """Dilate a footprint by how far the map's smoothing and the features' stride carry a response.

        Args:
            footprint: with at least one pixel, in a frame of `frame_hw`.
            frame_hw, map_hw: heights and widths in pixels.
            sigma: the recipe's, in map pixels.
        """
        places = zip(np.nonzero(footprint.mask), (footprint.top, footprint.left), frame_hw, map_hw, strict=True)
        rows, columns = (((index + first + 0.5) * side / frame).astype(int) for index, first, frame, side in places)
        radius = math.ceil(2 * sigma) + _FEATURE_PX
        top, left = max(0, rows.min() - radius), max(0, columns.min() - radius)
        bottom, right = min(map_hw[0], rows.max() + radius + 1), min(map_hw[1], columns.max() + radius + 1)
        mask = np.zeros((bottom - top, right - left), dtype=np.uint8)
        mask[rows - top, columns - left] = 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return cls(slice(top, bottom), slice(left, right), np.asarray(cv2.dilate(mask, kernel), dtype=np.uint8))

    def measure(self, anomaly_map: Map, parts: Parts, area: int) -> float:
        """The highest score that any part of the frame has here; `area` is the smallest that counts, in map pixels."""
        here = np.where(self.mask > 0, anomaly_map[self.rows, self.columns], np.float32(0))
        masks = [None if mask is None else mask[self.rows, self.columns] for mask in parts.masks]
        inside = [here if mask is None else np.where(mask > 0, here, np.float32(0)) for mask in masks]
        return max(compute_score(values, area) for values in inside)


def _choose_places(
    detector: Detector,
    frame_hw: tuple[int, int],
    parts: Parts,
    defects: Sequence[ArtificialDefect],
    generator: np.random.Generator,
) -> tuple[list[_Place], list[ArtificialDefect]]:
    """Defects on tiles, and those that are left."""
    map_hw = detector.recipe.preprocessing.scale_hw(frame_hw)
    counts = np.ones(map_hw, dtype=bool)
    if all(mask is not None for mask in parts.masks):
        counts = np.logical_or.reduce([mask for mask in parts.masks if mask is not None])
    scale_yx = (map_hw[0] / frame_hw[0], map_hw[1] / frame_hw[1])
    waiting, places = list(defects), []
    for rows, columns in _choose_tiles(detector, counts, generator):
        for defect in waiting:
            centre = _choose_centre(counts[rows, columns], scale_yx, defect, generator)
            if centre is not None:
                origin = (rows.start / scale_yx[0], columns.start / scale_yx[1])
                places.append(_Place(defect, (origin[0] + centre[0], origin[1] + centre[1])))
                waiting.remove(defect)
                break
    return places, waiting


def _choose_tiles(detector: Detector, counts: Array, generator: np.random.Generator) -> Iterator[tuple[slice, slice]]:
    """Tiles in which anything counts in random order, none that overlaps one before: a tile shows one defect."""
    height, width = counts.shape
    grid, side = detector.tiler.grid((height, width)), detector.tiler.tile_size
    corners = list(itertools.product(grid.tops, grid.lefts))
    taken: list[tuple[int, int]] = []
    for index in generator.permutation(grid.overlapping(counts)):
        top, left = corners[index]
        if all(abs(top - y) >= side or abs(left - x) >= side for y, x in taken):
            taken.append((top, left))
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _choose_centre(
    counts: Array, scale_yx: tuple[float, float], defect: ArtificialDefect, generator: np.random.Generator
) -> tuple[float, float] | None:
    """A centre where anomalies count and all of the defect lies in the tile, in sensor pixels from its corner."""
    margins = [math.ceil(defect.reach_px * scale) for scale in scale_yx]
    inner = counts[margins[0] : counts.shape[0] - margins[0], margins[1] : counts.shape[1] - margins[1]]
    places = np.flatnonzero(inner)
    if not len(places):
        return None
    place = np.unravel_index(generator.choice(places), inner.shape)
    row, column = (
        (int(index) + margin + generator.random()) / scale - 0.5
        for index, margin, scale in zip(place, margins, scale_yx, strict=True)
    )
    return row, column
