"""The threshold, from good frames that training never saw."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from inspector.config import RECIPE_FILE, Recipe, Threshold, dump_recipe, load_recipe
from inspector.detector import Detector, choose_device, preprocess, read_roi
from inspector.errors import FrameError, TrainingError
from inspector.model.checkpoint import compute_sha256
from inspector.training.datasets import list_images, logger, read_image

CONFIDENCE = 0.95


def compute_false_reject_bound(rejects: int, n: int) -> float:
    """Upper one-sided 95 % Clopper–Pearson bound on the false-reject rate after `rejects` in `n` good frames."""
    return 1.0 if rejects >= n else float(stats.beta.ppf(CONFIDENCE, rejects + 1, n - rejects))


def compute_threshold(scores: Sequence[float], false_reject_rate: float) -> Threshold:
    """Set the threshold from good frames' scores.

    With enough frames for the rate, the order statistic: the lowest score that at most that share exceeds.
    With fewer, the tail is extrapolated: a frame's score is a maximum over many positions, so it follows an
    extreme-value law, here Gumbel's; never below the highest score seen.

    Raises:
        TrainingError: fewer than 2 scores, one not finite, or a threshold that would not lie above 0.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        raise TrainingError(f"calibration: at least 2 finite scores are needed, got {list(scores)}")
    if n * false_reject_rate >= 1:
        value, method = values[n - 1 - math.floor(n * false_reject_rate)], "order_statistic"
    else:
        # Moments rather than likelihood: steady for the ten to fifty frames this is meant for.
        spread = math.sqrt(6) / math.pi * values.std(ddof=1)
        centre = values.mean() - np.euler_gamma * spread
        value, method = max(values[-1], stats.gumbel_r.ppf(1 - false_reject_rate, centre, spread or 1e-12)), "gumbel"
    if value <= 0:
        raise TrainingError(f"threshold: must lie above 0, got {value:g} from {n} frames: the maps show nothing")
    return Threshold(
        value=float(value),
        method=method,  # type: ignore[arg-type]
        n_good=n,
        target_false_reject_rate=false_reject_rate,
        false_reject_bound=compute_false_reject_bound(int((values > value).sum()), n),
    )


def adopt_roi(recipe: Recipe, mask: Path, folder: Path) -> Recipe:
    """Copy a region-of-interest mask into the recipe's folder, named by its content; the recipe that uses it.

    Raises:
        RecipeError: no usable mask.
    """
    read_roi(mask)
    sha256 = compute_sha256(mask)
    name = f"roi-{sha256[:12]}{mask.suffix}"
    if not (folder / name).exists():
        shutil.copyfile(mask, folder / name)
    return recipe.model_copy(update={"roi_mask": name, "roi_mask_sha256": sha256})


def warn_of_outliers(scores: Mapping[Path, float]) -> list[Path]:
    """Name the good frames that score far above the rest: each lifts the threshold, so a person should look at it.

    Far is five robust deviations (1.4826 times the median absolute deviation) above the median.
    """
    values = np.array(list(scores.values()))
    median = float(np.median(values))
    limit = median + 5 * 1.4826 * float(np.median(np.abs(values - median)))
    outliers = sorted((path for path, score in scores.items() if score > limit), key=lambda path: -scores[path])
    for path in outliers:
        logger.warning(
            "good frame %s scores %.4g, the median is %.4g: it lifts the threshold, so that defects may escape; "
            "look at it (inspector inspect --overlays), take it out, or mask what is not the part (--roi-mask)",
            path, scores[path], median,
        )  # fmt: skip
    return outliers


def score_frames(
    detector: Detector, paths: Sequence[Path], advance: Callable[[int, int], None] = lambda done, total: None
) -> dict[Path, float]:
    """Frame scores by path, by the code the daemon runs; frames that cannot be judged are named and left out."""
    scores = {}
    for number, path in enumerate(paths, start=1):
        try:
            image = preprocess(*read_image(path), detector.recipe.preprocessing)
            scores[path] = detector.decide(detector.compute_anomaly_map(image), math.inf).score
        except FrameError as error:
            logger.warning("left out: %s: %s", path, error)
        advance(number, len(paths))
    return scores


def calibrate(
    folder: Path,
    good_dir: Path,
    *,
    false_reject_rate: float = 0.01,
    defects_dir: Path | None = None,
    roi_mask: Path | None = None,
    device: str = "auto",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Recipe:
    """Set a recipe's threshold anew from `good_dir`, which training must not have seen.

    `defects_dir` only measures the escape rate; it never moves the threshold. `roi_mask` takes the place of the
    recipe's region of interest.

    Raises:
        RecipeError, TrainingError: the recipe or the frames cannot be used.
    """
    recipe = load_recipe(folder)
    if roi_mask is not None:
        recipe = adopt_roi(recipe, roi_mask, folder)
    detector = Detector.load(folder, device=choose_device(device), recipe=recipe)
    scores = score_frames(detector, list_images(good_dir), advance)
    threshold = compute_threshold(list(scores.values()), false_reject_rate)
    warn_of_outliers(scores)
    if defects_dir is not None:
        defects = list(score_frames(detector, list_images(defects_dir), advance).values())
        escaped = sum(score <= threshold.value for score in defects)
        rate = escaped / len(defects) if defects else None
        threshold = threshold.model_copy(update={"escape_rate": rate, "n_defective": len(defects)})
    recipe = recipe.model_copy(update={"threshold": threshold})
    temporary = folder / f".{RECIPE_FILE}.new"
    temporary.write_text(dump_recipe(recipe), encoding="utf-8")
    temporary.replace(folder / RECIPE_FILE)
    return recipe
