"""Golden frames in a recipe's folder: stored whole or not at all, and gone with the recipe that is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.config import load_recipe
from inspector.errors import InspectorError, RecipeError
from inspector.recipe.network import load_model
from inspector.training.golden import KnownFrame, update_golden
from inspector.training.recipe_writer import write_recipe


@pytest.fixture
def frame(tmp_path: Path) -> KnownFrame:
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(80, 120, (64, 96, 3), dtype=np.uint8))
    return KnownFrame(path, "PASS")


def test_another_is_refused_when_one_that_is_there_no_longer_holds(
    threshold_recipe_dir: Path, frame: KnownFrame, tmp_path: Path
) -> None:
    folder = shutil.copytree(threshold_recipe_dir, tmp_path / "recipe")
    update_golden(folder, [frame], device="cpu")
    (folder / "golden/good-1.png").write_bytes(b"")
    before = (folder / "recipe.yaml").read_bytes()
    with pytest.raises(RecipeError, match=r"good-1\.png: altered"):
        update_golden(folder, [frame], device="cpu")
    assert (folder / "recipe.yaml").read_bytes() == before


def test_frame_is_named_when_it_cannot_be_read(threshold_recipe_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InspectorError, match=r"gone\.png: cannot be read"):
        update_golden(threshold_recipe_dir, [KnownFrame(tmp_path / "gone.png", "PASS")], device="cpu")


def test_golden_frames_go_when_a_new_recipe_takes_the_place_of_theirs(
    threshold_recipe_dir: Path, frame: KnownFrame, tmp_path: Path
) -> None:
    folder = shutil.copytree(threshold_recipe_dir, tmp_path / "recipe")
    fresh = load_recipe(folder)
    assert len(update_golden(folder, [frame], device="cpu").golden) == 1
    write_recipe(fresh, load_model(folder, fresh), folder)
    assert load_recipe(folder).golden == ()
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.yaml", "weights.safetensors"]
