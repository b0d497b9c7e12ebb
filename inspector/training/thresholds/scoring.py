"""What frames score, by the code that the daemon runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from inspector.detection.decision import Map
from inspector.detection.detector import Detector
from inspector.detection.fixture import unwarp_place
from inspector.detection.preprocessing import prepare
from inspector.errors import FrameError
from inspector.training.data.datasets import logger, read_image
from inspector.training.thresholds.policy import REST, Scores
from inspector.training.thresholds.proving import ProbeCollector
from inspector.training.thresholds.tail import find_peaks
from inspector.types import Pose

Advance = Callable[[int, int], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FrameScore:
    """What one frame scores.

    Attributes:
        score: of the whole frame.
        peaks: of its map where anomalies count, one a tile at the most, highest first.
        xy: where the highest is, in sensor pixels.
    """

    score: float
    peaks: tuple[float, ...]
    xy: tuple[int, int]

    def scale(self, gain: float) -> FrameScore:
        """The score and peaks multiplied by `gain`, to compare them with those of another network."""
        return FrameScore(self.score * gain, tuple(peak * gain for peak in self.peaks), self.xy)


def score_frames(
    detector: Detector,
    paths: Sequence[Path],
    advance: Advance = lambda done, total: None,
    collector: ProbeCollector | None = None,
) -> dict[Path, FrameScore]:
    """Scores by path; frames that cannot be judged are named and left out."""

    def score(anomaly_map: Map, frame_hw: tuple[int, int], pose: Pose | None) -> FrameScore:
        return _score_frame(detector, anomaly_map, frame_hw, pose)

    return _read_maps(detector, paths, score, advance, collector)


def score_parts(
    detector: Detector,
    paths: Sequence[Path],
    areas: Sequence[int],
    advance: Advance = lambda done, total: None,
    collector: ProbeCollector | None = None,
) -> tuple[dict[Path, FrameScore], dict[int, Scores]]:
    """The same, and at each minimum region area the scores of each part of the frames, in their order."""

    def score(anomaly_map: Map, frame_hw: tuple[int, int], pose: Pose | None) -> tuple[FrameScore, list[list[float]]]:
        parts = [[part.score for part in detector.decide_parts(anomaly_map, math.inf, area)] for area in areas]
        return _score_frame(detector, anomaly_map, frame_hw, pose), parts

    found = _read_maps(detector, paths, score, advance, collector)
    names = [REST, *(zone.name for zone in detector.recipe.zones)]
    values = [parts for _, parts in found.values()]
    table = np.array(values, dtype=np.float64).reshape(len(found), len(areas), len(names))
    return {path: frame for path, (frame, _) in found.items()}, {
        area: {name: table[:, row, column] for column, name in enumerate(names)} for row, area in enumerate(areas)
    }


def _score_frame(detector: Detector, anomaly_map: Map, frame_hw: tuple[int, int], pose: Pose | None) -> FrameScore:
    score = detector.decide(anomaly_map, math.inf).score
    peaks = find_peaks(
        detector.get_parts(anomaly_map.shape).hide_uncounted(anomaly_map), detector.recipe.tiling.tile_size
    )
    down, across = frame_hw[0] / anomaly_map.shape[0], frame_hw[1] / anomaly_map.shape[1]
    xy = (int((peaks[0].column + 0.5) * across), int((peaks[0].row + 0.5) * down))
    if pose is not None:
        xy = unwarp_place(xy, pose, frame_hw)
    return FrameScore(score, tuple(peak.value for peak in peaks), xy)


def _read_maps(
    detector: Detector,
    paths: Sequence[Path],
    use: Callable[[Map, tuple[int, int], Pose | None], _T],
    advance: Advance,
    collector: ProbeCollector | None = None,
) -> dict[Path, _T]:
    used = {}
    for number, path in enumerate(paths, start=1):
        try:
            pixels, pixel_format = read_image(path)
            image, pose = prepare(pixels, pixel_format, detector.recipe.preprocessing, detector.fixture)
            anomaly_map = detector.compute_anomaly_map(image)
            used[path] = use(anomaly_map, (pixels.shape[0], pixels.shape[1]), pose)
            if collector is not None:
                collector.offer(detector, image, anomaly_map)
        except FrameError as error:
            logger.warning("left out: %s: %s", path, str(error).removeprefix(f"{path}: "))
        advance(number, len(paths))
    if len(used) < len(paths):
        logger.warning("%d of %d frames left out, since they cannot be judged", len(paths) - len(used), len(paths))
    return used
