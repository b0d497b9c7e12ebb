"""A recipe with random weights, and a data set it can be measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.config import Recipe, Threshold, Tiling
from inspector.engine.build import build_eager
from inspector.engine.eager import EagerEngine
from inspector.recipe.network import build_model
from inspector.training.recipe_writer import write_recipe


@pytest.fixture(autouse=True)
def _reference_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager instead of the device's engine, which takes seconds to convert, but for tests marked `engine`."""
    if request.node.get_closest_marker("engine"):
        return

    def build(recipe: Recipe, load_model: Any, *, device: torch.device, **options: Any) -> EagerEngine:
        return build_eager(recipe, load_model(), device=device)

    for module in ("inspector.recipe.opening", "inspector.training.optimise.training_setup"):
        monkeypatch.setattr(f"{module}.build_engine", build)


@pytest.fixture(autouse=True)
def _few_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map normalisation and validation take 16 tiles, not 256 and 64: most of what a training of two steps takes."""
    monkeypatch.setattr("inspector.training.optimise.fitting._NORMALISATION_TILES", 16)
    monkeypatch.setattr("inspector.training.optimise.fitting._VALIDATION_TILES", 16)


@pytest.fixture(scope="session")
def threshold_recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with random weights and a threshold nothing reaches."""
    recipe = Recipe(
        recipe_id="random",
        backbone="resnet18",
        sigma=2.0,
        precision="fp32",
        tiling=Tiling(tile_size=64, stride=64),
        threshold=Threshold(value=100.0, method="manual"),
        weights_sha256="0" * 64,
    )
    folder = tmp_path_factory.mktemp("recipes") / "random"
    torch.manual_seed(0)
    write_recipe(recipe, build_model(recipe), folder)
    return folder


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """MVTec layout: two good frames, two with a dent, masks for the dents."""
    folder = tmp_path / "dataset"
    for kind in ("test/good", "test/dent", "ground_truth/dent"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(80, 120, (64, 96, 3), dtype=np.uint8)
        kind = "dent" if number > 1 else "good"
        if kind == "dent":
            pixels[20:40, 30:50] = 255
            mask = np.zeros((64, 96), np.uint8)
            mask[20:40, 30:50] = 255
            suffix = "_mask" if number == 2 else ""  # both spellings are in use
            cv2.imwrite(str(folder / f"ground_truth/dent/{number}{suffix}.png"), mask)
        cv2.imwrite(str(folder / f"test/{kind}/{number}.png"), pixels)
    return folder
