"""Pixel metrics of an evaluation: over all frames, for each kind of defect, and for each label of the masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.training.data.datasets import logger
from inspector.training.evaluation.ground_truth import name_label, read_labels
from inspector.training.evaluation.image_metrics import GOOD, compute_rate
from inspector.training.evaluation.pixel_metrics import PixelCounts, choose_levels, count_pixels
from inspector.training.evaluation.samples import Sample
from inspector.types import Verdict

Array = np.ndarray[Any, Any]

NO_PIXELS = {"n_masks": 0, "pixel_auroc": None, "aupro": None, "aupro_0_05": None}
"""Of frames without masks."""

_MOST_LABELS = 32


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """As they go to JSON.

    Attributes:
        whole: over all frames.
        by_kind: for each kind of defect that has masks.
        by_label: for each label, where the masks have several; empty where they have one, or more than 32.
    """

    whole: dict[str, Any]
    by_kind: dict[str, dict[str, Any]]
    by_label: dict[str, dict[str, Any]]


def compute_pixel_metrics(samples: Sequence[Sample], map_paths: Sequence[Path]) -> PixelMetrics:
    """Pixel metrics; a kind's rest on its frames and the good ones, a label's on the frames that show it and the good.

    Args:
        samples: test frames.
        map_paths: where the map (h, w) float32 of each is kept; of those without a mask, only good ones' are read.
    """
    usable = [number for number, s in enumerate(samples) if s.mask_path is not None or s.kind == GOOD]
    _warn_of_missing_masks(samples)
    if all(samples[number].mask_path is None for number in usable):
        return PixelMetrics(NO_PIXELS, {}, {})
    chosen = [samples[number] for number in usable]
    names = _choose_labels(chosen)
    maps, masks = _Maps([map_paths[number] for number in usable], chosen), _Masks(chosen)
    levels = choose_levels(maps, masks)
    counts: dict[str | int, PixelCounts] = {}
    for sample, anomaly_map, mask in zip(chosen, maps, masks, strict=True):
        for group, counted in _count(sample, anomaly_map, mask, levels, names):
            counts[group] = counts[group] + counted if group in counts else counted
    good = counts.pop(GOOD)
    by_label = {
        name: _rate_label(label, samples) | _describe(good + counts.pop(label), sum(label in s.labels for s in chosen))
        for label, name in names.items()
    }
    numbers = {kind: sum(sample.kind == kind for sample in chosen) for kind in counts}
    by_kind = {str(kind): _describe(good + counted, numbers[kind]) for kind, counted in counts.items()}
    return PixelMetrics(_describe(sum(counts.values(), good), sum(numbers.values())), by_kind, by_label)


def _choose_labels(samples: Sequence[Sample]) -> dict[int, str]:
    """Labels to measure one by one, and their names."""
    labels = sorted(frozenset[int]().union(*(sample.labels for sample in samples)))
    return {label: name_label(label) for label in labels} if 1 < len(labels) <= _MOST_LABELS else {}


def _count(
    sample: Sample, anomaly_map: Array, mask: Array, levels: Array, names: dict[int, str]
) -> Iterator[tuple[str | int, PixelCounts]]:
    """A frame's counts, for its kind and for each of its labels."""
    yield sample.kind, count_pixels(anomaly_map, mask, levels)
    if names and sample.mask_path is not None:
        labels = read_labels(sample.mask_path, sample.frame_hw)
        for label in sample.labels:
            yield label, count_pixels(anomaly_map, mask, levels, (labels == label).astype(np.uint8))


def _rate_label(label: int, samples: Sequence[Sample]) -> dict[str, Any]:
    """How many frames show a label, and how many of them pass."""
    passed = np.array([sample.verdict is Verdict.PASS for sample in samples if label in sample.labels])
    return {"n": len(passed)} | compute_rate("escape", passed)


@dataclass(frozen=True, slots=True)
class _Maps(Sequence[Array]):
    """Maps at their frames' size, read from disk when asked for: together they would not fit in memory."""

    paths: Sequence[Path]
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        height, width = self.samples[index].frame_hw
        return cv2.resize(np.load(self.paths[index]), (width, height))


@dataclass(frozen=True, slots=True)
class _Masks(Sequence[Array]):
    """Masks, read from disk when asked for; black for good frames."""

    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        sample = self.samples[index]
        if sample.mask_path is None:
            return np.zeros(sample.frame_hw, dtype=np.uint8)
        return (read_labels(sample.mask_path, sample.frame_hw) != 0).astype(np.uint8)


def _warn_of_missing_masks(samples: Sequence[Sample]) -> None:
    bare = [sample for sample in samples if sample.kind != GOOD and sample.mask_path is None]
    for sample in bare if len(bare) < sum(sample.kind != GOOD for sample in samples) else []:
        logger.warning("no mask for %s: left out of the pixel metrics", sample.path)


def _describe(counts: PixelCounts, n_masks: int) -> dict[str, Any]:
    if not counts.regions:
        return NO_PIXELS | {"n_masks": n_masks}  # all of them black
    curves = counts.curves()
    return {
        "n_masks": n_masks,
        "pixel_auroc": curves.auroc(),
        "aupro": curves.aupro(0.3),
        "aupro_0_05": curves.aupro(0.05),
    }
