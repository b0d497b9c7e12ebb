"""A recipe measured on a small data set, and what is said when the data set is not right."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.codec import Pixels
from inspector.config import Preprocessing, Threshold, dump_recipe, load_recipe
from inspector.detection.detector import Detector
from inspector.detection.preprocessing import preprocess
from inspector.errors import BadFrameError, NotLocatedError, RecipeError, TrainingError, UnlikeGoodError
from inspector.files import compute_sha256
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import read_image
from inspector.training.data.record import TRAINING_FILE
from inspector.training.evaluation.evaluate import evaluate
from inspector.training.evaluation.report import select_escapes, select_false_rejects
from inspector.training.expectations import adopt_expectation, measure_looks
from inspector.types import Verdict


@pytest.fixture(scope="module")
def recipe_dir(threshold_recipe_dir: Path) -> Path:
    return threshold_recipe_dir


def _write_record(recipe_dir: Path, folder: Path, frames: dict[str, str]) -> Path:
    """A copy of the recipe that knows the frames it was made from."""
    shutil.copytree(recipe_dir, folder)
    (folder / TRAINING_FILE).write_text(json.dumps({"frames": frames}), encoding="utf-8")
    return folder


def test_evaluation_names_every_metric_when_there_are_masks(recipe_dir: Path, dataset_dir: Path) -> None:
    calls: list[tuple[int, int]] = []
    advance = lambda done, total: calls.append((done, total))  # noqa: E731
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu", advance=advance).metrics
    assert (metrics["n_good"], metrics["n_defective"], metrics["n_masks"], metrics["n_skipped"]) == (2, 2, 2, 0)
    assert (metrics["false_reject_rate"], metrics["escape_rate"]) == (0.0, 1.0)
    assert set(metrics["by_kind"]) == {"dent"}
    for name in ("image_auroc", "escape_rate", "escape_interval", "pixel_auroc", "aupro", "aupro_0_05"):
        assert metrics["by_kind"]["dent"][name] == metrics[name]  # there is but one kind
    for name in ("pixel_auroc", "aupro", "aupro_0_05"):
        assert 0.0 <= metrics[name] <= 1.0
    assert {"image_ap", "f1_max", "frames_per_second"} <= set(metrics)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_frames_score_as_the_detector_decides_and_are_listed_in_json(recipe_dir: Path, dataset_dir: Path) -> None:
    listed = evaluate(recipe_dir, dataset_dir, device="cpu").to_json()
    detector = open_detector(recipe_dir, device=torch.device("cpu"))
    assert [frame["path"] for frame in listed["frames"]] == [
        "test/dent/2.png", "test/dent/3.png", "test/good/0.png", "test/good/1.png",
    ]  # fmt: skip
    for frame in listed["frames"]:
        image = preprocess(*read_image(dataset_dir / frame["path"]), detector.recipe.preprocessing)
        assert frame["score"] == detector.decide(detector.compute_anomaly_map(image), 100.0).score
        assert frame["verdict"] == "PASS"
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed


def test_pixel_metrics_are_none_when_there_are_no_masks(recipe_dir: Path, dataset_dir: Path) -> None:
    shutil.rmtree(dataset_dir / "ground_truth")
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert (metrics["pixel_auroc"], metrics["aupro"], metrics["aupro_0_05"], metrics["n_masks"]) == (None,) * 3 + (0,)
    assert metrics["by_kind"]["dent"]["aupro"] is None


def test_frame_without_mask_is_named_and_left_out_of_pixel_metrics_only(
    recipe_dir: Path, dataset_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (dataset_dir / "ground_truth/dent/3.png").unlink()
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert (metrics["n_defective"], metrics["n_masks"]) == (2, 1)
    assert "no mask for" in caplog.text
    assert "dent/3.png" in caplog.text


def test_pixel_metrics_are_none_when_all_masks_are_black(recipe_dir: Path, dataset_dir: Path) -> None:
    for mask in (dataset_dir / "ground_truth/dent").iterdir():
        cv2.imwrite(str(mask), np.zeros((64, 96), np.uint8))
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert (metrics["pixel_auroc"], metrics["aupro"], metrics["n_masks"]) == (None, None, 2)


def test_pixel_metrics_of_a_kind_rest_on_that_kind_and_the_good_frames(recipe_dir: Path, dataset_dir: Path) -> None:
    alone = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    for folder in ("test", "ground_truth"):
        (dataset_dir / folder / "hole").mkdir()
    frame = cv2.imread(str(dataset_dir / "test/good/0.png"))
    cv2.imwrite(str(dataset_dir / "test/hole/9.png"), frame[::-1])
    cv2.imwrite(str(dataset_dir / "ground_truth/hole/9.png"), np.eye(64, 96, dtype=np.uint8) * 255)
    both = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert both["by_kind"]["dent"]["aupro"] == pytest.approx(alone["aupro"], abs=1e-4)
    assert both["by_kind"]["hole"]["aupro"] != pytest.approx(both["aupro"], abs=1e-3)


def test_mask_is_refused_with_both_sizes_when_it_does_not_fit_its_image(recipe_dir: Path, dataset_dir: Path) -> None:
    cv2.imwrite(str(dataset_dir / "ground_truth/dent/3.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(BadFrameError, match=r"3\.png: mask: must have its image's size \(64, 96\), got \(32, 48\)"):
        evaluate(recipe_dir, dataset_dir, device="cpu")


def test_mask_is_refused_as_unreadable_when_it_is_cut_short(recipe_dir: Path, dataset_dir: Path) -> None:
    mask = dataset_dir / "ground_truth/dent/3.png"
    mask.write_bytes(mask.read_bytes()[:-20])
    with pytest.raises(BadFrameError, match=r"3\.png: mask: must be an image that can be read: .*its end is missing"):
        evaluate(recipe_dir, dataset_dir, device="cpu")


def test_labels_of_a_mask_measure_as_one_mask_and_each_by_itself(recipe_dir: Path, dataset_dir: Path) -> None:
    masks = sorted((dataset_dir / "ground_truth/dent").iterdir())
    for mask in masks:
        pixels = np.zeros((64, 96), np.uint8)
        pixels[20:40, 30:50] = pixels[5:9, 70:80] = 255
        cv2.imwrite(str(mask), pixels)
    plain = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert plain["by_label"] == {}
    for mask in masks:
        pixels = np.zeros((64, 96), np.uint8)
        pixels[20:40, 30:50], pixels[5:9, 70:80] = 2, 1
        cv2.imwrite(str(mask), pixels)
    labelled = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert [labelled[name] for name in ("pixel_auroc", "aupro", "aupro_0_05", "n_masks")] == [
        plain[name] for name in ("pixel_auroc", "aupro", "aupro_0_05", "n_masks")
    ]
    by_label = labelled["by_label"]
    assert list(by_label) == ["1", "2"]
    for row in by_label.values():
        assert (row["n"], row["n_masks"], row["escape_rate"]) == (2, 2, 1.0)
    # All normal pixels are the same for both, and PRO is the mean over regions, of which each label has as many.
    assert by_label["1"]["aupro"] + by_label["2"]["aupro"] == pytest.approx(2 * labelled["aupro"], abs=1e-4)
    assert by_label["2"]["aupro"] != pytest.approx(by_label["1"]["aupro"], abs=1e-3)


def test_label_escapes_with_the_frames_that_show_it_and_pass(recipe_dir: Path, dataset_dir: Path) -> None:
    for name, value in (("2_mask.png", 1), ("3.png", 3)):
        mask = np.zeros((64, 96), np.uint8)
        mask[20:40, 30:50] = value
        cv2.imwrite(str(dataset_dir / "ground_truth/dent" / name), mask)
    by_label = evaluate(recipe_dir, dataset_dir, device="cpu").metrics["by_label"]
    assert {label: (row["n"], row["escape_rate"]) for label, row in by_label.items()} == {"1": (1, 1.0), "3": (1, 1.0)}


def test_unreadable_frames_are_named_and_counted_while_the_rest_goes_on(
    recipe_dir: Path, dataset_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (dataset_dir / "test/good/broken.png").write_bytes(b"no image")
    (dataset_dir / "test/dent/dangling.png").symlink_to("nowhere.png")
    cv2.imwrite(str(dataset_dir / "test/dent/grey.png"), np.zeros((64, 96), np.uint8))  # the recipe wants colour
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    assert (metrics["n_good"], metrics["n_defective"], metrics["n_skipped"]) == (2, 2, 3)
    assert [record.getMessage().split(": ")[1][-12:] for record in caplog.records] == [
        "dangling.png", "ent/grey.png", "d/broken.png",
    ]  # fmt: skip


def test_evaluation_ends_when_no_frame_of_a_sort_can_be_judged(recipe_dir: Path, dataset_dir: Path) -> None:
    for frame in (dataset_dir / "test/good").iterdir():
        frame.write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"must contain test/good and .* that can be judged, got \['dent'\]"):
        evaluate(recipe_dir, dataset_dir, device="cpu")


def test_frame_in_which_the_part_is_not_found_is_an_error_and_neither_an_escape_nor_ranked(
    recipe_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    lost = np.full((64, 96, 3), 200, np.uint8)
    (dataset_dir / "test/gone").mkdir()
    for name in ("good/9.png", "dent/9.png", "gone/9.png"):
        cv2.imwrite(str(dataset_dir / "test" / name), lost)
    judge = Detector.judge

    def judge_or_lose(self: Detector, pixels: Pixels, *args: Any, **options: Any) -> Any:
        if (pixels == 200).all():
            raise NotLocatedError("part not found")
        return judge(self, pixels, *args, **options)

    monkeypatch.setattr(Detector, "judge", judge_or_lose)
    evaluation = evaluate(recipe_dir, dataset_dir, device="cpu")
    metrics = evaluation.metrics
    assert (metrics["n_good"], metrics["n_defective"], metrics["n_refused"], metrics["n_skipped"]) == (3, 4, 3, 0)
    assert (metrics["escape_rate"], metrics["false_reject_rate"]) == (0.5, 0.0)
    assert metrics["false_error_rate"] == pytest.approx(1 / 3)
    assert (metrics["by_kind"]["gone"]["escape_rate"], metrics["by_kind"]["gone"]["image_auroc"]) == (0.0, None)
    for name in ("image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro"):
        assert metrics[name] == alone[name]
    listed = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["frames"]
    assert [(each["score"], each["verdict"]) for each in listed if "9.png" in each["path"]] == [(None, "ERROR")] * 3
    assert all(sample.is_scored for sample in select_escapes(evaluation.samples))
    assert len(select_false_rejects(evaluation.samples)) == 2


def test_dataset_is_refused_when_it_lacks_good_frames(recipe_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="must contain test/good"):
        evaluate(recipe_dir, tmp_path, device="cpu")


def test_test_frames_known_from_training_are_named_loudly(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(dataset_dir / "test/good/0.png", dataset_dir / "test/dent/swapped.png")
    frames = {"a.png": compute_sha256(dataset_dir / "test/good/0.png"), "b.png": "f" * 64}
    folder = _write_record(recipe_dir, tmp_path / "recipe", frames)
    metrics = evaluate(folder, dataset_dir, device="cpu").metrics
    assert metrics["duplicates_of_training"] == [
        {"path": "test/dent/swapped.png", "training_frame": "a.png"},
        {"path": "test/good/0.png", "training_frame": "a.png"},
    ]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if text.startswith("SEEN IN TRAINING: test/good/0.png is the same file as a.png")]


def test_duplicates_are_none_when_unknown_and_empty_when_there_are_none(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    assert evaluate(recipe_dir, dataset_dir, device="cpu").metrics["duplicates_of_training"] is None
    folder = _write_record(recipe_dir, tmp_path / "recipe", {"b.png": "f" * 64})
    assert evaluate(folder, dataset_dir, device="cpu").metrics["duplicates_of_training"] == []


def test_evaluation_is_refused_when_the_recipe_has_no_threshold(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    head, _, rest = text.partition("threshold:\n")
    (folder / "recipe.yaml").write_text(head + "min_region" + rest.partition("min_region")[2], encoding="utf-8")
    with pytest.raises(RecipeError, match="threshold: required for evaluation; run inspector calibrate"):
        evaluate(folder, dataset_dir, device="cpu")


def test_pixels_are_counted_when_there_are_more_frames_than_open_files_allowed(
    recipe_dir: Path, dataset_dir: Path
) -> None:
    for number in range(4, 40):
        shutil.copy(dataset_dir / "test/good/0.png", dataset_dir / f"test/good/{number}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard))
    try:
        metrics = evaluate(recipe_dir, dataset_dir, device="cpu").metrics
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert metrics["n_good"] == 38
    assert 0 <= metrics["aupro"] <= 1


def test_frames_refused_for_what_they_show_are_scored_and_count_as_errors(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    looks = measure_looks(sorted((dataset_dir / "test/good").iterdir()), Preprocessing())
    recipe = adopt_expectation(load_recipe(folder), looks, folder)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    cv2.imwrite(str(dataset_dir / "test/good/0.png"), np.zeros((64, 96, 3), np.uint8))
    plain, evaluation = (evaluate(each, dataset_dir, device="cpu") for each in (recipe_dir, folder))
    verdicts = {sample.path.name: sample.verdict.value for sample in evaluation.samples}
    assert verdicts == {"0.png": "ERROR", "1.png": "PASS", "2.png": "ERROR", "3.png": "ERROR"}  # the dents are bright
    metrics = evaluation.metrics
    assert (metrics["n_refused"], metrics["n_skipped"], metrics["false_error_rate"]) == (3, 0, 0.5)
    assert (metrics["escape_rate"], plain.metrics["escape_rate"]) == (0.0, 1.0)
    assert metrics["image_auroc"] == plain.metrics["image_auroc"]


def test_frame_that_only_a_defect_explains_counts_as_found_where_its_score_fails(
    recipe_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = open_detector(recipe_dir, device=torch.device("cpu"))
    monkeypatch.setattr("inspector.training.evaluation.evaluate.open_detector", lambda *_, **__: detector)
    scores = [sample.score for sample in evaluate(recipe_dir, dataset_dir, device="cpu").samples]
    threshold = sorted(scores)[1]
    detector.recipe = detector.recipe.model_copy(update={"threshold": Threshold(value=threshold, method="manual")})
    detector.expectation = SimpleNamespace(check=lambda *_: UnlikeGoodError("layout"))  # type: ignore[assignment]
    samples = evaluate(recipe_dir, dataset_dir, device="cpu").samples
    expected = [Verdict.FAIL if score > threshold else Verdict.ERROR for score in scores]
    assert [sample.verdict for sample in samples] == expected
    assert {*expected} == {Verdict.FAIL, Verdict.ERROR}
