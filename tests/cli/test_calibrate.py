"""`inspector calibrate`: what it refuses, what it hands on, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inspector.cli.app import app
from inspector.cli.train import describe_threshold
from inspector.config import GroupCheck, Recipe, Tail, Threshold

RECIPE = Recipe.model_validate(
    {
        "recipe_id": "lens",
        "backbone": "resnet18",
        "weights_sha256": "0" * 64,
        "threshold": {"value": 2.0, "method": "order_statistic", "n_good": 400, "false_reject_bound": 0.02},
        "zones": [
            {"name": "seam", "mask": "m.png", "mask_sha256": "0" * 64, "threshold": {"value": 3, "method": "gumbel"}}
        ],
    }
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the calibration was given."""
    given: dict[str, Any] = {}

    def calibrate(folder: Path, good_dir: Path, **options: Any) -> Recipe:
        given.update(options, folder=folder, good_dir=good_dir)
        return RECIPE

    monkeypatch.setattr("inspector.training.calibrate.calibrate", calibrate)
    return given


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        (("--min-region-area", "0"), "auto or a number of pixels from 1 on, got '0'"),
        (("--min-region-area", "some"), "auto or a number of pixels from 1 on, got 'some'"),
        (("--zone", "seam"), "must be NAME=MASK, got 'seam'"),
        (("--groups", "lot("), "must be folder or a regular expression, got 'lot('"),
        (("--groups", "lot"), "must have one group in brackets, got 'lot'"),
        (("--escape-rate", "1"), "--escape-rate"),
        (("--set-from-defects",), "must come with --defects"),
    ],
)
def test_option_is_refused_as_usage_when_it_breaks_its_rule(
    given: dict[str, Any], option: tuple[str, ...], fault: str
) -> None:
    done = CliRunner().invoke(app, ["calibrate", "recipe", "good", *option], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert fault in done.output
    assert given == {}


def test_options_are_handed_on_when_given(given: dict[str, Any]) -> None:
    arguments = (
        "calibrate recipe good --false-reject-rate 0.02 --warn-rate 0.2 --groups folder --min-region-area auto "
        "--zone seam=a=b.png --zone edge=e.png --defects bad --set-from-defects --escape-rate 0.1 "
        "--precision int8 --device cpu"
    )
    done = CliRunner().invoke(app, arguments.split())
    assert done.exit_code == 0, done.output
    given.pop("advance")
    assert given == {
        "folder": Path("recipe"),
        "good_dir": Path("good"),
        "false_reject_rate": 0.02,
        "warn_rate": 0.2,
        "groups": "folder",
        "min_region_area": "auto",
        "zones": {"seam": Path("a=b.png"), "edge": Path("e.png")},
        "defects_dir": Path("bad"),
        "set_from_defects": True,
        "escape_rate": 0.1,
        "roi_mask": None,
        "precision": "int8",
        "device": "cpu",
    }
    assert "threshold 2 (order_statistic, 400 good frames never trained on); false rejects at most 2.0%" in done.stdout
    assert "zone seam: threshold 3 (gumbel)" in done.stdout
    assert "hint: golden: no frame here must FAIL" in done.stdout


def test_recipe_keeps_its_area_and_zones_when_no_option_is_given(given: dict[str, Any]) -> None:
    assert CliRunner().invoke(app, ["calibrate", "recipe", "good"]).exit_code == 0
    assert (given["min_region_area"], given["zones"], given["groups"]) == (None, {}, None)
    assert CliRunner().invoke(app, ["calibrate", "recipe", "good", "--min-region-area", "9"]).exit_code == 0
    assert given["min_region_area"] == 9


def test_all_that_the_frames_show_is_said_when_they_are_too_few() -> None:
    threshold = Threshold(
        value=2.5,
        method="generalised_pareto",
        warn_above=2.25,
        n_good=40,
        target_false_reject_rate=0.01,
        false_reject_bound=0.0722,
        tail=Tail(location=1.0, scale=0.5, shape=0.1, exceedances=10, rate_interval=(0.001, 0.03)),
        groups=GroupCheck(
            n_groups=4, false_reject_rate=0.05, interval=(0.01, 0.17), worst_group="b", worst_false_reject_rate=0.2
        ),
        escape_rate=0.25,
        escape_interval=(0.03, 0.65),
        n_defective=8,
    )
    assert list(describe_threshold(threshold)) == [
        "threshold 2.5 (generalised_pareto, 40 good frames never trained on); "
        "false rejects at most 7.2% at 95 % confidence",
        "  40 good frames cannot show less; for the target of 1% at least 300 with no reject are needed, so the "
        "threshold extrapolates",
        "  by the fitted tail, 0.10% to 3.00% of good frames score above it; that is no bound",
        "  warns above 2.25",
        "  groups left out in turn: 5.0% rejected (1.0% to 17.0%); worst b with 20.0%",
        "escapes: 25.0% of 8 defective frames (3.0% to 65.0% at 95 % confidence)",
    ]


def test_a_threshold_set_by_hand_has_one_line() -> None:
    lines = list(describe_threshold(Threshold(value=2.0, method="manual")))
    assert lines == ["threshold 2 (manual, 0 good frames never trained on)"]
