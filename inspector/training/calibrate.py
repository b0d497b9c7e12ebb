"""The threshold, from good frames that training never saw."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from inspector.config import (
    RECIPE_FILE,
    DefectScores,
    GroupCheck,
    Policy,
    PrecisionChoice,
    Recipe,
    Threshold,
    dump_recipe,
    list_changes,
    load_edited_recipe,
    seal,
)
from inspector.detection.detector import Detector
from inspector.device import choose_device
from inspector.errors import RecipeError, TrainingError
from inspector.files import write_whole
from inspector.recipe.golden import prove_golden, verify_golden
from inspector.recipe.masks import load_roi, load_zones
from inspector.recipe.opening import open_detector
from inspector.recipe.references import load_expectation
from inspector.training.adopting import adopt_roi, adopt_zone
from inspector.training.data.datasets import list_images, logger
from inspector.training.data.good_frames import name_groups
from inspector.training.expectations import adopt_expectation, measure_looks
from inspector.training.judging import Judged, judge_good_frames
from inspector.training.optimise.cross_validation import apply_folds
from inspector.training.thresholds.policy import (
    CONFIDENCE,
    REST,
    Array,
    Scores,
    build_frame_threshold,
    check_groups,
    choose_area,
    compute_frame_scores,
    compute_interval,
    compute_threshold_from_defects,
    compute_thresholds,
)
from inspector.training.thresholds.proving import drop_unused
from inspector.training.thresholds.qualification import PER_KIND, Response, qualify
from inspector.training.thresholds.score_record import ScoreRecord, load_scores, write_scores
from inspector.training.thresholds.scoring import Advance, score_parts
from inspector.training.thresholds.suspects import leave_out, tell_outliers

AREAS = (1, 4, 16, 64)
"""Minimum region areas that `auto` tries; each costs a search per frame, and a share of the bound's confidence."""

Fit = Callable[..., Mapping[str, Threshold]]
"""Scores by part, and peaks where known → thresholds by part."""


