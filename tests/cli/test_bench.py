"""`inspector bench`: what it times, and what it wants to know."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from inspector.config import Recipe, Threshold, Tiling, dump_recipe, load_recipe
from inspector.detection.looks import compute_look
from inspector.recipe.network import build_model
from inspector.training.expectations import adopt_expectation
from inspector.training.recipe_writer import write_recipe
from inspector.types import PixelFormat


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(
        recipe_id="tiny",
        backbone="resnet18",
        sigma=2.0,
        precision="fp32",
        tiling=Tiling(tile_size=64, stride=64),
        threshold=Threshold(value=100.0, method="manual"),
        weights_sha256="0" * 64,
    )
    folder = tmp_path_factory.mktemp("recipes") / "tiny"
    write_recipe(recipe, build_model(recipe), folder)
    return folder


@pytest.mark.engine
def test_throughput_is_that_of_the_frames_timed_when_a_recipe_is_given(run: Any, recipe_dir: Path) -> None:
    status, out = run("bench", recipe_dir, "--frame-hw", 128, 192, "--frames", 3)
    assert status == 0
    assert "tiny: fp32, OpenVINO" in out
    assert "3 frames of 128×192, 6 tiles per frame" in out
    values = {name: float(value) for name, value in re.findall(r"│ (\S+) +│ ([\d.]+) ", out)}
    assert values["tiles/s"] == pytest.approx(6 * values["frames/s"], rel=0.05)


@pytest.mark.engine
def test_noise_is_timed_when_the_recipe_would_refuse_it_for_what_it_shows(
    run: Any, recipe_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "expecting"
    shutil.copytree(recipe_dir, folder)
    looks = [compute_look(np.full((128, 192, 3), 90, np.uint8), PixelFormat.RGB8)] * 20
    recipe = adopt_expectation(load_recipe(folder), looks, folder)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    status, out = run("bench", folder, "--frame-hw", 128, 192, "--frames", 1)
    assert status == 0, out
    assert "6 tiles per frame" in out


@pytest.mark.engine
def test_each_camera_is_timed_when_a_station_is_given(run: Any, recipe_dir: Path, tmp_path: Path) -> None:
    cameras = {name: {"recipe": str(recipe_dir)} for name in ("top", "side")}
    station = {"schema": 1, "station": "press", "state_dir": str(tmp_path / "state"), "cameras": cameras}
    (tmp_path / "station.yaml").write_text(yaml.safe_dump(station), encoding="utf-8")
    status, out = run("bench", tmp_path / "station.yaml", "--frame-hw", 64, 64, "--frames", 1)
    assert status == 0
    assert "top: 1 frames of 64×64, 1 tiles per frame" in out
    assert "side: 1 frames of 64×64, 1 tiles per frame" in out


def test_bench_asks_for_the_size_when_the_recipe_takes_any(run: Any, recipe_dir: Path) -> None:
    status, out = run("bench", recipe_dir)
    assert status == 2
    assert "--frame-hw" in out
