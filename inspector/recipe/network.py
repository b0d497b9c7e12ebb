"""The network that a recipe describes."""

from __future__ import annotations

from pathlib import Path

from inspector.config import WEIGHTS_FILE, Recipe
from inspector.errors import RecipeError
from inspector.files import read_verified
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
            student=recipe.student,
        )
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.recipe_id}: {error}") from error


def read_weights(folder: Path, recipe: Recipe) -> bytes:
    """The file of the recipe's weights, its checksum verified.

    Raises:
        RecipeError: missing or altered.
    """
    return read_verified(folder / WEIGHTS_FILE, recipe.weights_sha256)


def fill_model(recipe: Recipe, weights: bytes, folder: Path) -> ReverseDistillation:
    """The recipe's trained network, on the CPU.

    Args:
        recipe: the recipe.
        weights: what `read_weights` read.
        folder: where, for messages.

    Raises:
        RecipeError: they do not fit.
    """
    model = build_model(recipe)
    load_weights(model, weights, folder / WEIGHTS_FILE)
    return model.eval()


def load_model(folder: Path, recipe: Recipe) -> ReverseDistillation:
    """Both in one. Raises as they do."""
    return fill_model(recipe, read_weights(folder, recipe), folder)
