"""How well a recipe does on a data set in MVTec layout: test/good, test/<kind>, ground_truth/<kind>."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.device import choose_device
from inspector.errors import FrameError, InspectorError, NotLocatedError, RecipeError, TrainingError
from inspector.files import compute_sha256
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import list_images, logger, read_image
from inspector.training.data.record import load_record
from inspector.training.evaluation.ground_truth import find_mask, read_labels
from inspector.training.evaluation.image_metrics import GOOD, compute_image_metrics
from inspector.training.evaluation.pixel_evaluation import NO_PIXELS, compute_pixel_metrics
from inspector.training.evaluation.samples import Sample
from inspector.types import Verdict


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
            {
                "path": self.name(s.path),
                "kind": s.kind,
                "score": s.score if s.is_scored else None,
                "verdict": s.verdict.value,
            }
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

    Frames that the recipe refuses for what they show are scored all the same, and count as ERROR; so do those in which
    the part is not found, without a score. Frames that cannot be judged are named, counted in `n_skipped` and left out.
    Memory is bounded: maps wait on disk, at the network's scale.

    Raises:
        RecipeError: the recipe cannot be used, or has no threshold.
        BadFrameError: a mask cannot be read, or is not its image's size.
        TrainingError: the layout is another, or too few frames could be judged.
    """
    detector = open_detector(folder, device=choose_device(device), whole_maps=True)
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
                maps += [map_path] if sample.is_scored else []
            advance(number, len(paths))
        scored = [sample for sample in samples if sample.is_scored]
        _check_both_sorts(dataset_dir, [sample.kind for sample in scored])
        refused = [sample.verdict is Verdict.ERROR for sample in samples]
        kinds, scores = [sample.kind for sample in samples], [sample.score for sample in samples]
        metrics = compute_image_metrics(kinds, scores, threshold.value, refused)
        pixel_metrics = compute_pixel_metrics(scored, maps)
    metrics |= pixel_metrics.whole | {
        "by_kind": {
            kind: values | pixel_metrics.by_kind.get(kind, NO_PIXELS) for kind, values in metrics["by_kind"].items()
        },
        "by_label": pixel_metrics.by_label,
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
            f"{dataset_dir}: must contain test/good and test/<kind of defect> with frames that can be judged, "
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
            "metrics look better than they are; remove it from the test set",
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
    except NotLocatedError as error:
        logger.info("%s: ERROR: %s", path, error)
        seconds, frame_hw = time.monotonic() - started, (pixels.shape[0], pixels.shape[1])
        return Sample(path, path.parent.name, math.nan, Verdict.ERROR, mask_path, frame_hw, seconds)
    except FrameError as error:
        logger.warning("left out: %s: %s", path, str(error).removeprefix(f"{path}: "))
        return None
    seconds = time.monotonic() - started
    height, width = pixels.shape[:2]
    kind = path.parent.name
    labels: frozenset[int] = frozenset()
    if mask_path is not None:  # a fault in it is told now, not when all frames are judged
        labels = frozenset(np.unique(read_labels(mask_path, (height, width))).tolist()) - {0}
    if mask_path is not None or kind == GOOD:
        try:
            np.save(map_path, judgement.anomaly_map)
        except OSError as error:
            raise InspectorError(f"{map_path.parent}: maps cannot be stored there (see TMPDIR): {error}") from error
    decision = judgement.decision
    verdict = decision.verdict
    try:
        if detector.expectation is not None:
            doubt = detector.expectation.check(pixels, pixel_format, detector.recipe.preprocessing)
            if doubt is not None and verdict is Verdict.PASS:
                raise doubt
    except FrameError as error:
        logger.info("%s: ERROR regardless of its score: %s", path, error)
        verdict = Verdict.ERROR
    return Sample(path, kind, decision.score, verdict, mask_path, (height, width), seconds, labels)
