"""A recipe that was edited after its threshold was set is refused, unless a person answers for it in words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from inspector.config import (
    EXPECTATIONS,
    Recipe,
    Threshold,
    dump_recipe,
    list_changes,
    list_doubts,
    load_edited_recipe,
    load_recipe,
    seal,
)
from inspector.config.recipe_seal import FREE, SEALED, list_faults, list_settings
from inspector.errors import RecipeError, TrainingError
from inspector.training.thresholds.policy import compute_threshold

SHA = "ab" * 32
OTHER_SHA = "cd" * 32
THRESHOLD = {
    "value": 30.357438504336088,
    "method": "gumbel",
    "warn_above": 23.02403450012207,
    "n_good": 6,
    "good_scores": {"median": 13.22105360031128, "p95": 21.413418292999268},
}
EXPECTED = {
    "bounds": {name: {"high": 1.0} for name in EXPECTATIONS}, "references": "r", "references_sha256": SHA, "n_good": 9,
    "n_outside": 0, "false_error_bound": 0.3,
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "recipe_id": "lens",
    "backbone": "resnet18",
    "sigma": 2.5,
    "map_normalisation": "position",
    "preprocessing": {"frame_hw": [480, 640], "scale": 0.25, "mono16_range": [10, 4095]},
    "tiling": {"tile_size": 128, "stride": 96},
    "threshold": THRESHOLD,
    "min_region_area": 4,
    "precision": "int8",
    "calibrated_in": "int8",
    "probe": "probe.safetensors",
    "probe_sha256": SHA,
    "quantised": "int8-1",
    "quantised_sha256": {"maps.xml": SHA},
    "roi_mask": "roi.png",
    "roi_mask_sha256": SHA,
    "zones": [{
        "name": "seam", "mask": "seam.png", "mask_sha256": SHA,
        "threshold": {"value": 40.5, "method": "gumbel", "good_scores": {"median": 20.0, "p95": 30.0}},
    }],
    "fixture": {"min_score": 0.8, "max_angle_deg": 10.0, "reference": "fixture.png", "reference_sha256": SHA,
                "n_good": 9, "lowest_score": 0.9},
    "expected_frames": EXPECTED,
    "weights_sha256": SHA,
}  # fmt: skip
"""With something else than the default in most fields."""


def recipe_of(**changes: Any) -> Recipe:
    return Recipe.model_validate({"recipe_id": "lens", "backbone": "resnet18", "weights_sha256": SHA} | changes)


def threshold_of(value: float, method: str = "manual", **more: Any) -> dict[str, Any]:
    return {"value": value, "method": method} | more


@pytest.fixture
def edit(tmp_path: Path) -> Callable[..., Path]:
    """Write the whole recipe, sealed, with texts of its recipe.yaml replaced; its folder."""

    def edit(*replaced: tuple[str, str]) -> Path:
        text = dump_recipe(seal(Recipe.model_validate(WHOLE)))
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return edit


def refusal_of(folder: Path) -> str:
    with pytest.raises(RecipeError) as refused:
        load_recipe(folder)
    return str(refused.value)


# ---------------------------------------------------------------- which fields


def find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from find_models(part)


def test_each_field_of_a_recipe_is_decided_on_as_sealed_or_free() -> None:
    waiting: list[type[BaseModel]] = [Recipe]
    while waiting:
        model = waiting.pop()
        sealed, free = SEALED[model], FREE[model]
        assert not sealed & free
        undecided = set(model.model_fields) - sealed - free
        assert not undecided, f"{model.__name__}: decide on {undecided} in recipe_seal.py"
        waiting += [found for name in sealed for found in find_models(model.model_fields[name].annotation)]


sizes = st.lists(st.integers(1, 65_536), min_size=2, max_size=2)
positive = st.floats(min_value=1e-300, max_value=1e300)
sums = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
words = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,20}\Z")
three = st.lists(st.floats(-10, 10), min_size=3, max_size=3)
scores = {"median": positive, "p95": positive}

SEALED_EDITS: dict[str, st.SearchStrategy[Any]] = {
    "backbone": words,
    "layers": st.lists(st.sampled_from(["layer1", "layer2", "layer3"]), max_size=3),
    "bottleneck_width": st.sampled_from(["official", "anomalib"]),
    "student": st.sampled_from(["full", "light"]),
    "anomaly_map_mode": st.sampled_from(["add", "multiply"]),
    "sigma": st.floats(0, 1e6),
    "map_normalisation": st.sampled_from(["none", "position"]),
    "preprocessing.pixel_format": st.sampled_from(["RGB8", "BGR8", "Mono8", "Mono16"]),
    "preprocessing.frame_hw": st.none() | sizes,
    "preprocessing.scale": st.floats(0.001, 1),
    "preprocessing.resize_hw": st.none() | sizes,
    "preprocessing.short_side": st.none() | st.integers(32, 4096),
    "preprocessing.mono16_range": st.tuples(st.integers(0, 100), st.integers(101, 65_535)).map(list),
    "preprocessing.normalisation.mean": three,
    "preprocessing.normalisation.std": three,
    "tiling.tile_size": st.integers(1, 128).map(lambda number: number * 32),
    "tiling.stride": st.integers(1, 128),
    "threshold.value": positive,
    "threshold.warn_above": st.none() | positive,
    **{f"threshold.good_scores.{name}": values for name, values in scores.items()},
    "min_region_area": st.integers(1, 2**40),
    "precision": st.sampled_from(["auto", "fp32", "bf16", "fp16", "int8"]),
    "calibrated_in": st.sampled_from([None, "fp32", "bf16", "fp16", "int8"]),
    "probe_sha256": sums,
    "quantised_sha256": st.dictionaries(words, sums),
    "roi_mask_sha256": sums,
    "zones.0.name": words,
    "zones.0.mask_sha256": sums,
    "zones.0.threshold.value": positive,
    "zones.0.threshold.warn_above": st.none() | st.floats(1e-300, 40),
    **{f"zones.0.threshold.good_scores.{name}": values for name, values in scores.items()},
    "fixture.min_score": st.floats(0.01, 0.99),
    "fixture.max_angle_deg": st.floats(1, 180),
    "fixture.max_scale_change": st.floats(0, 0.49),
    "fixture.reference_sha256": sums,
    "weights_sha256": sums,
}
shares = st.floats(0, 1)
counts = st.integers(0, 10**6)
FREE_EDITS: dict[str, st.SearchStrategy[Any]] = {
    "recipe_id": words,
    "probe": words,
    "quantised": words,
    "roi_mask": words,
    "zones.0.mask": words,
    "golden": st.lists(words, max_size=2, unique=True).map(
        lambda names: [{"file": f"golden/{name}", "sha256": SHA, "verdict": "FAIL"} for name in names]
    ),
    "fixture.reference": words,
    "fixture.n_good": st.integers(1, 10**6),
    "fixture.n_not_located": counts,
    "fixture.lowest_score": shares,
    "encoder_weights": st.text(),
    "expected_frames": st.lists(st.sampled_from([*EXPECTATIONS, "sizes_hw", "repeated"]), unique=True).map(
        lambda names: EXPECTED | {"off": names}
    ),
    "qualification": st.none(),
    "training": st.dictionaries(words, counts),
    "metrics": st.dictionaries(words, shares),
    "versions": st.dictionaries(words, words),
    **{
        f"{threshold}.{name}": values
        for threshold in ("threshold", "zones.0.threshold")
        for name, values in {
            "n_good": counts,
            "n_defective": counts,
            "n_outliers": counts,
            "cross_validated": st.none(),
            "defect_scores": st.none(),
            "false_reject_bound": shares,
            "escape_rate": shares,
            "target_escape_rate": shares,
            "target_false_reject_rate": st.floats(0.001, 0.999),
            "escape_interval": st.tuples(shares, shares).map(list),
            "far_above_good": st.booleans(),
            "tail": st.none(),
            "groups": st.none(),
        }.items()
    },
    "threshold.method": st.sampled_from(["order_statistic", "generalised_pareto", "gumbel", "defects"]),
    "zones.0.threshold.method": st.sampled_from(["order_statistic", "gumbel", "manual"]),
}
BESIDE = {"schema", *(f"{name}.{seal}" for name in ("threshold", "zones.0.threshold")
                      for seal in ("set_with", "set_with_sha256"))}  # fmt: skip


WRITTEN = yaml.safe_load(dump_recipe(seal(Recipe.model_validate(WHOLE))))


def list_leaves(data: Any, path: str = "") -> Iterator[str]:
    keys = {"threshold", "preprocessing", "tiling", "zones", "0", "good_scores", "normalisation", "fixture"}
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if str(key) in keys and value:
            yield from list_leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def change(data: Any, path: str, value: Any) -> Any:
    changed = copy.deepcopy(data)
    *above, last = path.split(".")
    inside = changed
    for step in above:
        inside = inside[int(step) if step.isdigit() else step]
    inside[last] = value
    return changed


def parse(text: str) -> Recipe:
    return Recipe.model_validate(yaml.safe_load(text))


def test_each_field_that_is_written_is_edited_by_the_tests_below() -> None:
    assert set(list_leaves(WRITTEN)) == set(SEALED_EDITS) | set(FREE_EDITS) | BESIDE


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_single_edit_of_a_sealed_field_is_found(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(SEALED_EDITS)))
    before = WRITTEN
    after = change(before, path, data.draw(SEALED_EDITS[path]))
    try:
        recipe = Recipe.model_validate(after)
    except ValidationError:
        return  # refused already
    is_same = recipe == Recipe.model_validate(before)
    assert bool(list_changes(recipe)) is not is_same
    if not is_same:
        assert path in {remark.name for remark in list_changes(recipe)}
        assert seal(recipe).threshold.set_with_sha256 != recipe.threshold.set_with_sha256  # type: ignore[union-attr]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_edit_of_a_free_field_is_a_fault(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(FREE_EDITS)))
    recipe = Recipe.model_validate(change(WRITTEN, path, data.draw(FREE_EDITS[path])))
    assert list_faults(recipe) == []


@settings(deadline=None, max_examples=50)
@given(
    positive, st.floats(0, 1e6), st.floats(0.001, 1), three,
    st.tuples(positive, positive).map(sorted), words, sizes,
)  # fmt: skip
def test_settings_are_the_same_when_written_and_read(
    value: float, sigma: float, scale: float, mean: list[float], good: list[float], name: str, frame_hw: list[int]
) -> None:
    recipe = recipe_of(
        backbone=name,
        sigma=sigma,
        preprocessing={"scale": scale, "frame_hw": frame_hw, "normalisation": {"mean": mean}},
        threshold=threshold_of(value, "gumbel", good_scores=dict(zip(("median", "p95"), good, strict=True))),
    )
    sealed = seal(recipe)
    read = parse(dump_recipe(sealed))
    assert read == sealed
    assert list_faults(read) == []


def test_whole_number_in_place_of_a_float_is_sealed_as_it_will_be_read() -> None:
    recipe = recipe_of(threshold=threshold_of(2.5, "gumbel"))
    assert recipe.threshold is not None
    made = recipe.model_copy(update={"threshold": recipe.threshold.model_copy(update={"value": 2}), "sigma": 4})
    assert list_faults(parse(dump_recipe(seal(made)))) == []


def test_seal_of_a_recipe_written_by_an_earlier_version_still_holds(tmp_path: Path) -> None:
    # Written on another day, with all that was a default then. Whoever changes a default, or how settings are
    # written, makes every recipe in use refused.
    text = f"""\