def calibrate(
    folder: Path,
    good_dir: Path | None = None,
    *,
    false_reject_rate: float = 0.01,
    policy: Policy = "near",
    trim: bool = False,
    keep_outliers: bool = False,
    warn_rate: float | None = None,
    groups: str | None = None,
    min_region_area: int | Literal["auto"] | None = None,
    zones: Mapping[str, Path] | None = None,
    defects_dir: Path | None = None,
    set_from_defects: bool = False,
    escape_rate: float = 0.0,
    qualification: int = PER_KIND,
    roi_mask: Path | None = None,
    precision: PrecisionChoice | None = None,
    device: str = "auto",
    advance: Advance = lambda done, total: None,
) -> Recipe:
    """Set a recipe's thresholds anew from `good_dir`, each frame scored by a network that never saw it.

    Without `good_dir` the target, policy, outliers and defects can be others, and nothing else.

    Args:
        folder: the recipe.
        good_dir: good frames; None: the scores that the last training or calibration left in the folder.
        false_reject_rate: the target, for whole frames.
        policy: where frames are too few for it, see `compute_threshold`.
        trim: leave good frames out that stand out.
        keep_outliers: take those for good as the others are.
        warn_rate: share of good frames that may score in the warn band or above; 5 times the target by default.
        groups: how frames are grouped, as for `name_groups`; each group is then left out in turn.
        min_region_area: in pixels of the map; `auto` chooses one of `AREAS`; None: the recipe's.
        zones: masks by name, added to the recipe's zones or in their place.
        defects_dir: defective frames; they measure the escape rate and do not move the threshold.
        set_from_defects: they do: the highest threshold that lets at most `escape_rate` of them pass.
        escape_rate: see there.
        qualification: artificial defects of each kind that the recipe is tried on; 0: none.
        roi_mask: takes the place of the recipe's region of interest.
        precision: takes the place of the recipe's; for int8 the network is quantised anew on these frames.
        device: as for `choose_device`.
        advance: told frames done and frames in all.

    Raises:
        RecipeError, TrainingError: the recipe or the frames cannot be used, or a golden frame would no longer get
            its verdict; its recipe.yaml is as it was.
    """
    recipe = load_edited_recipe(folder)
    for change in list_changes(recipe):
        logger.warning("%s: %s", folder / RECIPE_FILE, change)
    verify_golden(recipe, folder)  # told before an hour of judging
    if set_from_defects and (defects_dir is None or zones or recipe.zones):
        raise TrainingError("--set-from-defects: must be given together with --defects, and for a recipe without zones")
    areas = AREAS if min_region_area == "auto" else (min_region_area or recipe.min_region_area,)
    confidence = 1 - (1 - CONFIDENCE) / len(areas)  # the bound holds for all areas tried, so for the one chosen
    if good_dir is None:
        given = {"--groups": groups, "--min-region-area": min_region_area, "--zone": zones, "--roi-mask": roi_mask,
                 "--precision": precision}  # fmt: skip
        judged = _recall(folder, recipe, device, [name for name, value in given.items() if value])
    else:
        recipe = _adopt(recipe, folder, roi_mask, zones or {}, precision)
        judged = judge_good_frames(folder, recipe, good_dir, areas, device, advance)
    if trim:
        judged.records = {area: leave_out(record) for area, record in judged.records.items()}
    fit: Fit = functools.partial(
        compute_thresholds,
        false_reject_rate=false_reject_rate,
        policy=policy,
        confidence=confidence,
        outliers=not keep_outliers,
    )
    area = choose_area(_fit_areas(judged.records, fit), recipe.sigma)
    record = judged.records[area]
    good = record.to_scores()
    defects = _score_defects(judged.detector, defects_dir, area, advance) if defects_dir else None
    if set_from_defects and defects is not None:
        found = compute_threshold_from_defects(good[REST], defects[REST], escape_rate, confidence)
        fit = lambda scores, peaks=None: {REST: found}  # noqa: E731 (the same whichever good frames are left out)
    thresholds = dict(fit(good, peaks=record.to_peaks()))
    threshold = build_frame_threshold(good, thresholds, false_reject_rate, warn_rate)
    threshold = apply_folds(record, thresholds | {REST: threshold})
    record.cross_validated = threshold.cross_validated
    update: dict[str, object] = {}
    if defects is not None:
        update |= _measure_escapes(compute_frame_scores(defects, thresholds), threshold.value)
    if groups and good_dir is not None:
        named = name_groups(good_dir, [good_dir / frame.path for frame in record.frames], groups)
        update["groups"] = _check_groups(good, list(named.values()), fit)
    threshold = threshold.model_copy(update=update)
    tell_outliers(record, threshold)
    recipe = _set_thresholds(judged.recipe, thresholds | {REST: threshold}, area)
    record.responses, record.n_qualified = _qualify(recipe, judged, folder, good_dir is not None, qualification)
    if good_dir is not None:
        left_out = {good_dir / frame.path for frame in record.trimmed}
        paths = [path for path in list_images(good_dir) if path not in left_out]
        recipe = adopt_expectation(recipe, measure_looks(paths, recipe.preprocessing, judged.detector.fixture), folder)
    recipe = seal(recipe.model_copy(update={"qualification": record.qualify(threshold.value)}))
    _check_golden(recipe, judged.detector, folder)
    write_scores(record, folder)
    write_whole(folder / RECIPE_FILE, dump_recipe(recipe).encode())
    drop_unused(folder, recipe)
    return recipe


def _adopt(
    recipe: Recipe, folder: Path, roi_mask: Path | None, zones: Mapping[str, Path], precision: PrecisionChoice | None
) -> Recipe:
    """The recipe with what takes the place of its own."""
    if roi_mask is not None:
        if recipe.fixture is not None:
            raise TrainingError(
                "--roi-mask: must not be given for a recipe with a fixture, which is fitted to its mask"
            )
        recipe = adopt_roi(recipe, roi_mask, folder)
    for zone, mask in zones.items():
        recipe = adopt_zone(recipe, zone, mask, folder)
    if precision is not None:
        recipe = recipe.model_copy(update={"precision": precision, "quantised": None, "quantised_sha256": {}})
    return recipe


