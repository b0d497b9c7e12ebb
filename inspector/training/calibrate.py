"""The threshold, from good frames that training never saw."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from inspector.config import (
    RECIPE_FILE,
    GroupCheck,
    PrecisionChoice,
    Recipe,
    Threshold,
    Zone,
    dump_recipe,
    list_changes,
    load_edited_recipe,
    seal,
)
from inspector.decision import Map
from inspector.detector import Detector
from inspector.device import choose_device
from inspector.errors import FrameError, RecipeError, TrainingError
from inspector.files import write_whole
from inspector.golden import prove_golden, verify_golden
from inspector.looks import load_expectation
from inspector.masks import load_roi, load_zones, read_roi
from inspector.model.checkpoint import compute_sha256
from inspector.preprocessing import preprocess
from inspector.recipe_network import load_model
from inspector.training.datasets import list_images, logger, read_image
from inspector.training.expectations import adopt_expectation, measure_looks
from inspector.training.good_frames import choose_frames, name_groups
from inspector.training.proving import ProbeCollector, adopt_probe, adopt_quantised, drop_unused, score_proved
from inspector.training.thresholds import (
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

AREAS = (1, 4, 16, 64)
"""Minimum region areas that `auto` tries; each costs a search per frame, and a share of the bound's confidence."""

Advance = Callable[[int, int], None]
Fit = Callable[[Scores], Mapping[str, Threshold]]
_T = TypeVar("_T")


def adopt_roi(recipe: Recipe, mask: Path, folder: Path) -> Recipe:
    """Copy a region-of-interest mask into the recipe's folder, named by its content; the recipe that uses it.

    Raises:
        RecipeError: no usable mask.
        InspectorError: it cannot be written.
    """
    read_roi(mask)
    name, sha256 = _adopt(mask, folder, "roi")
    return recipe.model_copy(update={"roi_mask": name, "roi_mask_sha256": sha256})


def adopt_zone(recipe: Recipe, zone: str, mask: Path, folder: Path) -> Recipe:
    """Copy a zone's mask into the recipe's folder, named by its content; the recipe with that zone added or replaced.

    Raises:
        RecipeError: no usable mask.
        InspectorError: it cannot be written, or the zone's name breaks its rule.
    """
    read_roi(mask, f"zone {zone}")
    name, sha256 = _adopt(mask, folder, "zone")
    try:
        zones = {each.name: each for each in recipe.zones} | {zone: Zone(name=zone, mask=name, mask_sha256=sha256)}
    except ValueError as error:
        raise TrainingError(f"--zone: {error}") from error
    return recipe.model_copy(update={"zones": tuple(zones.values())})


def _adopt(mask: Path, folder: Path, kind: str) -> tuple[str, str]:
    sha256 = compute_sha256(mask)
    name = f"{kind}-{sha256[:12]}{mask.suffix}"
    if not (folder / name).exists():
        write_whole(folder / name, mask.read_bytes())
    return name, sha256


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
    detector: Detector,
    paths: Sequence[Path],
    advance: Advance = lambda done, total: None,
    collector: ProbeCollector | None = None,
) -> dict[Path, float]:
    """Frame scores by path, by the code the daemon runs; frames that cannot be judged are named and left out."""

    def score(anomaly_map: Map) -> float:
        return detector.decide(anomaly_map, math.inf).score

    return _read_maps(detector, paths, score, advance, collector)


def score_parts(
    detector: Detector,
    paths: Sequence[Path],
    areas: Sequence[int],
    advance: Advance = lambda done, total: None,
    collector: ProbeCollector | None = None,
) -> tuple[list[Path], dict[int, Scores]]:
    """Scores at each minimum region area, of each part of the frame: the frames that could be judged, and theirs."""

    def score(anomaly_map: Map) -> list[list[float]]:
        return [[part.score for part in detector.decide_parts(anomaly_map, math.inf, area)] for area in areas]

    found = _read_maps(detector, paths, score, advance, collector)
    names = [REST, *(zone.name for zone in detector.recipe.zones)]
    table = np.array(list(found.values()), dtype=np.float64).reshape(len(found), len(areas), len(names))
    return list(found), {
        area: {name: table[:, row, column] for column, name in enumerate(names)} for row, area in enumerate(areas)
    }


def _read_maps(
    detector: Detector,
    paths: Sequence[Path],
    use: Callable[[Map], _T],
    advance: Advance,
    collector: ProbeCollector | None = None,
) -> dict[Path, _T]:
    used = {}
    for number, path in enumerate(paths, start=1):
        try:
            image = preprocess(*read_image(path), detector.recipe.preprocessing)
            anomaly_map = detector.compute_anomaly_map(image)
            used[path] = use(anomaly_map)
            if collector is not None:
                collector.offer(detector, image, anomaly_map)
        except FrameError as error:
            logger.warning("left out: %s: %s", path, str(error).removeprefix(f"{path}: "))
        advance(number, len(paths))
    if len(used) < len(paths):
        logger.warning("%d of %d frames left out, they cannot be judged", len(paths) - len(used), len(paths))
    return used


