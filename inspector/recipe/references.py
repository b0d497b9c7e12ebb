"""What a recipe's good frames show, in a file of its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from inspector.config import Recipe
from inspector.detection.looks import Expectation, References
from inspector.errors import RecipeError
from inspector.files import read_verified


def dump_references(references: References) -> bytes:
    """The content of the file."""
    names = References.__slots__
    return bytes(save({name: np.ascontiguousarray(getattr(references, name)) for name in names}))


def load_expectation(recipe: Recipe, folder: Path) -> Expectation | None:
    """What the recipe in `folder` expects of a frame, checksum verified; None where it says nothing.

    Raises:
        RecipeError: the file is missing, altered or something else.
    """
    expected = recipe.expected_frames
    if expected is None:
        return None
    path = folder / expected.references
    try:
        references = References(**load(read_verified(path, expected.references_sha256)))
        references.check()
    except (SafetensorError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: expected_frames.references: cannot be read: {error}") from error
    return Expectation(expected, references)
