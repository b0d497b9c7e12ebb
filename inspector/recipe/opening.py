"""A recipe's folder becomes a detector: every file verified, from the bytes that are then used."""

from __future__ import annotations

from pathlib import Path

import torch

from inspector.config import Recipe, load_recipe
from inspector.detection.detector import Detector
from inspector.engine.build import build_engine
from inspector.engine.cache import find_user_cache
from inspector.recipe.masks import check_area, load_roi, load_zones
from inspector.recipe.network import fill_model, read_weights
from inspector.recipe.references import load_expectation


def open_detector(
    folder: Path,
    *,
    device: torch.device,
    tile_batch: int | None = None,
    recipe: Recipe | None = None,
    cache: Path | None = None,
    proved: bool = True,
    whole_maps: bool = False,
) -> Detector:
    """Load a recipe folder, every checksum verified, onto the engine that its precision and the device ask for.

    Args:
        folder: the recipe.
        device: see `choose_device`.
        tile_batch: tiles at once; None: what suits the device.
        recipe: instead of the folder's recipe.yaml.
        cache: where compiled artefacts are kept; None: the user's cache.
        proved: as for `build_engine`.
        whole_maps: as for `Detector`.

    Raises:
        RecipeError: anything missing, altered or not fitting, or scores that move in the recipe's precision.
    """
    recipe = recipe or load_recipe(folder)
    weights = read_weights(folder, recipe)
    roi, zones = load_roi(folder, recipe), load_zones(folder, recipe)
    expectation = load_expectation(recipe, folder)
    check_area(recipe, roi, zones)
    engine = build_engine(
        recipe,
        lambda: fill_model(recipe, weights, folder),
        device=device,
        batch=tile_batch,
        folder=folder,
        cache=cache or find_user_cache(),
        proved=proved,
    )
    return Detector(recipe, engine, roi=roi, zones=zones, expectation=expectation, whole_maps=whole_maps)
