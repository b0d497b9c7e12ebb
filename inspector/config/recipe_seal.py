"""What a recipe's threshold was set with, kept beside it: an edit by hand does not change its meaning unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from inspector.config.fixture import FixtureReference
from inspector.config.preprocessing import Normalisation, Preprocessing, Tiling
from inspector.config.recipe import Recipe, Zone
from inspector.config.threshold import GoodScores, Threshold
from inspector.strict.base import Remark, Strict

SEALED: Mapping[type[Strict], frozenset[str]] = {
    Recipe: frozenset({
        "backbone", "layers", "bottleneck_width", "student", "anomaly_map_mode", "sigma", "map_normalisation",
        "preprocessing", "tiling", "threshold", "min_region_area", "precision", "calibrated_in", "probe_sha256",
        "quantised_sha256", "roi_mask_sha256", "zones", "fixture", "weights_sha256",
    }),
    Preprocessing: frozenset({
        "pixel_format", "frame_hw", "scale", "resize_hw", "short_side", "mono16_range", "normalisation",
    }),
    Normalisation: frozenset({"mean", "std"}),
    Tiling: frozenset({"tile_size", "stride"}),
    Threshold: frozenset({"value", "warn_above", "good_scores"}),
    GoodScores: frozenset({"median", "p95"}),
    FixtureReference: frozenset({"reference_sha256", "min_score", "max_angle_deg", "max_scale_change"}),
    Zone: frozenset({"name", "mask_sha256", "threshold"}),
}  # fmt: skip
"""The fields that decide what a score or a verdict means."""

FREE: Mapping[type[Strict], frozenset[str]] = {
    Recipe: frozenset({
        "schema_version", "recipe_id", "golden", "encoder_weights", "training", "metrics", "versions",
        "qualification",  # what was found
        "expected_frames",  # bounds that are there to be adjusted by hand
        "probe", "quantised", "roi_mask",  # names of files that are known by their sha256
    }),
    Preprocessing: frozenset(),
    Normalisation: frozenset(),
    Tiling: frozenset(),
    Threshold: frozenset({
        "method", "far_above_good", "set_with", "set_with_sha256",
        # what is said of it
        "n_good", "n_outliers", "cross_validated", "target_false_reject_rate", "false_reject_bound", "tail", "groups",
        "target_escape_rate", "escape_rate", "escape_interval", "defect_scores", "n_defective",
    }),
    GoodScores: frozenset(),
    FixtureReference: frozenset({"reference", "n_good", "n_not_located", "lowest_score"}),
    Zone: frozenset({"mask"}),
}  # fmt: skip
"""The others. A test sees that each field is in one of both: whoever adds one decides, and gives it a default."""

_NOTHING = "nothing"

_FAR = {"hand": 10, "unknown": 10_000}
"""How many times the good scores' spread a threshold may lie above them, by who set it.

