"""The benchmark of accuracy: rates at thresholds, draws of good frames, runs that are kept, and each mode once."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.config import Preprocessing, Recipe
from inspector.detection.preprocessing import normalise, preprocess
from inspector.engine.build import build_eager
from inspector.engine.eager import EagerEngine
from inspector.training.data.datasets import FrameSet, list_images, read_image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

Load = Callable[[str], ModuleType]

random_weights = pytest.mark.filterwarnings("ignore:encoder weights. none")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Makes the scripts importable, as they are to each other when one is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


# ---------------------------------------------------------------- rates

KINDS = ["good"] * 5 + ["dent"] * 4
SCORES = [1.0, 2.0, 3.0, 4.0, 5.0, 0.5, 3.5, 6.0, 0.7]
REFUSED = [True, False, False, False, False, True, False, False, False]


def test_refused_frames_are_false_errors_or_do_not_escape_at_a_threshold(load: Load) -> None:
    found = load("_rates").describe_threshold(KINDS, SCORES, REFUSED, 4.0)
    assert found["threshold"] == 4.0
    assert (found["false_reject_rate"], found["false_error_rate"]) == (1 / 5, 1 / 5)
    assert found["escape_rate"] == 2 / 4  # 3.5 and 0.7
    assert found["escape_rate_by_score"] == 3 / 4  # 0.5 too


@pytest.mark.parametrize(("rate", "expected"), [(0.01, 5.0), (0.19, 5.0), (0.2, 4.0), (0.4, 3.0)])
def test_true_threshold_has_at_most_the_rate_of_good_frames_above_it(load: Load, rate: float, expected: float) -> None:
    shuffled = np.random.default_rng(0).permutation(len(KINDS))
    kinds, scores = [KINDS[index] for index in shuffled], [SCORES[index] for index in shuffled]
    threshold = load("_rates").compute_true_threshold(kinds, scores, rate)
    assert threshold == expected
    assert sum(score > threshold for score in SCORES[:5]) <= 5 * rate


@pytest.mark.parametrize(
    ("rejects", "is_within", "is_above"),
    [(10, True, False), (11, False, False), (14, False, False), (15, False, False), (16, False, True)],
)
def test_bound_is_significantly_passed_only_where_luck_would_be_rare(
    load: Load, rejects: int, is_within: bool, is_above: bool
) -> None:
    """So many or more of a hundred at a rate of a tenth: 15 come with 7.3 %, 16 with 4.0 %."""
    found = load("_rates").compare_with_bound(rejects, 100, 0.1)
    assert found["false_reject_rate"] == rejects / 100
    assert (found["is_within"], found["is_above"]) == (is_within, is_above)
    assert {15: 0.0726, 16: 0.0399}.get(rejects, found["p_value"]) == pytest.approx(found["p_value"], abs=5e-5)


def test_draws_of_a_size_are_counted_and_averaged(load: Load) -> None:
    rates = {"false_error_rate": 0.0, "escape_rate": 0.5, "escape_rate_by_score": 1.0}
    found = load("_rates").summarise_draws(
        [
            rates | {"false_reject_bound": 0.1, "false_reject_rate": 0.0, "is_within": True, "is_above": False},
            rates | {"false_reject_bound": 0.2, "false_reject_rate": 0.3, "is_within": False, "is_above": False},
            rates | {"false_reject_bound": 0.3, "false_reject_rate": 0.9, "is_within": False, "is_above": True},
        ]
    )
    assert (found["draws"], found["within"], found["above"]) == (3, 1, 1)
    assert (found["mean_false_reject_bound"], found["mean_false_reject_rate"]) == pytest.approx((0.2, 0.4))
    assert (found["mean_escape_rate"], found["mean_escape_rate_by_score"]) == (0.5, 1.0)


def test_range_is_of_what_is_known(load: Load) -> None:
    format_range = load("_rates").format_range
    assert format_range([0.25, None, 0.5], "{:.1%}") == "37.5% (25.0%–50.0%)"
    assert format_range([0.25], "{:.3f}") == "0.250"
    assert format_range([None, None], "{:.3f}") == "–"


# ---------------------------------------------------------------- draws


def test_draw_parts_the_pool_and_is_the_same_when_asked_again(load: Load) -> None:
    draw = load("_draws").draw
    pool = [Path(f"{number}.png") for number in range(30)]
    drawn, rest = draw(pool, 12, 0)
    assert (len(drawn), sorted(drawn + rest)) == (12, sorted(pool))
    assert draw(pool, 12, 0) == (drawn, rest)
    assert draw(pool, 12, 1) != (drawn, rest)


def test_draw_is_refused_when_no_other_frame_would_be_left(load: Load) -> None:
    with pytest.raises(ValueError, match="--draw-sizes: must leave good frames to measure on, got 3 of 3"):
        load("_draws").draw([Path(f"{number}.png") for number in range(3)], 3, 0)


def test_pool_has_each_good_frame_once_and_a_layout_loses_none_of_the_same_name(
    load: Load, dataset_dir: Path, tmp_path: Path
) -> None:
    pool = load("_draws").list_pool(dataset_dir)
    assert len(pool) == 12
    twin = dataset_dir / "test" / "good" / "0.png"  # of the same name as one of train/good
    (dataset_dir / "test" / "good" / "twin.png").write_bytes(twin.read_bytes())
    assert load("_draws").list_pool(dataset_dir) == pool
    load("_draws").lay_out(tmp_path / "layout", dataset_dir, pool[:3], pool[3:])
    for name, expected in (
        ("train/good", pool[:3]),
        ("test/good", pool[3:]),
        ("test/dent", sorted((dataset_dir / "test" / "dent").iterdir())),
    ):
        linked = sorted((tmp_path / "layout" / name).iterdir())
        assert [path.resolve() for path in linked] == [path.resolve() for path in expected]


# ---------------------------------------------------------------- runs that are kept


def test_second_call_measures_only_what_the_file_lacks(load: Load, tmp_path: Path) -> None:
    measure_each = load("_results").measure_each
    asked: list[int] = []

    def measure(case: dict[str, Any]) -> dict[str, Any]:
        if case["draw"] == 2:
            raise KeyboardInterrupt
        asked.append(case["draw"])
        return {"square": case["draw"] ** 2}

    path = tmp_path / "runs.json"
    cases = [{"draw": number} for number in (0, 1, 2)]
    with pytest.raises(KeyboardInterrupt):
        measure_each(cases, measure, path, {"tiles": 16})
    assert [run["square"] for run in json.loads(path.read_text())["runs"]] == [0, 1]
    runs = measure_each([{"draw": 3}, {"draw": 1}], measure, path, {"tiles": 16})
    assert [(run["draw"], run["square"]) for run in runs] == [(3, 9), (1, 1)]
    assert asked == [0, 1, 3]


def test_file_of_other_settings_is_refused_and_left_as_it_is(load: Load, tmp_path: Path) -> None:
    measure_each = load("_results").measure_each
    path = tmp_path / "runs.json"
    measure_each([{"draw": 0}], lambda case: {"rate": 0.5}, path, {"tiles": 16, "dataset": Path("lens")})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"--json: must be .* tiles 16 there, 32 now"):
        measure_each([{"draw": 0}], lambda case: {"rate": 0.5}, path, {"tiles": 32, "dataset": Path("lens")})
    assert path.read_bytes() == before


def test_runs_of_different_code_are_told_apart(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = load("_results")
    path = tmp_path / "runs.json"
    for draw in (0, 1):
        results.measure_each([{"draw": draw}], lambda case: {}, path, {})
    results.measure_each([{"draw": 0}, {"draw": 1}], lambda case: {}, path, {})
    assert "not all of the same code" not in capsys.readouterr().err
    monkeypatch.setattr(results, "digest_code", lambda: "another")
    results.measure_each([{"draw": 0}, {"draw": 2}], lambda case: {}, path, {})
    assert "not all of the same code" in capsys.readouterr().err


# ---------------------------------------------------------------- the modes


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """MVTec layout: ten good frames and two for the test, two with a dent."""
    folder = tmp_path / "dataset"
    for place, count in (("train/good", 10), ("test/good", 2), ("test/dent", 2)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([len(place), number]).integers(80, 120, (64, 64, 3), dtype=np.uint8)
            if place == "test/dent":
                pixels[20:40, 20:40] = 255
            cv2.imwrite(str(folder / place / f"{number}.png"), pixels)
    return folder


@pytest.fixture
def main(load: Load, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the benchmark for two steps on random weights and the reference engine; what it wrote."""

    def build(recipe: Recipe, load_model: Any, *, device: torch.device, **options: Any) -> EagerEngine:
        return build_eager(recipe, load_model(), device=device)

    for module in ("inspector.recipe.opening", "inspector.training.optimise.training_setup"):
        monkeypatch.setattr(f"{module}.build_engine", build)
    monkeypatch.setattr("inspector.training.optimise.fitting._NORMALISATION_TILES", 16)
    sizes = ["--resize", "64", "64", "--tile-size", "64", "--tiles", "4", "--batch-size", "2"]

    def run(*arguments: str) -> Any:
        fixed = [
            str(dataset_dir),
            "--encoder-weights",
            "none",
            *sizes,
            "--device",
            "cpu",
            "--threads",
            str(torch.get_num_threads()),
        ]
        load("accuracy").main([*fixed, "--json", str(tmp_path / "runs.json"), *arguments])
        return json.loads((tmp_path / "runs.json").read_text())["runs"]

    return run


