"""Tiles of good frames, kept in the recipe with their scores: what every engine must reproduce before it may judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from inspector.engine.base import Engine, Precision
from inspector.errors import RecipeError
from inspector.files import read_verified

MAX_SHIFT = {Precision.FP32: 0.001, Precision.BF16: 0.03, Precision.FP16: 0.03, Precision.INT8: 0.10}
"""How far a precision may move the score of a probe tile from float32, as a share of the highest of their scores."""

MAX_DRIFT = {Precision.FP32: 0.001, Precision.BF16: 0.02, Precision.FP16: 0.02, Precision.INT8: 0.02}
"""How far another machine may move it from what the threshold was set with, in the same precision."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Tiles of good frames, and what they score.

    Attributes:
        tiles: (n, 3, t, t) in [0, 255], at least one.
        reference: (n,) scores by the reference engine: eager float32.
        calibrated: (n,) scores by the engine that the threshold was set with.
    """

    tiles: Tensor
    reference: Tensor
    calibrated: Tensor

    def compare(self, scores: Tensor, with_: Tensor) -> float:
        """How far scores (n,) are from others at most, as a share of the highest; infinity where one is not finite."""
        shift = float((scores - with_).abs().max() / self.reference.abs().max().clamp(min=1e-6))
        return shift if torch.isfinite(scores).all() else float("inf")


def score_tiles(engine: Engine, tiles: Tensor) -> Tensor:
    """Scores (n,) of tiles (n, 3, t, t): the highest of each one's map."""
    scores = []
    for batch in torch.split(tiles, len(engine.tiles)):
        engine.tiles[: len(batch)].copy_(batch)
        scores.append(engine.infer(len(batch)).amax(dim=(1, 2)).cpu())
    return torch.cat(scores)


def dump_probe(probe: Probe) -> bytes:
    """The content of a probe's file."""
    tensors = {"tiles": probe.tiles, "reference": probe.reference, "calibrated": probe.calibrated}
    return bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def load_probe(path: Path, sha256: str) -> Probe:
    """Read a probe, its checksum verified.

    Raises:
        RecipeError: missing, altered or not a probe.
    """
    try:
        content = load(read_verified(path, sha256))
        probe = Probe(content["tiles"], content["reference"], content["calibrated"])
    except (SafetensorError, KeyError) as error:
        raise RecipeError(f"{path}: not a probe: {error}") from error
    if not len(probe.tiles) == len(probe.reference) == len(probe.calibrated) > 0:
        raise RecipeError(f"{path}: not a probe: must have as many scores as tiles, and at least one")
    return probe