A slip of the decimal point by hand is found. Where an earlier version may have set it, for a rate that asks for it or
for an outlier among the good frames, only a number without meaning is.
"""

Field = tuple[int | str, ...]


def seal(recipe: Recipe) -> Recipe:
    """The recipe whose threshold states what it was set with; one set by hand, or without a threshold, as it is."""
    threshold = recipe.threshold
    if threshold is None or threshold.method == "manual":
        return recipe
    as_read = Recipe.model_validate(recipe.model_dump(by_alias=True))  # a whole number in place of a float is none then
    settings = list_settings(as_read)
    update = {"set_with": settings, "set_with_sha256": _compute_digest(settings)}
    return recipe.model_copy(update={"threshold": threshold.model_copy(update=update)})


def list_settings(recipe: Recipe) -> dict[str, Any]:
    """Sealed fields that are not at their default, by dotted path: JSON values.

    Without the defaults, so that the settings of a recipe stay the same when a later version adds a field.
    """
    return {field: value for field, value, default in _list_settings(recipe) if value != default}


def _list_settings(recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    yield from _list_sealed(recipe, "")
    # Its bounds may be edited; that there are some may not.
    yield "expected_frames", _NOTHING if recipe.expected_frames is None else "there", _NOTHING


def _list_sealed(model: Strict, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Each sealed field's dotted path, value and default."""
    for name in sorted(SEALED[type(model)]):
        value, field = getattr(model, name), f"{path}{name}"
        if isinstance(value, Strict):
            yield from _list_sealed(value, f"{field}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Strict):
            for number, each in enumerate(value):
                yield from _list_sealed(each, f"{field}.{number}.")
        else:
            info = type(model).model_fields[name]
            default = _NOTHING if info.is_required() else info.get_default(call_default_factory=True)
            yield field, to_jsonable_python(value), to_jsonable_python(default)


def _compute_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: Python writes a float with the fewest digits that give it back, here and in YAML."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def list_faults(recipe: Recipe) -> list[Remark]:
    """Why a recipe must not judge: it is not what its threshold was set with, or a threshold is beyond all sense."""
    return [*list_changes(recipe), *(remark for threshold, remark in _list_far(recipe) if not threshold.far_above_good)]


def list_changes(recipe: Recipe) -> list[Remark]:
    """Fields that were edited after the threshold was set; none where a person answers for it."""
    threshold = recipe.threshold
    if threshold is None or threshold.set_by != "calibration" or threshold.set_with is None:
        return []
    changes = _compare(threshold.set_with, recipe)
    if (digest := _compute_digest(threshold.set_with)) != threshold.set_with_sha256:
        rule = f"must be as it was written, with sha256 {threshold.set_with_sha256}, got {digest}"
        changes.append(Remark(("threshold", "set_with"), rule))
    if changes:
        problem = "the recipe was edited after it was set"
        advice = "undo the edit, run inspector calibrate, or set method: manual and take responsibility for it"
        changes.append(Remark(("threshold",), problem, advice))
    return changes


def _compare(settings: Mapping[str, Any], recipe: Recipe) -> list[Remark]:
    sealed = {field: (default, value) for field, value, default in _list_settings(recipe)}
    differences = []
    for field in sorted({*settings, *sealed}):
        default, now = sealed.get(field, (_NOTHING, _NOTHING))
        then = settings.get(field, default)
        if then != now:
            place = tuple(int(step) if step.isdigit() else step for step in field.split("."))
            differences.append(Remark(place, f"must be {then}, as when the threshold was set, got {now}"))
    return differences


def list_doubts(recipe: Recipe) -> list[Remark]:
    """What lets a recipe judge without proof that a defective part fails."""
    threshold = recipe.threshold
    if threshold is None:
        return []
    doubts = [remark for far, remark in _list_far(recipe) if far.far_above_good]
    if threshold.set_by == "unknown":
        problem = "it does not record the settings it was set with: a manual edit would not be noticed"
        doubts.append(Remark(("threshold",), problem, "run inspector calibrate"))
    if threshold.set_by == "hand":
        doubts += _list_doubts_by_hand(recipe, threshold)
    if recipe.expected_frames is None:
        problem = "none: a frame that shows no part or a wrong part can PASS"
        doubts.append(Remark(("expected_frames",), problem, "run inspector calibrate"))
    elif off := [name for name in recipe.expected_frames.off if name != "layout" or recipe.fixture is None]:
        problem = f"{', '.join(off)}: disabled, so a frame that they would refuse can PASS"
        doubts.append(Remark(("expected_frames", "off"), problem, "empty the list"))
    if recipe.expected_frames is not None and (widened := recipe.expected_frames.list_widened()):
        problem = f"edited, and wider than the good frames justify: {', '.join(widened)}"
        doubts.append(Remark(("expected_frames", "bounds"), problem, "run inspector calibrate to measure them again"))
    if recipe.qualification is not None and not recipe.qualification.catches_any:
        problem = "no artificial defect of any tested size is caught 90 % of the time: it may miss most defects"
        doubts.append(Remark(("qualification",), problem, "train longer, or on more good frames"))
    if not any(golden.verdict == "FAIL" for golden in recipe.golden):
        problem = "no frame with the verdict FAIL: nothing proves at the start that a defective part is rejected"
        doubts.append(Remark(("golden",), problem, "run inspector golden RECIPE --bad FILE"))
    return doubts


def _list_doubts_by_hand(recipe: Recipe, threshold: Threshold) -> Iterator[Remark]:
    if threshold.set_with is not None:
        edited = ", ".join(remark.name for remark in _compare(threshold.set_with, recipe)) or "nothing"
        problem = f"it was set manually; edited since calibration: {edited}"
        yield Remark(("threshold", "method"), problem, "run inspector calibrate to get one with a bound")
    if threshold.good_scores is None:
        problem = "it was set manually, and the scores of good frames are not known: it may be far too high"
        yield Remark(("threshold",), problem, "run inspector calibrate")


def _list_far(recipe: Recipe) -> Iterator[tuple[Threshold, Remark]]:
    """Thresholds that no calibration answers for and that lie far above what good frames scored."""
    whole = recipe.threshold
    if whole is None or whole.set_by == "calibration":
        return
    thresholds: list[tuple[Field, Threshold | None]] = [(("threshold",), whole)]
    thresholds += [(("zones", number, "threshold"), zone.threshold) for number, zone in enumerate(recipe.zones)]
    for field, threshold in thresholds:
        if threshold is None:
            continue
        # A zone without good scores of its own, of before it had any, is compared with the frame's: less exactly.
        good, factor = threshold.good_scores or whole.good_scores, _FAR[whole.set_by]
        factor = factor if threshold.good_scores else _FAR["unknown"]
        if good is not None and threshold.value > (limit := _compute_limit(good, factor)):
            yield (
                threshold,
                Remark(
                    (*field, "value"),
                    f"must be at most {limit:.6g} since good frames score {good.median:.6g} (median) to {good.p95:.6g} "
                    f"(95 %), got {threshold.value:.6g}",
                    "if defects score even higher, add far_above_good: true next to it",
                ),
            )


def _compute_limit(good: GoodScores, factor: float) -> float:
    """So many times the distance of the 95 % quantile from the median, or a tenth of it if larger, above it."""
    spread = max(good.p95 - good.median, abs(good.p95) / 10)
    return good.p95 + factor * spread if spread else float("inf")
