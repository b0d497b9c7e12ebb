"""The networks of the folds, kept beside the recipe: they score good frames that the network that judges has learned.

`calibrate` needs them where a recipe was given a mask, a zone or another setting since. The daemon does not: the folder
may be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from inspector.config import Recipe
from inspector.files import read_verified
from inspector.model import ReverseDistillation
from inspector.model.checkpoint import load_weights, save_weights
from inspector.recipe.network import build_model
from inspector.training.data.record import FoldRecord

FOLDS_DIR = "folds"


def save_fold(model: ReverseDistillation, number: int, folder: Path) -> str:
    """Write a fold's weights into the recipe's folder; their SHA-256."""
    (folder / FOLDS_DIR).mkdir(exist_ok=True)
    return save_weights(model, _name(folder, number))


def has_folds(folder: Path) -> bool:
    """Whether the networks were kept."""
    return (folder / FOLDS_DIR).is_dir()


def load_folds(folder: Path, recipe: Recipe, folds: Sequence[FoldRecord]) -> Iterator[ReverseDistillation]:
    """The networks, on the CPU, one after the other.

    Raises:
        RecipeError: one is missing, altered or does not fit the recipe.
    """
    for number, fold in enumerate(folds):
        path = _name(folder, number)
        model = build_model(recipe)
        load_weights(model, read_verified(path, fold.weights_sha256), path)
        yield model.eval()


def _name(folder: Path, number: int) -> Path:
    return folder / FOLDS_DIR / f"{number}.safetensors"