def calibrate(
    folder: Path,
    good_dir: Path,
    *,
    false_reject_rate: float = 0.01,
    warn_rate: float | None = None,
    groups: str | None = None,
    min_region_area: int | Literal["auto"] | None = None,
    zones: Mapping[str, Path] | None = None,
    defects_dir: Path | None = None,
    set_from_defects: bool = False,
    escape_rate: float = 0.0,
    roi_mask: Path | None = None,
    precision: PrecisionChoice | None = None,
    device: str = "auto",
    advance: Advance = lambda done, total: None,
) -> Recipe:
    """Set a recipe's thresholds anew from `good_dir`; frames that training saw are left out.

    Args:
        folder: the recipe.
        good_dir: good frames.
        false_reject_rate: the target, for whole frames.
        warn_rate: share of good frames that may score in the warn band or above; 5 times the target by default.
        groups: how frames are grouped, as for `name_groups`; each group is then left out in turn.
        min_region_area: in pixels of the map; `auto` chooses one of `AREAS`; None: the recipe's.
        zones: masks by name, added to the recipe's zones or in their place.
        defects_dir: defective frames; they measure the escape rate and do not move the threshold.
        set_from_defects: they do: the highest threshold that lets at most `escape_rate` of them pass.
        escape_rate: see there.
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
        raise TrainingError("--set-from-defects: must come with --defects, and for a recipe without zones")
    paths = choose_frames(folder, list_images(good_dir))
    group_of = name_groups(good_dir, paths, groups) if groups else {}
    if roi_mask is not None:
        recipe = adopt_roi(recipe, roi_mask, folder)
    for zone, mask in (zones or {}).items():
        recipe = adopt_zone(recipe, zone, mask, folder)
    if precision is not None:
        recipe = recipe.model_copy(update={"precision": precision, "quantised": None, "quantised_sha256": {}})
    model = load_model(folder, recipe)
    if recipe.precision == "int8" and recipe.quantised is None:
        recipe = adopt_quantised(recipe, model, list_images(good_dir), folder)  # those training saw may serve here
    areas = AREAS if min_region_area == "auto" else (min_region_area or recipe.min_region_area,)
    confidence = 1 - (1 - CONFIDENCE) / len(areas)  # the bound holds for all areas tried, so for the one chosen
    fit: Fit = functools.partial(compute_thresholds, false_reject_rate=false_reject_rate, confidence=confidence)

    def load(candidate: Recipe) -> Detector:
        unset = candidate.model_copy(update={"threshold": None})  # the thresholds of before must not weigh maps
        return Detector.load(folder, device=choose_device(device), recipe=unset, proved=False)

    recipe, detector, (paths, good), probe = score_proved(
        recipe, model, load, lambda judge, collector: score_parts(judge, paths, areas, advance, collector)
    )
    recipe = adopt_probe(recipe, probe, folder)
    area = choose_area(_fit_areas(good, fit), recipe.sigma)
    defects = _score_defects(detector, defects_dir, area, advance) if defects_dir else None
    if set_from_defects and defects is not None:
        found = compute_threshold_from_defects(good[area][REST], defects[REST], escape_rate, confidence)
        fit = lambda scores: {REST: found}  # noqa: E731 (the same whichever good frames are left out)
    thresholds = dict(fit(good[area]))
    threshold = build_frame_threshold(good[area], thresholds, false_reject_rate, warn_rate)
    warn_of_outliers(dict(zip(paths, compute_frame_scores(good[area], thresholds).tolist(), strict=True)))
    update: dict[str, object] = {}
    if defects is not None:
        update |= _measure_escapes(compute_frame_scores(defects, thresholds), threshold.value)
    if groups:
        update["groups"] = _check_groups(good[area], [group_of[path] for path in paths], fit)
    recipe = _set_thresholds(recipe, thresholds | {REST: threshold.model_copy(update=update)}, area)
    recipe = adopt_expectation(recipe, measure_looks(list_images(good_dir), recipe.preprocessing), folder)
    recipe = seal(recipe)
    _check_golden(recipe, detector, folder)
    write_whole(folder / RECIPE_FILE, dump_recipe(recipe).encode())
    drop_unused(folder, recipe)
    return recipe


def _fit_areas(good: Mapping[int, Scores], fit: Fit) -> dict[int, Mapping[str, Threshold]]:
    fitted: dict[int, Mapping[str, Threshold]] = {}
    for area, scores in good.items():
        try:
            fitted[area] = fit(scores)
        except TrainingError:
            if not fitted:
                raise
            logger.info("minimum region area %d: some part of the frame shows none that large", area)
    return fitted


def _score_defects(detector: Detector, folder: Path, area: int, advance: Advance) -> Scores:
    paths, scores = score_parts(detector, list_images(folder), [area], advance)
    if not paths:
        raise TrainingError(f"--defects: must hold at least one frame that can be judged, got {folder}")
    return scores[area]


def _measure_escapes(scores: Array, threshold: float) -> dict[str, object]:
    escaped, n = int((scores <= threshold).sum()), len(scores)
    return {"escape_rate": escaped / n, "escape_interval": compute_interval(escaped, n), "n_defective": n}


def _check_groups(scores: Scores, groups: Sequence[str], fit: Fit) -> GroupCheck | None:
    if len(set(groups)) < 3:
        logger.warning("--groups: at least 3 are needed to leave one out, got %s", sorted(set(groups)))
        return None
    check, faults = check_groups(scores, groups, fit)
    for fault in faults:
        logger.warning("%s: its frames differ from the others': the bound does not hold for a new group", fault)
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
        prove_golden(Detector(recipe, detector.engine, roi=roi, zones=zones, expectation=expectation), folder)
    except RecipeError as error:
        raise TrainingError(
            f"{error}\nThe new threshold is not kept, recipe.yaml is as it was: the daemon would refuse the recipe. "
            "Look at the good frames; where the golden frames no longer hold true, take them out with "
            f"`inspector golden {folder} --clear` and calibrate again"
        ) from error
