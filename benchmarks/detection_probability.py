"""Do artificial defects foretell what happens to real ones? Predicted probability of detection against what is caught.

    python benchmarks/detection_probability.py RECIPE DATASET [--png FILE]

DATASET is in MVTec layout, with masks. The recipe is qualified on DATASET/test/good, which training must not have seen.
Each connected region of a mask is one real defect: its width is twice the highest value of the distance transform, its
contrast the difference of medians inside and in a ring around it, in grey levels. Regions at least 3 times as long as
wide are compared with lines, the others with spots. Caught is what is caught at its own place, as for artificial ones.
Regions of one frame are alike, so the intervals are too narrow. A defect that differs in texture and not in brightness
has no contrast by this measure: nothing foretells it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from inspector.config.qualification import DefectKind, Qualification, describe_qualification
from inspector.detection.detector import Detector
from inspector.detection.preprocessing import preprocess
from inspector.device import choose_device
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import list_images, read_image
from inspector.training.evaluation.ground_truth import find_mask, read_mask
from inspector.training.evaluation.image_metrics import GOOD
from inspector.training.thresholds.artificial_defects import Footprint
from inspector.training.thresholds.detection_probability import build_qualification
from inspector.training.thresholds.policy import compute_interval
from inspector.training.thresholds.qualification import PER_KIND, Vicinity, qualify
from inspector.types import PixelFormat

_SMALLEST = 4  # pixels of a region: fewer are slips of the pen
_ELONGATED = 3.0
_BINS = np.linspace(0, 1, 6)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shape:
    """A real defect as it is measured: width in sensor pixels, contrast in grey levels, area in pixels."""

    kind: DefectKind
    size_px: float
    contrast: float
    area: int


@dataclass(frozen=True)
class RealDefect:
    """A real defect, what was foretold for it, and what became of it."""

    shape: Shape
    sort: str
    predicted: float
    caught: bool


def main() -> None:
    arguments = _parse()
    detector = open_detector(arguments.recipe, device=choose_device(arguments.device))
    if detector.recipe.threshold is None:
        raise SystemExit("recipe: threshold: must be set")
    good = list_images(arguments.dataset / "test" / GOOD)
    responses, n_frames = qualify(detector, good, np.random.default_rng(arguments.seed), arguments.per_kind)
    qualification = build_qualification(responses, detector.recipe.threshold.value, n_frames)
    print(*describe_qualification(qualification), sep="\n")
    defects = list(_judge_all(detector, arguments.dataset, qualification))
    if not defects:
        raise SystemExit(f"{arguments.dataset}: must hold defective frames with masks, got none")
    _print(defects, qualification)
    if arguments.png:
        _draw(defects, arguments.png)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--per-kind", type=int, default=PER_KIND, help="artificial defects of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _judge_all(detector: Detector, dataset: Path, qualification: Qualification) -> Iterator[RealDefect]:
    for path in list_images(dataset / "test"):
        mask_path = find_mask(dataset, path)
        if mask_path is None:
            continue
        pixels, pixel_format = read_image(path)
        mask = read_mask(mask_path, (pixels.shape[0], pixels.shape[1]))
        preprocessing = detector.recipe.preprocessing
        anomaly_map = detector.compute_anomaly_map(preprocess(pixels, pixel_format, preprocessing))
        map_hw = (anomaly_map.shape[0], anomaly_map.shape[1])
        parts, grey = detector.get_parts(map_hw), _to_grey(pixels, pixel_format, preprocessing.mono16_range)
        for region in find_regions(mask):
            near = Vicinity.build(region, mask.shape, map_hw, detector.recipe.sigma)
            response = near.measure(anomaly_map, parts, detector.recipe.min_region_area)
            shape = measure_shape(grey, mask, region)
            predicted = predict(qualification, shape)
            yield RealDefect(shape, path.parent.name, predicted, response > qualification.threshold)


def _to_grey(pixels: Array, pixel_format: PixelFormat, mono16_range: tuple[int, int]) -> Array:
    """(H, W) float32 in [0, 255]."""
    low, high = mono16_range if pixel_format is PixelFormat.MONO16 else (0, 255)
    grey = pixels.astype(np.float32) if pixels.ndim == 2 else pixels.mean(axis=2, dtype=np.float32)
    return np.clip((grey - low) * (255 / (high - low)), 0, 255)


def find_regions(mask: Array) -> list[Footprint]:
    """Connected regions (8 neighbours) of a mask (H, W) uint8, without slips of the pen."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = []
    for label, (left, top, width, height, area) in enumerate(stats[1:].tolist(), start=1):
        if area >= _SMALLEST:
            inside = labels[top : top + height, left : left + width] == label
            regions.append(Footprint(top, left, inside))
    return regions


def measure_shape(grey: Array, mask: Array, region: Footprint) -> Shape:
    """Width, contrast, area and the artificial kind that is nearest, of a region in a frame (H, W) float32."""
    whole = np.zeros(mask.shape, dtype=np.uint8)
    height, width = region.mask.shape
    whole[region.top : region.top + height, region.left : region.left + width] = region.mask
    area = int(whole.sum())
    # A border of zeros: beyond the frame there is no defect.
    thickness = float(cv2.distanceTransform(np.pad(whole, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())
    size = max(1.0, 2 * thickness - 1)  # the transform measures to the next pixel's centre
    inner, outer = _dilate(mask, 2), _dilate(whole, 2 + max(4, round(size)))
    ring = (outer > 0) & (inner == 0)
    contrast = abs(float(np.median(grey[whole > 0])) - float(np.median(grey[ring]))) if ring.any() else 0.0
    kind = DefectKind.LINE if area / size >= _ELONGATED * size else DefectKind.SPOT
    return Shape(kind, size, contrast, area)


def _dilate(mask: Array, radius: int) -> Array:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask, kernel))


