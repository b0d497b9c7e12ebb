"""Weights on disk: what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from inspector.errors import RecipeError
from inspector.model.checkpoint import load_weights, save_weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_are_refused_when_not_finite(tmp_path: Path, value: float) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = tmp_path / "weights.safetensors"
    save_weights(model, path)
    load_weights(model, path.read_bytes(), path)
    model[1].running_var[0] = value
    save_weights(model, path)
    with pytest.raises(RecipeError, match=r"weights.safetensors: 1.running_var: weights must be finite, but 1 are not"):
        load_weights(model, path.read_bytes(), path)


def test_weights_are_refused_when_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(nn.Linear(3, 2), path)
    with pytest.raises(RecipeError, match="do not load into this recipe's model"):
        load_weights(nn.Linear(4, 2), path.read_bytes(), path)
    again = nn.Linear(3, 2)
    load_weights(again, path.read_bytes(), path)
    assert torch.isfinite(again.weight).all()