def _recall(folder: Path, recipe: Recipe, device: str, given: Sequence[str]) -> Judged:
    """Take the scores that were found before.

    Raises:
        TrainingError: there are none, or frames would have to be judged again.
    """
    if given:
        raise TrainingError(f"GOOD_DIR: must be given with {', '.join(given)}, which needs frames to be judged again")
    record = load_scores(folder)
    threshold = recipe.threshold
    if threshold is None or threshold.set_by != "calibration" or list_changes(recipe):
        raise TrainingError("GOOD_DIR: must be given, since the recipe was edited and frames must be judged again")
    unset = recipe.model_copy(update={"threshold": None})
    detector = open_detector(folder, device=choose_device(device), recipe=unset, proved=False)
    return Judged(recipe, detector, {record.min_region_area: record})


def _fit_areas(records: Mapping[int, ScoreRecord], fit: Fit) -> dict[int, Mapping[str, Threshold]]:
    fitted: dict[int, Mapping[str, Threshold]] = {}
    for area, record in records.items():
        try:
            fitted[area] = fit(record.to_scores(), peaks=record.to_peaks())
        except TrainingError:
            if not fitted:
                raise
            logger.info("minimum region area %d: too large for some part of the frame", area)
    return fitted


def _score_defects(detector: Detector, folder: Path, area: int, advance: Advance) -> Scores:
    paths, scores = score_parts(detector, list_images(folder), [area], advance)
    if not paths:
        raise TrainingError(f"--defects: must contain at least one frame that can be judged, got {folder}")
    return scores[area]


def _measure_escapes(scores: Array, threshold: float) -> dict[str, object]:
    escaped, n = int((scores <= threshold).sum()), len(scores)
    return {
        "escape_rate": escaped / n,
        "escape_interval": compute_interval(escaped, n),
        "n_defective": n,
        "defect_scores": DefectScores(lowest=float(scores.min()), median=float(np.median(scores))),
    }


def _qualify(recipe: Recipe, judged: Judged, folder: Path, anew: bool, per_kind: int) -> tuple[list[Response], int]:
    """Responses to artificial defects, and frames; if not `anew` those of before, unless zones weighed them."""
    record = judged.records[recipe.min_region_area]
    if not anew:
        return ([], 0) if recipe.zones else (record.responses, record.n_qualified)
    if not per_kind or not judged.new:
        return [], 0
    roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
    detector = Detector(recipe, judged.detector.engine, roi=roi, zones=zones, fixture=judged.detector.fixture)
    return qualify(detector, judged.new, np.random.default_rng(0), per_kind)


def _check_groups(scores: Scores, groups: Sequence[str], fit: Fit) -> GroupCheck | None:
    if len(set(groups)) < 3:
        logger.warning("--groups: at least 3 groups are needed to leave one out, got %s", sorted(set(groups)))
        return None
    check, faults = check_groups(scores, groups, fit)
    for fault in faults:
        logger.warning(
            "%s: its frames differ from those of the other groups, so the bound does not hold for a new group", fault
        )
    return check


def _set_thresholds(recipe: Recipe, thresholds: Mapping[str, Threshold], area: int) -> Recipe:
    zones = tuple(
        # The warn band is the frame's: scores are weighed before they are compared with it.
        zone.model_copy(update={"threshold": thresholds[zone.name].model_copy(update={"warn_above": None})})
        for zone in recipe.zones
    )
    return recipe.model_copy(update={"threshold": thresholds[REST], "zones": zones, "min_region_area": area})


def _check_golden(recipe: Recipe, detector: Detector, folder: Path) -> None:
    """A recipe that the daemon would refuse must not take the place of one that it runs with."""
    roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
    try:
        expectation = load_expectation(recipe, folder)
        judge = Detector(
            recipe, detector.engine, roi=roi, zones=zones, expectation=expectation, fixture=detector.fixture
        )
        prove_golden(judge, folder)
    except RecipeError as error:
        raise TrainingError(
            f"{error}\nThe new threshold was not saved and recipe.yaml is unchanged, since the daemon would "
            "refuse the recipe. "
            "Check the good frames; if the golden frames are no longer right, remove them with "
            f"`inspector golden {folder} --clear` and calibrate again"
        ) from error
