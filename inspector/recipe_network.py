"""The network that a recipe describes."""

from __future__ import annotations

from pathlib import Path

from inspector.config import WEIGHTS_FILE, Recipe
from inspector.errors import RecipeError
from inspector.model import ReverseDistillation
from inspector.model.checkpoint import load_weights


def build_model(recipe: Recipe, *, pre_trained: bool = False) -> ReverseDistillation:
    """The recipe's network, weights still random, or with the encoder's fetched through timm.

    Raises:
        RecipeError: a parameter the network refuses.
        WeightsError: the encoder's weights cannot be fetched.
    """
    side = recipe.tiling.tile_size
    try:
        return ReverseDistillation(
            recipe.backbone,
            (side, side),
            recipe.layers,
            recipe.anomaly_map_mode,
            pre_trained=pre_trained,
            sigma=recipe.sigma,
            bottleneck_width=recipe.bottleneck_width,
            map_normalisation=recipe.map_normalisation,
        )
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.recipe_id}: {error}") from error


def load_model(folder: Path, recipe: Recipe) -> ReverseDistillation:
    """The recipe's trained network, on the CPU.

    Raises:
        RecipeError: the weights are missing or do not fit.
    """
    model = build_model(recipe)
    load_weights(model, folder / WEIGHTS_FILE)
    return model.eval()
