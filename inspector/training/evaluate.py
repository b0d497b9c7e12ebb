"""How well a recipe does on a data set in MVTec layout: test/good, test/<kind>, ground_truth/<kind>."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from inspector.detector import Detector, choose_device, preprocess
from inspector.errors import BadFrameError, RecipeError, TrainingError
from inspector.training.datasets import list_images, read_image

Array = np.ndarray[Any, Any]

_LEVELS = 2000
"""Levels at which pixels are counted: rates are exact there, areas under curves to about 1e-3 of their width."""


@dataclass(frozen=True, slots=True)
class _Sample:
    kind: str
    score: float
    map_path: Path
    mask_path: Path | None


def evaluate(
    folder: Path,
    dataset_dir: Path,
    *,
    device: str = "auto",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Metrics of a recipe. Pixel metrics are None where there are no masks.

    Memory is bounded: maps wait on disk, pixels are counted in histograms.

    Raises:
        RecipeError, BadFrameError, TrainingError: recipe, an image or the layout cannot be used.
    """
    detector = Detector.load(folder, device=choose_device(device))
    threshold = detector.recipe.threshold
    if threshold is None:
        raise RecipeError(f"{folder}: threshold: required for evaluation; run inspector calibrate")
    test_dir = dataset_dir / "test"
    paths = list_images(test_dir) if test_dir.is_dir() else []
    kinds = [path.parent.name for path in paths]
    if "good" not in kinds or len(set(kinds)) < 2:
        raise TrainingError(f"{dataset_dir}: must hold test/good and test/<kind of defect>, got {sorted(set(kinds))}")
    with tempfile.TemporaryDirectory(prefix="inspector-maps-") as temporary:
        started = time.monotonic()
        samples = [
            _judge(detector, path, dataset_dir, Path(temporary) / f"{number}.npy", advance, (number, len(paths)))
            for number, path in enumerate(paths, start=1)
        ]
        seconds = time.monotonic() - started
        metrics = compute_image_metrics([s.kind for s in samples], [s.score for s in samples], threshold.value)
        metrics |= _pixel_metrics(samples)
    return metrics | {"frames_per_second": len(samples) / seconds, "threshold": threshold.value}


def _judge(
    detector: Detector,
    path: Path,
    dataset_dir: Path,
    map_path: Path,
    advance: Callable[[int, int], None],
    count: tuple[int, int],
) -> _Sample:
    pixels, pixel_format = read_image(path)
    anomaly_map = detector.compute_anomaly_map(preprocess(pixels, pixel_format, detector.recipe.preprocessing))
    score = detector.decide(anomaly_map, float("inf")).score
    height, width = pixels.shape[:2]
    np.save(map_path, cv2.resize(anomaly_map, (width, height)))  # compared with masks at the sensor's size
    advance(*count)
    return _Sample(path.parent.name, score, map_path, _find_mask(dataset_dir, path))


def _find_mask(dataset_dir: Path, path: Path) -> Path | None:
    masks = dataset_dir / "ground_truth" / path.parent.name
    candidates = (masks / f"{path.stem}_mask.png", masks / f"{path.stem}.png")
    return next((mask for mask in candidates if mask.is_file()), None)