schema: 1
recipe_id: lens
backbone: resnet18
layers: [layer1, layer2, layer3]
bottleneck_width: official
anomaly_map_mode: add
sigma: 4.0
map_normalisation: position
preprocessing:
  pixel_format: RGB8
  frame_hw: null
  scale: 0.25
  resize_hw: null
  mono16_range: [0, 65535]
  normalisation: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
tiling: {{tile_size: 256, stride: 256}}
threshold:
  value: 30.357438504336088
  method: gumbel
  warn_above: null
  set_with:
    backbone: resnet18
    map_normalisation: position
    preprocessing.scale: 0.25
    threshold.value: 30.357438504336088
    weights_sha256: {SHA}
  set_with_sha256: 25ca076a4764884ad52167830d4191caac944f6740f53c9bfea8fab18642facf
min_region_area: 1
precision: auto
calibrated_in: null
probe_sha256: null
quantised_sha256: {{}}
roi_mask_sha256: null
zones: []
weights_sha256: {SHA}
"""
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path).recipe_id == "lens"


def test_short_side_is_left_out_of_the_settings_unless_it_is_given_and_then_its_edit_is_found() -> None:
    recipe = recipe_of(threshold=threshold_of(2.5, "gumbel"))
    assert not [field for field in list_settings(recipe) if field.startswith("preprocessing.")]
    sealed = seal(recipe_of(threshold=threshold_of(2.5, "gumbel"), preprocessing={"short_side": 256}))
    assert list_settings(sealed)["preprocessing.short_side"] == 256
    edited = parse(dump_recipe(sealed).replace("\n  short_side: 256", "\n  short_side: 128"))
    assert str(list_changes(edited)[0]) == (
        "preprocessing.short_side: must be 256, as when the threshold was set, got 128"
    )


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("old", "new", "field", "rule"),
    [
        ("\n  scale: 0.25", "\n  scale: 0.05", "preprocessing.scale", "must be 0.25, as when .* got 0.05"),
        ("\nmin_region_area: 4", "\nmin_region_area: 200000", "min_region_area", "must be 4, as when .* got 200000"),
        ("\nmin_region_area: 4", "\nmin_region_area: 1", "min_region_area", "must be 4, as when .* got 1"),
        (
            "\n  value: 30.3",
            "\n  value: 1.0e+9 #",
            "threshold.value",
            r"must be 30\.3.* got 1000000000",
        ),
        ("\n    value: 40.5", "\n    value: 4e9", "zones.0.threshold.value", "must be 40.5, as when"),
        ("\n- name: seam", "\n- name: rim", "zones.0.name", "must be seam, as when .* got rim"),
        (f"\nroi_mask_sha256: {SHA}", f"\nroi_mask_sha256: {OTHER_SHA}", "roi_mask_sha256", f"must be {SHA}"),
        ("\n  - 4095", "\n  - 65535", "preprocessing.mono16_range", r"must be \[10, 4095\].* got \[10, 65535\]"),
        ("\nsigma: 2.5", "\nsigma: 30.0", "sigma", "must be 2.5, as when the threshold was set, got 30"),
        ("\n- layer2", "", "layers", r"must be \['layer1', 'layer2', .* got \['layer1', 'layer3'\]"),
        ("\nprecision: int8", "\nprecision: fp32", "precision", "must be int8, as when"),
        (
            "\nmap_normalisation: position",
            "\nmap_normalisation: none",
            "map_normalisation",
            "must be position, as when",
        ),
    ],
)
def test_edited_recipe_is_refused_with_place_field_and_value(
    edit: Callable[..., Path], old: str, new: str, field: str, rule: str
) -> None:
    folder = edit((old, new))
    first, *_, last = refusal_of(folder).splitlines()
    path = folder / "recipe.yaml"
    key = field.rpartition(".")[2]
    line = int(first.removeprefix(f"{path}:").partition(":")[0])
    assert path.read_text(encoding="utf-8").splitlines()[line - 1].strip("- ").startswith(f"{key}:")
    assert re.search(rf": {field}: {rule}", first)
    assert "threshold: the recipe was edited after it was set" in last
    assert "run inspector calibrate, or set method: manual and take responsibility for it" in last


def test_edit_is_found_when_the_recorded_settings_are_edited_alike(edit: Callable[..., Path]) -> None:
    folder = edit(("scale: 0.25", "scale: 0.05"))
    assert load_edited_recipe(folder).threshold.set_with["preprocessing.scale"] == 0.05  # type: ignore[index, union-attr]
    assert "threshold.set_with: must be as it was written, with sha256" in refusal_of(folder)


def test_recorded_settings_are_refused_when_half_of_them_is_gone_or_they_are_no_settings(
    edit: Callable[..., Path],
) -> None:
    message = refusal_of(edit(("  set_with_sha256: ", "  #")))
    assert "threshold: set_with and set_with_sha256 must be given together or not at all" in message
    assert "threshold.set_with.sigma" in refusal_of(edit(("    sigma: 2.5", "    sigma: 2026-11-28")))


def test_threshold_of_another_recipe_is_refused() -> None:
    mine, other = seal(recipe_of(threshold=THRESHOLD)), seal(recipe_of(threshold=THRESHOLD, weights_sha256=OTHER_SHA))
    assert list_faults(mine) == []
    assert [remark.name for remark in list_faults(mine.model_copy(update={"threshold": other.threshold}))] == [
        "weights_sha256",
        "threshold",
    ]


def test_edited_recipe_loads_when_its_threshold_says_manual(edit: Callable[..., Path]) -> None:
    manual = ("\n  method: gumbel", "\n  method: manual")
    recipe = load_recipe(edit(manual, ("\n  value: 30.3", "\n  value: 33.3"), ("\n  scale: 0.25", "\n  scale: 0.5")))
    assert recipe.threshold is not None
    assert (recipe.threshold.set_by, recipe.preprocessing.scale) == ("hand", 0.5)
    (doubt,) = [doubt for doubt in list_doubts(recipe) if doubt.name == "threshold.method"]
    assert doubt.problem.endswith("edited since calibration: preprocessing.scale, threshold.value")


def test_recipe_set_by_hand_or_without_a_threshold_gets_no_seal() -> None:
    for recipe in (recipe_of(threshold=threshold_of(2.0)), recipe_of()):
        assert seal(recipe) is recipe


# ---------------------------------------------------------------- thresholds beyond all sense

GOOD = {"median": 10.0, "p95": 15.0}


@pytest.mark.parametrize(
    ("value", "method", "good", "limit"),
    [
        (65.1, "manual", GOOD, "65"),
        (22.1, "manual", {"median": 10.9, "p95": 11.0}, "22"),  # a spread of next to nothing is no measure
        (1e9, "gumbel", GOOD, "50015"),  # by an earlier version, or with its seal taken out
    ],
)
def test_threshold_far_above_the_good_scores_is_refused_unless_it_says_so(
    value: float, method: str, good: dict[str, float], limit: str
) -> None:
    threshold = threshold_of(value, method, good_scores=good)
    (fault,) = list_faults(recipe_of(threshold=threshold))
    assert fault.name == "threshold.value"
    assert f"must be at most {limit} since good frames score" in fault.problem
    assert "far_above_good: true" in fault.advice
    assert list_faults(recipe_of(threshold=threshold | {"value": float(limit)})) == []
    said = recipe_of(threshold=threshold | {"far_above_good": True})
    assert list_faults(said) == []
    assert "threshold.value" in [doubt.name for doubt in list_doubts(said)]


def test_zone_s_threshold_far_above_its_good_scores_is_refused_unless_it_says_so() -> None:
    def zone(value: float = 100.0, **more: Any) -> Recipe:
        each = {"name": "seam", "mask": "m.png", "mask_sha256": SHA, "threshold": threshold_of(value, "gumbel", **more)}
        return recipe_of(zones=[each], threshold=threshold_of(20.0, good_scores=GOOD))

    (fault,) = list_faults(zone(good_scores=GOOD))
    assert fault.field == ("zones", 0, "threshold", "value")
    assert list_faults(zone(good_scores=GOOD, far_above_good=True)) == []
    assert list_faults(zone(good_scores={"median": 60.0, "p95": 80.0})) == []
    assert list_faults(zone()) == []  # compared with the frame's, of which its own scores may be a multiple
    assert [fault.name for fault in list_faults(zone(value=1e9))] == ["zones.0.threshold.value"]


def test_threshold_that_calibration_set_is_never_too_far_above() -> None:
    recipe = recipe_of(threshold=threshold_of(1e9, "defects", good_scores=GOOD))
    assert list_faults(seal(recipe)) == []
    assert list_faults(recipe) != []


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(1, 10), min_size=2, max_size=60), st.floats(1e-6, 0.5))
def test_threshold_that_an_earlier_version_extrapolated_still_loads(good: list[float], rate: float) -> None:
    try:
        threshold = compute_threshold(good, rate)
    except TrainingError:
        return
    recipe = recipe_of().model_copy(update={"threshold": threshold})
    assert list_faults(recipe) == []


# ---------------------------------------------------------------- doubts

BAD = {"file": "golden/bad-1.png", "sha256": SHA, "verdict": "FAIL"}


def find_from(size_px: float | None) -> dict[str, Any]:
    """Two kinds of defect that were tested: lines are never caught, spots from a size on."""
    line = {
        "n": 120,
        "caught": 60,
        "size_px": {"low": 1.0, "high": 31.0},
        "contrast": {"low": 10.0, "high": 160.0},
        "coefficients": [-9.0, 2.0, 1.5],
        "covariance": [[0.5, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]],
        "a90_95": [{"contrast": 60.0, "size_px": None}],
    }
    spot = line | {"a90_95": [{"contrast": 30.0, "size_px": None}, {"contrast": 60.0, "size_px": size_px}]}
    return {"threshold": 1.0, "n_frames": 8, "kinds": {"line": line, "spot": spot}}


@pytest.mark.parametrize(
    ("changes", "doubts"),
    [
        ({}, []),
        ({"threshold": threshold_of(2.0, "gumbel")}, ["threshold", "expected_frames", "golden"]),
        ({"threshold": threshold_of(2.0), "golden": [BAD]}, ["threshold", "expected_frames"]),
        ({"threshold": threshold_of(20.0, good_scores=GOOD), "golden": [BAD]}, ["expected_frames"]),
        (
            {"threshold": threshold_of(20.0, good_scores=GOOD), "golden": [BAD | {"verdict": "PASS"}]},
            ["expected_frames", "golden"],
        ),
    ],
)
def test_doubts_are_what_leaves_it_unproved_that_a_defect_fails(changes: dict[str, Any], doubts: list[str]) -> None:
    assert [doubt.name for doubt in list_doubts(recipe_of(**changes))] == doubts


def test_nothing_is_in_doubt_when_calibrated_and_a_bad_golden_frame_is_there() -> None:
    changes = {"threshold": THRESHOLD, "golden": [BAD]}
    assert list_doubts(seal(recipe_of(**changes, expected_frames=EXPECTED))) == []
    (doubt,) = list_doubts(seal(recipe_of(**changes, expected_frames=EXPECTED | {"off": ["layout", "repeated"]})))
    assert str(doubt) == (
        "expected_frames.off: layout, repeated: disabled, so a frame that they would refuse can PASS; empty the list"
    )
    (doubt,) = list_doubts(seal(recipe_of(**changes, expected_frames=EXPECTED, qualification=find_from(None))))
    assert str(doubt).startswith("qualification: no artificial defect of any tested size is caught 90 % of the time")
    assert list_doubts(seal(recipe_of(**changes, expected_frames=EXPECTED, qualification=find_from(7.9)))) == []
    measured = {name: {"high": 2.0} for name in EXPECTATIONS} | {"layout": {"low": 0.5, "high": 0.9}}
    (doubt,) = list_doubts(seal(recipe_of(**changes, expected_frames=EXPECTED | {"measured": measured})))
    assert doubt.problem == "edited, and wider than the good frames justify: layout"


def test_expected_frames_may_be_edited_and_not_taken_out_once_a_threshold_was_set_with_them() -> None:
    sealed = seal(recipe_of(threshold=THRESHOLD, golden=[BAD], expected_frames=EXPECTED))
    assert list_faults(sealed) == []
    faults = list_faults(sealed.model_copy(update={"expected_frames": None}))
    assert str(faults[0]).startswith("expected_frames: must be there, as when the threshold was set, got nothing")


def test_settings_leave_out_what_is_at_its_default() -> None:
    recipe = recipe_of(threshold=threshold_of(2.0, "gumbel"), sigma=4.0)
    assert list_settings(recipe) == {"backbone": "resnet18", "threshold.value": 2.0, "weights_sha256": SHA}
    assert Threshold(value=2.0, method="gumbel").set_by == "unknown"
