"""Tiles of good frames, kept in the recipe with their scores: what every engine must reproduce before it may judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inspector.engine.base import Engine, Precision
from inspector.errors import RecipeError
from inspector.model.checkpoint import compute_sha256, verify_sha256

MAX_SHIFT = {Precision.FP32: 0.001, Precision.BF16: 0.03, Precision.FP16: 0.03, Precision.INT8: 0.15}
"""How far a precision may move the score of a probe tile, as a share of the highest of their scores."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Tiles (n, 3, t, t) in [0, 255] and their scores (n,) by the reference: eager float32."""

    tiles: Tensor
    scores: Tensor

    def measure_shift(self, engine: Engine) -> float:
        """How far `engine` moves a score at most, as a share of the highest; infinity where one is not finite."""
        scores = score_tiles(engine, self.tiles)
        shift = float((scores - self.scores).abs().max() / self.scores.abs().max().clamp(min=1e-6))
        return shift if torch.isfinite(scores).all() else float("inf")


def score_tiles(engine: Engine, tiles: Tensor) -> Tensor:
    """Scores (n,) of tiles (n, 3, t, t): the highest of each one's map."""
    scores = []
    for batch in torch.split(tiles, len(engine.tiles)):
        engine.tiles[: len(batch)].copy_(batch)
        scores.append(engine.infer(len(batch)).amax(dim=(1, 2)).cpu())
    return torch.cat(scores)


def save_probe(probe: Probe, path: Path) -> str:
    """Write a probe and return its SHA-256.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    save_file({"tiles": probe.tiles.contiguous(), "scores": probe.scores}, path)
    path.chmod(0o644)
    return compute_sha256(path)


def load_probe(path: Path, sha256: str) -> Probe:
    """Read a probe, its checksum verified.

    Raises:
        RecipeError: missing, altered or not a probe.
    """
    verify_sha256(path, sha256)
    try:
        content = load_file(path)
        return Probe(content["tiles"], content["scores"])
    except (OSError, SafetensorError, KeyError) as error:
        raise RecipeError(f"{path}: not a probe: {error}") from error
