"""`inspector golden`: what it stores, what it refuses, and what `check` makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml

from inspector.config import Recipe, Threshold, dump_recipe, load_recipe, seal
from inspector.engine.build import build_eager
from inspector.engine.eager import EagerEngine
from inspector.errors import InspectorError
from inspector.files import compute_sha256, write_whole
from inspector.testing.station_process import bad_frame, base_config, good_frame, write_recipe

Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _reference_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager instead of the device's engine, which takes seconds to convert."""

    def build(recipe: Recipe, load_model: Any, *, device: torch.device, **options: Any) -> EagerEngine:
        return build_eager(recipe, load_model(), device=device)

    monkeypatch.setattr("inspector.recipe.opening.build_engine", build)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "tiny")


@pytest.fixture
def recipe_dir(original: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    folder.mkdir()
    for path in original.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "recipe.yaml").unlink()
    shutil.copy(original / "recipe.yaml", folder)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "flat.JPG"), good_frame(), [cv2.IMWRITE_JPEG_QUALITY, 100])
    return tmp_path / "flat.JPG"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "dent.png"), bad_frame()[..., ::-1])
    return tmp_path / "dent.png"


def golden_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("golden/*"))


def test_frames_are_stored_as_they_are_when_each_gets_its_verdict(
    run: Run, recipe_dir: Path, good: Path, bad: Path
) -> None:
    before = load_recipe(recipe_dir)
    status, printed = run("golden", recipe_dir, "--good", good, "--bad", bad, "--device", "cpu")
    assert status == 0, printed
    assert (recipe_dir / "golden/good-1.jpg").read_bytes() == good.read_bytes()
    assert (recipe_dir / "golden/bad-1.png").read_bytes() == bad.read_bytes()
    recipe = load_recipe(recipe_dir)
    passed, failed = recipe.golden
    assert recipe.model_copy(update={"golden": ()}) == before
    assert (passed.file, passed.verdict, passed.sha256) == ("golden/good-1.jpg", "PASS", compute_sha256(good))
    assert (failed.file, failed.verdict, failed.sha256) == ("golden/bad-1.png", "FAIL", compute_sha256(bad))
    assert recipe.threshold is not None
    assert passed.score is not None
    assert failed.score is not None
    assert passed.score <= recipe.threshold.value < failed.score
    assert f"PASS golden/good-1.jpg, score {passed.score:.6g} when stored" in printed

    status, printed = run("golden", recipe_dir, "--device", "cpu")
    assert status == 0
    assert f"FAIL golden/bad-1.png, score {failed.score:.6g} when stored checked: each of the 2 golden" in printed


@pytest.mark.parametrize(("option", "expected", "got"), [("--bad", "FAIL", "PASS"), ("--good", "PASS", "FAIL")])
def test_nothing_is_stored_when_a_frame_gets_another_verdict(
    run: Run, recipe_dir: Path, good: Path, bad: Path, option: str, expected: str, got: str
) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    wrong = good if option == "--bad" else bad
    right = (option, bad if option == "--bad" else good)
    status, printed = run("golden", recipe_dir, *right, option, wrong, "--device", "cpu")
    assert status == 1
    threshold = load_recipe(recipe_dir).threshold
    assert threshold is not None
    assert f"{wrong}: must be judged {expected}, got {got}: score " in printed
    assert f"threshold {threshold.value:.6g}; nothing was stored" in printed
    assert (recipe_dir / "recipe.yaml").read_bytes() == before
    assert not (recipe_dir / "golden").exists()