def compute_image_metrics(kinds: Sequence[str], scores: Sequence[float], threshold: float) -> dict[str, Any]:
    """Image-level metrics; `kinds` says `good` or the kind of defect."""
    truth = np.array([kind != "good" for kind in kinds])
    values = np.asarray(scores)
    precision, recall, _ = precision_recall_curve(truth, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    rejected = values > threshold
    by_kind = {
        kind: float(roc_auc_score(truth[chosen], values[chosen]))
        for kind in sorted(set(kinds) - {"good"})
        for chosen in [np.array([other in {"good", kind} for other in kinds])]
    }
    return {
        "image_auroc": float(roc_auc_score(truth, values)),
        "image_ap": float(average_precision_score(truth, values)),
        "f1_max": float(f1.max()),
        "false_reject_rate": float(rejected[~truth].mean()),
        "escape_rate": float((~rejected[truth]).mean()),
        "n_good": int((~truth).sum()),
        "n_defective": int(truth.sum()),
        "image_auroc_by_kind": by_kind,
    }


def _pixel_metrics(samples: Sequence[_Sample]) -> dict[str, Any]:
    if all(sample.mask_path is None for sample in samples):
        return {"pixel_auroc": None, "aupro": None}
    usable = [sample for sample in samples if sample.mask_path is not None or sample.kind == "good"]
    curves = compute_pixel_curves(_MapFiles([sample.map_path for sample in usable]), _read_masks(usable))
    return {"pixel_auroc": curves.auroc(), "aupro": curves.aupro(0.3)}


class _MapFiles(Sequence[Array]):
    """Maps read from disk when asked for: a few hundred high-resolution ones would not fit in memory together."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        return np.load(self._paths[index])


def _read_masks(samples: Sequence[_Sample]) -> Iterator[Array]:
    for sample in samples:
        shape = np.load(sample.map_path, mmap_mode="r").shape
        yield _read_mask(sample, shape)


def _read_mask(sample: _Sample, shape: tuple[int, ...]) -> Array:
    if sample.mask_path is None:
        return np.zeros(shape, dtype=np.uint8)
    mask = cv2.imread(str(sample.mask_path), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != shape:
        got = None if mask is None else mask.shape
        raise BadFrameError(f"{sample.mask_path}: must be a mask of its image's size {shape}, got {got}")
    return np.asarray(mask > 127, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class PixelCurves:
    """Rates at falling levels: false positives, true positives, and overlap averaged over defects (PRO)."""

    false_positive_rate: Array
    true_positive_rate: Array
    per_region_overlap: Array

    def auroc(self) -> float:
        """Area under the pixel ROC."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    def aupro(self, limit: float) -> float:
        """Area under the PRO curve up to a false-positive rate of `limit`, as a share of it."""
        rate, overlap = self.false_positive_rate, self.per_region_overlap
        inside = rate <= limit
        edge = np.interp(limit, rate, overlap)
        return float(np.trapezoid([*overlap[inside], edge], [*rate[inside], limit]) / limit)


def compute_pixel_curves(maps: Sequence[Array], masks: Iterable[Array]) -> PixelCurves:
    """Count pixels above each of `_LEVELS` levels, frame by frame.

    Args:
        maps: (H, W) float32 each.
        masks: (H, W) uint8 each, 1 on defects; each connected area is one defect. Read once, in order.
    """
    # Levels at equal shares of pixels rather than equal steps: the few high values decide.
    sample = np.concatenate([m.ravel()[:: max(1, m.size // 20_000)].copy() for m in maps])  # no view that keeps a map
    peaks = np.array([float(m.max()) for m in maps])
    tail = 1 - np.logspace(-6, 0, _LEVELS - len(peaks) if 2 * len(peaks) < _LEVELS else _LEVELS)
    levels = np.unique(np.concatenate([np.quantile(sample, tail), peaks, [min(float(m.min()) for m in maps)]]))
    edges = np.concatenate([levels, [np.nextafter(levels[-1], np.inf)]])
    normal = np.zeros(len(levels))
    overlaps: list[Array] = []
    defect = np.zeros(len(levels))
    for anomaly_map, mask in zip(maps, masks, strict=True):
        count, labels = cv2.connectedComponents(mask, connectivity=8)
        normal += np.histogram(anomaly_map[labels == 0], edges)[0]
        for label in range(1, count):
            inside = np.histogram(anomaly_map[labels == label], edges)[0]
            defect += inside
            overlaps.append(_share_above(inside))
    return PixelCurves(
        np.concatenate([[0.0], _share_above(normal)]),
        np.concatenate([[0.0], _share_above(defect)]),
        np.concatenate([[0.0], np.mean(overlaps, axis=0)]),
    )


def _share_above(counts: Array) -> Array:
    falling = np.cumsum(counts[::-1])
    return np.asarray(falling / falling[-1])
