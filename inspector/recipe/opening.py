"""A recipe's folder becomes a detector: every file verified, from the bytes that are then used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from inspector.config import Recipe, load_recipe
from inspector.detection.decision import Mask
from inspector.detection.detector import Detector
from inspector.detection.fixture import Fixture
from inspector.detection.looks import Expectation
from inspector.engine.build import build_engine
from inspector.engine.cache import find_user_cache
from inspector.recipe.fixture import load_fixture
from inspector.recipe.masks import check_area, load_roi, load_zones
from inspector.recipe.network import fill_model, read_weights
from inspector.recipe.references import load_expectation


@dataclass(frozen=True, slots=True)
class OpenedRecipe:
    """A recipe's folder, read and verified: whoever uses it need not look at the disk again.

    Attributes:
        recipe: what recipe.yaml says.
        weights: the file of the network's weights.
        roi, zones: where anomalies count; see `Detector`.
        expectation: what frames must look like; None in recipes from before.
        fixture: what frames are warped onto; None: they stay as they lie.
    """

    recipe: Recipe
    weights: bytes
    roi: Mask | None
    zones: dict[str, Mask]
    expectation: Expectation | None
    fixture: Fixture | None


def open_recipe(folder: Path, recipe: Recipe | None = None) -> OpenedRecipe:
    """Read a recipe's folder, every checksum verified; what an engine needs beside is read by `build_engine`.

    Raises:
        RecipeError: anything missing, altered or not fitting.
    """
    recipe = recipe or load_recipe(folder)
    weights = read_weights(folder, recipe)
    roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
    expectation = load_expectation(recipe, folder)
    check_area(recipe, roi, zones)
    return OpenedRecipe(recipe, weights, roi, zones, expectation, load_fixture(folder, recipe, roi))


def open_detector(
    folder: Path,
    *,
    device: torch.device,
    tile_batch: int | None = None,
    recipe: Recipe | None = None,
    cache: Path | None = None,
    proved: bool = True,
    timed: bool = True,
    whole_maps: bool = False,
) -> Detector:
    """Load a recipe folder, every checksum verified, onto the engine that its precision and the device ask for.

    Args:
        folder: the recipe.
        device: see `choose_device`.
        tile_batch: tiles at once; None: what suits the device.
        recipe: instead of the folder's recipe.yaml.
        cache: where compiled artefacts are kept; None: the user's cache.
        proved, timed: as for `build_engine`.
        whole_maps: as for `Detector`.

    Raises:
        RecipeError: anything missing, altered or not fitting, or scores that move in the recipe's precision.
    """
    opened = open_recipe(folder, recipe)
    engine = build_engine(
        opened.recipe,
        lambda: fill_model(opened.recipe, opened.weights, folder),
        device=device,
        batch=tile_batch,
        folder=folder,
        cache=cache or find_user_cache(),
        proved=proved,
        timed=timed,
    )
    return Detector(
        opened.recipe,
        engine,
        roi=opened.roi,
        zones=opened.zones,
        expectation=opened.expectation,
        fixture=opened.fixture,
        whole_maps=whole_maps,
    )