def test_every_frame_that_cannot_be_stored_is_named_at_once(
    run: Run, recipe_dir: Path, good: Path, bad: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    options = ("--good", broken, "--good", bad, "--good", good, "--bad", bad)
    status, printed = run("golden", recipe_dir, *options, "--device", "cpu")
    assert status == 1
    assert f"{broken}: must be judged PASS, but cannot be judged: " in printed
    assert f"{bad}: must be judged PASS, got FAIL: score " in printed
    assert printed.count("; nothing was stored") == 2
    assert golden_files(recipe_dir) == []


def test_frame_is_refused_when_it_is_golden_already(run: Run, recipe_dir: Path, good: Path, tmp_path: Path) -> None:
    copy = shutil.copy(good, tmp_path / "copy.jpg")
    status, printed = run("golden", recipe_dir, "--good", good, "--good", copy, "--device", "cpu")
    assert (status, golden_files(recipe_dir)) == (1, [])
    assert f"{copy}: must not be a golden frame already, but is the same as {good}" in printed
    assert run("golden", recipe_dir, "--good", good, "--device", "cpu")[0] == 0
    status, printed = run("golden", recipe_dir, "--bad", copy, "--device", "cpu")
    assert (status, golden_files(recipe_dir)) == (1, ["good-1.jpg"])
    assert f"{copy}: must not be a golden frame already, but is the same as golden/good-1.jpg" in printed


def test_recipe_has_none_left_when_cleared(run: Run, recipe_dir: Path, good: Path, bad: Path) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    run("golden", recipe_dir, "--good", good, "--bad", bad, "--device", "cpu")
    (recipe_dir / "golden/bad-1.png").unlink()  # one that is gone does not stand in the way
    status, printed = run("golden", recipe_dir, "--clear")
    assert status == 0
    assert "recipe tiny has no golden frames" in printed
    assert (recipe_dir / "recipe.yaml").read_bytes() == before
    assert not (recipe_dir / "golden").exists()


def test_others_take_their_place_when_cleared_with_new_ones(run: Run, recipe_dir: Path, good: Path, bad: Path) -> None:
    run("golden", recipe_dir, "--good", good, "--device", "cpu")
    (recipe_dir / "golden/by-hand.png").write_bytes(b"mine")
    assert run("golden", recipe_dir, "--clear", "--bad", good, "--device", "cpu")[0] == 1
    assert golden_files(recipe_dir) == ["by-hand.png", "good-1.jpg"]
    assert run("golden", recipe_dir, "--clear", "--bad", bad, "--good", good, "--device", "cpu")[0] == 0
    assert golden_files(recipe_dir) == ["bad-1.png", "by-hand.png", "good-2.jpg"]
    assert [each.file for each in load_recipe(recipe_dir).golden] == ["golden/good-2.jpg", "golden/bad-1.png"]


def test_recipe_and_folder_stay_when_the_disk_takes_no_more(
    run: Run, recipe_dir: Path, good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()

    def write(path: Path, content: bytes) -> None:
        if path.name == "recipe.yaml":
            raise InspectorError(f"{path}: cannot be written: full")
        write_whole(path, content)

    monkeypatch.setattr("inspector.training.golden.write_whole", write)
    status, printed = run("golden", recipe_dir, "--good", good, "--bad", bad, "--device", "cpu")
    assert status == 1
    assert "golden frames cannot be written, so nothing was changed" in printed
    assert (recipe_dir / "recipe.yaml").read_bytes() == before
    assert golden_files(recipe_dir) == []


def test_listing_says_which_no_longer_hold(run: Run, recipe_dir: Path, good: Path, bad: Path) -> None:
    run("golden", recipe_dir, "--good", good, "--bad", bad, "--device", "cpu")
    path = recipe_dir / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["threshold"]["value"] = 100.0  # by hand
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    status, printed = run("golden", recipe_dir, "--device", "cpu")
    assert status == 78
    assert f"{recipe_dir / 'golden/bad-1.png'}: golden frame: must be judged FAIL, got PASS: score" in printed
    assert "PASS golden/good-1.jpg, score" in printed
    assert "proved" not in printed


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_frame_is_refused_when_it_is_no_image(run: Run, recipe_dir: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    status, printed = run("golden", recipe_dir, "--bad", tmp_path / "x.png", "--device", "cpu")
    assert (status, golden_files(recipe_dir)) == (1, [])
    refusal = "must be judged FAIL, but cannot be judged: image: must be JPEG, PNG, TIFF, WebP, BMP or PNM"
    assert f"{tmp_path / 'x.png'}: {refusal}" in printed


def test_missing_file_is_wrong_usage(run: Run, recipe_dir: Path, tmp_path: Path) -> None:
    assert run("golden", recipe_dir, "--good", tmp_path / "none.png")[0] == 2


def test_recipe_without_a_threshold_is_refused(run: Run, recipe_dir: Path, good: Path) -> None:
    path = recipe_dir / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(recipe | {"threshold": None}), encoding="utf-8")
    status, printed = run("golden", recipe_dir, "--good", good, "--device", "cpu")
    assert status == 78
    assert "threshold: required to judge frames; run inspector calibrate" in printed


def test_check_counts_golden_frames_and_names_an_altered_one(
    run: Run, recipe_dir: Path, good: Path, bad: Path, tmp_path: Path
) -> None:
    station = tmp_path / "station.yaml"
    station.write_text(yaml.safe_dump(base_config(recipe_dir)), encoding="utf-8")
    assert "no golden frames" in run("check", station)[1]
    run("golden", recipe_dir, "--good", good, "--bad", bad, "--device", "cpu")
    status, printed = run("check", station, "--no-environment")
    assert status == 0, printed
    status, printed = run("check", station)
    assert status == 0, printed
    assert "2 golden frame(s) judged as expected" in printed
    (recipe_dir / "golden/bad-1.png").write_bytes(good.read_bytes())
    for arguments in ((station, "--no-environment"), (station,)):
        status, printed = run("check", *arguments)
        assert status == 78
        assert "golden/bad-1.png: altered: sha256 must be" in printed


def test_check_warns_where_nothing_proves_that_a_defect_fails(
    run: Run, recipe_dir: Path, good: Path, bad: Path, tmp_path: Path
) -> None:
    station, path = tmp_path / "station.yaml", recipe_dir / "recipe.yaml"
    station.write_text(yaml.safe_dump(base_config(recipe_dir)), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = {"threshold": "threshold:", "golden": "golden: []"}
    places = {key: f"{path}:{lines.index(line) + 1}:1" for key, line in keys.items()}
    status, printed = run("check", station, "--no-environment", "--json")
    found = {row["what"]: row for row in json.loads(printed)["findings"] if row["result"] == "WARN"}
    assert status == 0
    assert set(found) == {f"cameras.top.recipe {name}" for name in ("threshold", "expected_frames", "golden")}
    for key, place in places.items():
        assert found[f"cameras.top.recipe {key}"]["problem"].startswith(f"{place}: {key}: ")
    run("golden", recipe_dir, "--bad", bad, "--device", "cpu")
    assert "golden: no frame with the verdict FAIL" not in run("check", station, "--no-environment")[1]


def test_check_names_the_place_of_each_edit_and_of_an_area_that_cannot_fail(
    run: Run, recipe_dir: Path, tmp_path: Path
) -> None:
    station, path = tmp_path / "station.yaml", recipe_dir / "recipe.yaml"
    station.write_text(yaml.safe_dump(base_config(recipe_dir)), encoding="utf-8")
    recipe = load_recipe(recipe_dir)
    calibrated = recipe.model_copy(update={"threshold": Threshold(value=3.0, method="gumbel")})
    text = dump_recipe(seal(calibrated)).replace("\nsigma: 2.0", "\nsigma: 8.0")
    path.write_text(text, encoding="utf-8")
    status, printed = run("check", station, "--no-environment")
    assert status == 78
    place = f"{path}:{text.splitlines().index('sigma: 8.0') + 1}:1"
    assert f"{place}: sigma: must be 2.0, as when the threshold was set, got 8.0" in printed
    path.write_text(dump_recipe(recipe.model_copy(update={"min_region_area": 20_481})), encoding="utf-8")
    status, printed = run("check", station, "--no-environment")
    assert status == 78
    assert "min_region_area: must be at most 20480" in printed
