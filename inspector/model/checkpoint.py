"""Weights on disk: safetensors with a SHA-256, never a pickle."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from inspector.errors import RecipeError
from inspector.files import compute_sha256


def save_weights(model: nn.Module, path: Path) -> str:
    """Write all weights, encoder included, to `path` and return the file's SHA-256 in hex."""
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path)
    path.chmod(0o644)  # safetensors leaves 0600: the service, another user, must read it
    return compute_sha256(path)


def load_weights(model: nn.Module, content: bytes, path: Path) -> None:
    """Fill `model` from a file's content; every tensor must be there and fit. `path` is named in messages.

    Raises:
        RecipeError: it is unreadable or of another model, or a weight is NaN or infinite: not every engine would carry
            that on into its maps.
    """
    try:
        weights = load(content)
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise RecipeError(f"{path}: weights do not load into this recipe's model: {error}") from error
    for name, values in weights.items():
        if not values.isfinite().all():
            raise RecipeError(f"{path}: {name}: weights must be finite, but {int((~values.isfinite()).sum())} are not")
