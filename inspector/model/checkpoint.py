"""Weights on disk: safetensors with a SHA-256, never a pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from inspector.errors import RecipeError


def save_weights(model: nn.Module, path: Path) -> str:
    """Write all weights, encoder included, to `path` and return the file's SHA-256 in hex."""
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path)
    path.chmod(0o644)  # safetensors leaves 0600: the service, another user, must read it
    return compute_sha256(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from `path`; every tensor must be there and fit.

    Raises:
        RecipeError: the file is missing, unreadable or of another model, or a weight is NaN or infinite: not every
            engine would carry that on into its maps.
    """
    try:
        weights = load_file(path)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RecipeError(f"{path}: weights do not load into this recipe's model: {error}") from error
    for name, values in weights.items():
        if not values.isfinite().all():
            raise RecipeError(f"{path}: {name}: weights must be finite, {int((~values.isfinite()).sum())} are not")


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_sha256(path: Path, expected: str) -> None:
    """Check a file's SHA-256.

    Raises:
        RecipeError: another one, or the file cannot be read.
    """
    try:
        found = compute_sha256(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    if found != expected:
        raise RecipeError(f"{path}: altered: sha256 must be {expected}, got {found}")
