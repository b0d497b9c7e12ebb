"""How well a recipe does on a data set in MVTec layout: test/good, test/<kind>, ground_truth/<kind>."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.codec import decode_image
from inspector.config import Recipe
from inspector.detector import Detector
from inspector.device import choose_device
from inspector.errors import BadFrameError, FrameError, InspectorError, RecipeError, TrainingError
from inspector.files import read_whole
from inspector.model.checkpoint import compute_sha256
from inspector.training.datasets import list_images, logger, read_image
from inspector.training.image_metrics import GOOD, compute_image_metrics
from inspector.training.pixel_metrics import PixelCounts, choose_levels, count_pixels
from inspector.training.record import load_record
from inspector.types import Verdict

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One test frame as it was judged.

    Attributes:
        kind: `good` or the kind of defect.
        verdict: ERROR where the recipe refuses the frame, whatever it scores.
        mask_path: where its defects are marked; None where that is not known.
        frame_hw: its height and width in pixels.
        seconds: spent on reading and judging it.
    """

    path: Path
    kind: str
    score: float
    verdict: Verdict
    mask_path: Path | None
    frame_hw: tuple[int, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics as they go to JSON, and what they rest on."""

    recipe: Recipe
    dataset_dir: Path
    threshold: float
    metrics: dict[str, Any]
    samples: tuple[Sample, ...]

    def to_json(self) -> dict[str, Any]:
        """All metrics, and each frame's score and verdict."""
        frames = [
            {"path": self.name(s.path), "kind": s.kind, "score": s.score, "verdict": s.verdict.value}
            for s in self.samples
        ]
        return self.metrics | {"frames": frames}

    def name(self, path: Path) -> str:
        """A file's path within the data set."""
        return path.relative_to(self.dataset_dir).as_posix()


def evaluate(
    folder: Path,
    dataset_dir: Path,
    *,
    device: str = "auto",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Judge every test frame as the daemon would, and measure. Pixel metrics are None where there are no masks.

    Frames that the recipe refuses for what they show are scored all the same, and count as ERROR. Frames that cannot be
    judged are named, counted in `n_skipped` and left out. Memory is bounded: maps wait on
    disk, at the network's scale.

    Raises:
        RecipeError: the recipe cannot be used, or has no threshold.
        BadFrameError: a mask cannot be read, or is not its image's size.
        TrainingError: the layout is another, or too few frames could be judged.
    """
    detector = Detector.load(folder, device=choose_device(device), whole_maps=True)
    threshold = detector.recipe.threshold
    if threshold is None:
        raise RecipeError(f"{folder}: threshold: required for evaluation; run inspector calibrate")
    paths = _list_test_images(dataset_dir)
    duplicates = _find_duplicates(folder, dataset_dir, paths)
    with tempfile.TemporaryDirectory(prefix="inspector-maps-") as temporary:
        samples, maps = [], []
        for number, path in enumerate(paths, start=1):
            map_path = Path(temporary) / f"{number}.npy"
            sample = _judge(detector, path, find_mask(dataset_dir, path), map_path)
            if sample is not None:
                samples.append(sample)
                maps.append(map_path)
            advance(number, len(paths))
        _check_both_sorts(dataset_dir, [sample.kind for sample in samples])
        refused = [sample.verdict is Verdict.ERROR for sample in samples]
        kinds, scores = [sample.kind for sample in samples], [sample.score for sample in samples]
        metrics = compute_image_metrics(kinds, scores, threshold.value, refused)
        pixel_metrics = _compute_pixel_metrics(samples, maps)
    by_kind = {kind: values | pixel_metrics.pop(kind, _NO_PIXELS) for kind, values in metrics.pop("by_kind").items()}
    metrics |= pixel_metrics[_ALL] | {
        "by_kind": by_kind,
        "frames_per_second": len(samples) / sum(sample.seconds for sample in samples),
        "threshold": threshold.value,
        "n_skipped": len(paths) - len(samples),
        "n_refused": sum(refused),
        "duplicates_of_training": duplicates,
    }
    return Evaluation(detector.recipe, dataset_dir, threshold.value, metrics, tuple(samples))


def _list_test_images(dataset_dir: Path) -> list[Path]:
    test_dir = dataset_dir / "test"
    paths = list_images(test_dir) if test_dir.is_dir() else []
    _check_both_sorts(dataset_dir, [path.parent.name for path in paths])
    return paths


def _check_both_sorts(dataset_dir: Path, kinds: Sequence[str]) -> None:
    if GOOD not in kinds or len(set(kinds)) < 2:
        raise TrainingError(
            f"{dataset_dir}: must hold test/good and test/<kind of defect> with frames that can be judged, "
            f"got {sorted(set(kinds))}"
        )


def _find_duplicates(folder: Path, dataset_dir: Path, paths: Sequence[Path]) -> list[dict[str, str]] | None:
    """Test images whose file is, byte for byte, one of the frames the recipe was made from; None where unknown."""
    record = load_record(folder)
    if record is None:
        return None
    trained = record.name_all()
    duplicates = [
        {"path": path.relative_to(dataset_dir).as_posix(), "training_frame": trained[sha256]}
        for path, sha256 in ((path, _hash(path)) for path in paths)
        if sha256 in trained
    ]
    for duplicate in duplicates:
        logger.warning(
            "SEEN IN TRAINING: %s is the same file as %s, which this recipe was trained or calibrated on: "
            "metrics look better than they are; take it out of the test set",
            duplicate["path"], duplicate["training_frame"],
        )  # fmt: skip
    return duplicates


def _hash(path: Path) -> str:
    try:
        return compute_sha256(path)
    except OSError:
        return ""  # named when it is judged


def _judge(detector: Detector, path: Path, mask_path: Path | None, map_path: Path) -> Sample | None:
    """Judge one frame and leave its map at `map_path`; None where that cannot be done."""
    started = time.monotonic()
    try:
        pixels, pixel_format = read_image(path)
        judgement = detector.judge(pixels, pixel_format, any_frame=True)
    except FrameError as error:
        logger.warning("left out: %s: %s", path, str(error).removeprefix(f"{path}: "))
        return None
    seconds = time.monotonic() - started
    height, width = pixels.shape[:2]
    kind = path.parent.name
    if mask_path is not None:
        read_mask(mask_path, (height, width))  # a fault in it is told now, not when all frames are judged
    if mask_path is not None or kind == GOOD:
        try:
            np.save(map_path, judgement.anomaly_map)
        except OSError as error:
            raise InspectorError(f"{map_path.parent}: maps cannot be kept there (see TMPDIR): {error}") from error
    decision = judgement.decision
    verdict = decision.verdict
    try:
        if detector.expectation is not None:
            detector.expectation.check(pixels, pixel_format, detector.recipe.preprocessing)
    except FrameError as error:
        logger.info("%s: ERROR whatever it scores: %s", path, error)
        verdict = Verdict.ERROR
    return Sample(path, kind, decision.score, verdict, mask_path, (height, width), seconds)


def find_mask(dataset_dir: Path, path: Path) -> Path | None:
    """The mask of a frame of test/<kind>; None for a good one, or where there is none."""
    if path.parent.name == GOOD:
        return None
    masks = dataset_dir / "ground_truth" / path.parent.name
    candidates = (masks / f"{path.stem}_mask.png", masks / f"{path.stem}.png")
    return next((mask for mask in candidates if mask.is_file()), None)


def read_mask(path: Path, frame_hw: tuple[int, int]) -> Array:
    """Mask (H, W) uint8, 1 on defects: where the file is above half its highest value.

    Raises:
        BadFrameError: it cannot be read, or is not of its image's size.
    """
    try:
        pixels, _ = decode_image(read_whole(path))
    except (OSError, BadFrameError) as error:
        raise BadFrameError(f"{path}: mask: must be an image that can be read: {error}") from error
    if pixels.shape[:2] != frame_hw:
        raise BadFrameError(f"{path}: mask: must have its image's size {frame_hw}, got {pixels.shape[:2]}")
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    return np.asarray(grey > grey.max() / 2, dtype=np.uint8)


# ---------------------------------------------------------------- pixels

_ALL = ""
_NO_PIXELS = {"n_masks": 0, "pixel_auroc": None, "aupro": None, "aupro_0_05": None}


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
        return read_mask(sample.mask_path, sample.frame_hw)


def _compute_pixel_metrics(samples: Sequence[Sample], map_paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Pixel metrics over all frames, under `_ALL`, and for each kind of defect that has masks."""
    usable = [number for number, s in enumerate(samples) if s.mask_path is not None or s.kind == GOOD]
    _warn_of_missing_masks(samples)
    if all(samples[number].mask_path is None for number in usable):
        return {_ALL: _NO_PIXELS}
    chosen = [samples[number] for number in usable]
    maps, masks = _Maps([map_paths[number] for number in usable], chosen), _Masks(chosen)
    levels = choose_levels(maps, masks)
    counts: dict[str, PixelCounts] = {}
    for sample, anomaly_map, mask in zip(chosen, maps, masks, strict=True):
        counted = count_pixels(anomaly_map, mask, levels)
        counts[sample.kind] = counts[sample.kind] + counted if sample.kind in counts else counted
    good = counts.pop(GOOD)
    numbers = {kind: sum(sample.kind == kind for sample in chosen) for kind in counts}
    metrics = {kind: _describe(good + counted, numbers[kind]) for kind, counted in counts.items()}
    return metrics | {_ALL: _describe(sum(counts.values(), good), sum(numbers.values()))}


def _warn_of_missing_masks(samples: Sequence[Sample]) -> None:
    bare = [sample for sample in samples if sample.kind != GOOD and sample.mask_path is None]
    for sample in bare if len(bare) < sum(sample.kind != GOOD for sample in samples) else []:
        logger.warning("no mask for %s: it is left out of the pixel metrics", sample.path)


def _describe(counts: PixelCounts, n_masks: int) -> dict[str, Any]:
    if not counts.regions:
        return _NO_PIXELS | {"n_masks": n_masks}  # all of them black
    curves = counts.curves()
    return {
        "n_masks": n_masks,
        "pixel_auroc": curves.auroc(),
        "aupro": curves.aupro(0.3),
        "aupro_0_05": curves.aupro(0.05),
    }