def predict(qualification: Qualification, shape: Shape) -> float:
    """POD of its kind; what is larger or stronger than all that was tried counts as the largest, the strongest."""
    curve = qualification.kinds[shape.kind]
    size = min(max(shape.size_px, curve.size_px.low), curve.size_px.high)
    return curve.compute_probability(size, min(max(shape.contrast, 1.0), curve.contrast.high))


def _print(defects: Sequence[RealDefect], qualification: Qualification) -> None:
    predicted, caught = _to_arrays(defects)
    table = Table("predicted POD", "real defects", "mean predicted", "caught", "95 % interval")
    for low, high in itertools.pairwise(_BINS):
        inside = (predicted >= low) & ((predicted < high) | (high == 1))
        n, count = int(inside.sum()), int(caught[inside].sum())
        cells = ["–", "–", "–"]
        if n:
            bounds = compute_interval(count, n)
            cells = [f"{predicted[inside].mean():.2f}", f"{count / n:.2f}", f"{bounds[0]:.2f} to {bounds[1]:.2f}"]
        table.add_row(f"{low:.1f} to {high:.1f}", str(n), *cells)
    Console(width=100).print(table)
    print(f"all {len(defects)}: predicted {predicted.mean():.3f}, caught {caught.mean():.3f}")
    for sort in sorted({defect.sort for defect in defects}):
        own = np.array([defect.sort == sort for defect in defects])
        print(f"  {sort}: {own.sum()} regions, predicted {predicted[own].mean():.2f}, caught {caught[own].mean():.2f}")
    for kind in (DefectKind.LINE, DefectKind.SPOT):
        own = np.array([defect.shape.kind is kind for defect in defects])
        if own.any():
            print(f"  as {kind}s: {own.sum()}, predicted {predicted[own].mean():.2f}, caught {caught[own].mean():.2f}")
    _print_order(defects, predicted, caught)
    wide = sum(d.shape.size_px > qualification.kinds[d.shape.kind].size_px.high for d in defects)
    weak = sum(d.shape.contrast < qualification.kinds[d.shape.kind].contrast.low for d in defects)
    print(f"beyond what was tried: {wide} wider, {weak} weaker")


def _print_order(defects: Sequence[RealDefect], predicted: Array, caught: Array) -> None:
    if len(set(caught.tolist())) < 2:
        print("AUROC: none, all or no real defects are caught")
        return
    rivals = {
        "predicted POD": predicted,
        "width alone": np.array([defect.shape.size_px for defect in defects]),
        "contrast alone": np.array([defect.shape.contrast for defect in defects]),
        "area alone": np.array([defect.shape.area for defect in defects]),
    }
    print("AUROC for caught or missed: " + ", ".join(f"{k} {roc_auc_score(caught, v):.3f}" for k, v in rivals.items()))


def _to_arrays(defects: Sequence[RealDefect]) -> tuple[Array, Array]:
    return np.array([defect.predicted for defect in defects]), np.array([defect.caught for defect in defects])


def _draw(defects: Sequence[RealDefect], path: Path) -> None:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_calibration(left, *_to_arrays(defects))
    markers = {DefectKind.LINE: "_", DefectKind.SPOT: "o"}
    for kind, marker in markers.items():
        for caught, colour in ((True, "#2a9d8f"), (False, "#d9534f")):
            own = [d.shape for d in defects if d.shape.kind is kind and d.caught is caught]
            label = f"{kind}, {'caught' if caught else 'missed'} ({len(own)})"
            x, y = [shape.size_px for shape in own], [max(1.0, shape.contrast) for shape in own]
            right.scatter(x, y, marker=marker, color=colour, label=label, s=36, alpha=0.8)
    right.set(xscale="log", yscale="log", xlabel="width of real defect (sensor px)", ylabel="contrast (grey levels)")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _draw_calibration(axes: Axes, predicted: Array, caught: Array) -> None:
    axes.plot([0, 1], [0, 1], color="#8a8a8a", linestyle=":")
    for low, high in itertools.pairwise(_BINS):
        inside = (predicted >= low) & ((predicted < high) | (high == 1))
        if not inside.any():
            continue
        share, bounds = caught[inside].mean(), compute_interval(int(caught[inside].sum()), int(inside.sum()))
        errors = [[max(0.0, share - bounds[0])], [max(0.0, bounds[1] - share)]]
        axes.errorbar(predicted[inside].mean(), share, errors, fmt="o", color="#4a8fd0", capsize=3)
        place = (float(predicted[inside].mean()), float(share))
        offset, side = ((-6, 6), "right") if place[0] > 0.8 else ((6, 6), "left")
        axes.annotate(f"n = {inside.sum()}", place, xytext=offset, textcoords="offset points", ha=side)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted POD", ylabel="real defects caught")


if __name__ == "__main__":
    main()
