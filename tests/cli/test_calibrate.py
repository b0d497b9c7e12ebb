"""`inspector calibrate`: what it refuses, what it hands on, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inspector.cli.app import app
from inspector.cli.terminal.summary import describe_threshold
from inspector.config import CrossValidation, DefectScores, GoodScores, GroupCheck, Recipe, Tail, Threshold

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
        (("--min-region-area", "0"), "auto or a number of pixels of at least 1, got '0'"),
        (("--min-region-area", "some"), "auto or a number of pixels of at least 1, got 'some'"),
        (("--zone", "seam"), "must be NAME=MASK, got 'seam'"),
        (("--groups", "lot("), "must be folder or a regular expression, got 'lot('"),
        (("--groups", "lot"), "must have one capture group, got 'lot'"),
        (("--escape-rate", "1"), "--escape-rate"),
        (("--set-from-defects",), "must be given together with --defects"),
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
        "--precision int8 --device cpu --policy extrapolate --trim --qualification 7"
    )
    done = CliRunner().invoke(app, arguments.split())
    assert done.exit_code == 0, done.output
    given.pop("advance")
    assert given == {
        "folder": Path("recipe"),
        "good_dir": Path("good"),
        "false_reject_rate": 0.02,
        "policy": "extrapolate",
        "trim": True,
        "keep_outliers": False,
        "qualification": 7,
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
    assert "threshold 2 (as the target asks, 400 good frames not used in training)\n" in done.stdout
    assert "  false rejects: at most 2.0%, at 95 % confidence\n" in done.stdout
    assert "zone seam: threshold 3 (gumbel)" in done.stdout
    assert "hint: golden: no frame with the verdict FAIL" in done.stdout


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
        tail=Tail(location=1.0, scale=0.5, shape=0.1, exceedances=10, rate=0.01, rate_interval=(0.001, 0.03)),
        groups=GroupCheck(
            n_groups=4, false_reject_rate=0.05, interval=(0.01, 0.17), worst_group="b", worst_false_reject_rate=0.2
        ),
        escape_rate=0.25,
        escape_interval=(0.03, 0.65),
        n_defective=8,
    )
    assert list(describe_threshold(threshold)) == [
        "threshold 2.5 (extrapolated with a Pareto distribution, 40 good frames not used in training)",
        "  false rejects: at most 7.2%, at 95 % confidence",
        "  a distribution fitted to their highest peaks predicts 1.00% (0.10% to 3.00%); this is an estimate, "
        "not a bound",
        "  40 good frames are too few to prove the target of 1 %, so the threshold is extrapolated; 300 "
        "without a reject would do",
        "  warning above 2.25",
        "  groups left out in turn: 5.0% rejected (1.0% to 17.0%); worst b with 20.0%",
        "escapes: 25.0% of 8 defective frames (3.0% to 65.0% at 95 % confidence)",
    ]


def test_a_threshold_set_by_hand_has_one_line() -> None:
    lines = list(describe_threshold(Threshold(value=2.0, method="manual")))
    assert lines == ["threshold 2 (set by hand, 0 good frames not used in training)"]


def test_what_folds_guarantee_and_which_frames_stand_out_is_said() -> None:
    threshold = Threshold(
        value=2.5,
        method="near_highest",
        n_good=30,
        n_outliers=2,
        target_false_reject_rate=0.01,
        false_reject_bound=0.195,
        good_scores=GoodScores(median=1.0, p95=2.0),
        cross_validated=CrossValidation(n_folds=2, steps=5, gains=(1.0, 1.1), unseen_ratio=1.2, n_deployed=3),
        escape_rate=0.0,
        escape_interval=(0.0, 0.6),
        defect_scores=DefectScores(lowest=3.0, median=4.0),
        n_defective=4,
    )
    assert list(describe_threshold(threshold)) == [
        "threshold 2.5 (near the highest plausible score, 30 good frames each scored by a network not trained on it)",
        "  false rejects: at most 19.5%, at 95 % confidence",
        "  2 of the good frames stand out and score above it. Check them; --trim leaves them out, "
        "--keep-outliers treats them as good",
        "  cross-validated: scored by 2 networks like this one, each trained on the other frames; of 3 frames not used "
        "to train this one, 0 score above it, and they score 1.20 times as high as by those, which the bound allows "
        "for",
        "  30 good frames are too few to prove the target of 1 %, so the threshold is set near their highest "
        "score; 300 without a reject would do",
        "escapes: 0.0% of 4 defective frames (0.0% to 60.0% at 95 % confidence)",
        "  good frames score 1 (median) to 2 (95 %), the threshold is 2.5, defective ones from 3, median 4",
    ]


def test_trimming_and_keeping_outliers_at_once_is_refused() -> None:
    done = CliRunner().invoke(app, ["calibrate", "recipe", "--trim", "--keep-outliers"])
    assert done.exit_code == 2
    assert "must not be given together with --keep-outliers" in done.output