@random_weights
def test_draws_measure_on_the_frames_not_drawn_and_go_on_from_the_file(
    main: Callable[..., Any], load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = main("--draws", "1", "--draw-sizes", "8")
    assert (run["size"], run["draw"], run["n_rest"], len(run["defect_scores"])) == (8, 0, 4, 2)
    assert run["false_rejects"] == sum(score > run["threshold"] for score in run["good_scores"])
    assert run["false_reject_rate"] == run["false_rejects"] / 4
    assert 0 < run["false_reject_bound"] < 1
    assert "within the bound" in capsys.readouterr().out
    monkeypatch.setattr(load("_draws"), "train", None)
    assert main("--draws", "1", "--draw-sizes", "8") == [run]


@random_weights
def test_thresholds_are_set_without_the_test_set_and_compared_with_true_rates(
    main: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("anomalib.models", reason="anomalib is not installed", exc_type=ImportError)
    theirs, bank, ours = main("--thresholds", "--seeds", "0", "--rates", "0.02", "0.5")
    assert (theirs["method"], theirs["own_threshold"]["n_good"]) == ("anomalib", 2)
    assert (bank["method"], bank["own_threshold"]["n_good"]) == ("anomalib-patchcore", 2)
    assert ours["own_threshold"]["target_false_reject_rate"] == 0.01
    for run in (theirs, bank, ours):
        assert run["own"]["threshold"] == run["own_threshold"]["value"]
        good = sorted(frame["score"] for frame in run["frames"] if frame["kind"] == "good")
        assert [run["at_rates"][rate]["threshold"] for rate in ("0.02", "0.5")] == good[::-1]
        assert [run["at_rates"][rate]["false_reject_rate"] for rate in ("0.02", "0.5")] == [0.0, 0.5]
    assert "stated bound" in capsys.readouterr().out


@random_weights
def test_snapshots_are_taken_on_the_way_where_there_are_no_masks_either(main: Callable[..., Any]) -> None:
    (run,) = main("--methods", "ours", "--seeds", "3", "--snapshots", "2")
    assert (run["method"], run["seed"]) == ("ours", 3)
    assert [snapshot["tiles_seen"] for snapshot in run["snapshots"]] == [2, 4]


@random_weights
def test_patchcore_is_measured_once_on_all_good_tiles_and_marks_the_dent(
    main: Callable[..., Any], dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("anomalib.models", reason="anomalib is not installed", exc_type=ImportError)
    for number in range(2):
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[20:40, 20:40] = 255
        (dataset_dir / "ground_truth" / "dent").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(dataset_dir / "ground_truth" / "dent" / f"{number}_mask.png"), mask)
    runs = main("--methods", "anomalib-patchcore", "--coreset-ratio", "0.05", "--seeds", "0", "1")
    for run in runs:
        (snapshot,) = run["snapshots"]
        assert snapshot["tiles_seen"] == 10
        assert (snapshot["image_auroc"], snapshot["at_rates"]["0.01"]["escape_rate"]) == (1.0, 0.0)
        assert snapshot["pixel_auroc"] > 0.9
    assert "escapes at 1.0%" in capsys.readouterr().out


@random_weights
def test_score_of_a_frame_is_the_highest_of_the_banks_own_and_its_map_covers_the_frame(
    load: Load, dataset_dir: Path
) -> None:
    pytest.importorskip("anomalib.models", reason="anomalib is not installed", exc_type=ImportError)
    patchcore, training = load("_patchcore"), load("_training")
    size = ["--tile-size", "32", "--coreset-ratio", "0.1", "--device", "cpu"]
    options = load("accuracy").parse(["lens", "--encoder-weights", "none", *size])
    frames = FrameSet(list_images(dataset_dir / "train" / "good"), Preprocessing())
    recipe = training.plan_recipe(patchcore.PATCHCORE, Preprocessing(), options)
    bank = patchcore.collect(frames, recipe, 0, options)
    assert (bank.tiles_seen, len(bank.model.memory_bank)) == (40, 40 * 16 // 10)
    pixels, pixel_format = read_image(dataset_dir / "test" / "dent" / "0.png")
    whole, score = bank.judge(pixels, pixel_format)
    tiles = [preprocess(pixels[top : top + 32, left : left + 32], pixel_format, Preprocessing())
             for top in (0, 32) for left in (0, 32)]  # fmt: skip
    alone = [bank.model(normalise(tile[None], Preprocessing())) for tile in tiles]
    assert score == pytest.approx(max(float(each.pred_score) for each in alone), rel=1e-5)
    assert whole[:32, 32:] == pytest.approx(alone[1].anomaly_map[0, 0].numpy(), rel=1e-4)


def test_coreset_is_the_one_that_anomalib_chooses(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    components = pytest.importorskip(
        "anomalib.models.components", reason="anomalib is not installed", exc_type=ImportError
    )
    features = torch.randn(400, 24, generator=torch.Generator().manual_seed(0))

    def choose() -> list[int]:
        torch.manual_seed(3)
        np.random.seed(3)
        chosen: list[int] = components.KCenterGreedy(features, 0.1).select_coreset_idxs()
        return chosen

    expected = choose()
    assert len({*expected}) == 40
    monkeypatch.setattr(components.KCenterGreedy, "update_distances", load("_patchcore")._update_distances)
    assert choose() == expected


def test_options_that_would_be_ignored_are_refused(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("accuracy").parse(["lens", "--encoder-weights", "none", "--draws", "2", "--seeds", "0"])
    assert "--draws: must come without --methods and --seeds" in capsys.readouterr().err


@pytest.mark.parametrize("ratio", ["0", "1.5", "nan"])
def test_share_of_features_that_cannot_be_kept_is_refused(
    load: Load, ratio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load("accuracy").parse(["lens", "--encoder-weights", "none", "--coreset-ratio", ratio])
    assert f"--coreset-ratio: must be above 0 and at most 1, got {float(ratio)}" in capsys.readouterr().err


def test_peer_that_is_not_installed_is_named_before_anything_is_trained(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        load("accuracy").parse(["lens", "--encoder-weights", "none"])
    assert "anomalib is not installed: install the bench extra" in capsys.readouterr().err
    arguments = ["lens", "--encoder-weights", "none", "--methods", "ours"]
    assert load("accuracy").parse(arguments).methods == ["ours"]
