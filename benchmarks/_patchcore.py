"""anomalib's PatchCore by its own code: features of good tiles, its coreset, its maps and its scores."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from inspector.config import Recipe
from inspector.detection.preprocessing import Pixels, normalise, preprocess
from inspector.detection.tiling import TileGrid, Tiler
from inspector.device import choose_device
from inspector.model.encoder import load_encoder_weights
from inspector.recipe.network import build_model
from inspector.training.data.datasets import FrameSet, list_images, read_image
from inspector.training.evaluation.evaluate import Evaluation
from inspector.training.evaluation.ground_truth import find_mask
from inspector.training.evaluation.image_metrics import compute_image_metrics
from inspector.training.evaluation.pixel_evaluation import NO_PIXELS, compute_pixel_metrics
from inspector.training.evaluation.samples import Sample
from inspector.types import PixelFormat, Verdict

PATCHCORE = "anomalib-patchcore"

_LAYERS = ("layer2", "layer3")
_BATCH = 8


@dataclass(frozen=True, slots=True)
class PatchCore:
    """Judges frames tile by tile, on the same tiles as ours.

    Attributes:
        recipe: says how frames are scaled and cut.
        model: anomalib's torch model, its bank filled.
        tiles_seen: good tiles that the bank was chosen from.
    """

    recipe: Recipe
    model: Any
    device: torch.device
    tiles_seen: int

    @torch.no_grad()
    def judge(self, pixels: Pixels, pixel_format: PixelFormat) -> tuple[np.ndarray[Any, Any], float]:
        """A frame's map (h, w) float32 at the network's scale, and its score: the highest of its tiles' scores."""
        image = preprocess(pixels, pixel_format, self.recipe.preprocessing)
        grid = _build_grid(self.recipe, image)
        judged = [self.model(part) for part in _cut(image, grid, self.recipe, self.device)]
        maps = torch.cat([part.anomaly_map for part in judged])[:, 0]
        return grid.untile(maps.cpu()).numpy(), max(float(part.pred_score.max()) for part in judged)

    def evaluate(self, dataset: Path, threshold: float) -> Evaluation:
        """Judge each test frame, and measure with the code that ours is measured with."""
        samples, maps = [], []
        with tempfile.TemporaryDirectory(prefix="inspector-maps-") as folder:
            for number, path in enumerate(list_images(dataset / "test")):
                pixels, pixel_format = read_image(path)
                values, score = self.judge(pixels, pixel_format)
                maps.append(Path(folder) / f"{number}.npy")
                np.save(maps[-1], values)
                verdict = Verdict.FAIL if score > threshold else Verdict.PASS
                mask, frame_hw = find_mask(dataset, path), (pixels.shape[0], pixels.shape[1])
                samples.append(Sample(path, path.parent.name, score, verdict, mask, frame_hw, 0.0))
            pixel = compute_pixel_metrics(samples, maps)
        metrics = compute_image_metrics([each.kind for each in samples], [each.score for each in samples], threshold)
        by_kind = {kind: values | pixel.by_kind.get(kind, NO_PIXELS) for kind, values in metrics["by_kind"].items()}
        metrics |= pixel.whole | {"by_kind": by_kind}
        return Evaluation(self.recipe, dataset, threshold, metrics, tuple(samples))


def collect(frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace) -> PatchCore:
    """Fill its bank from all tiles of good frames; nothing is trained. `seed` changes the coreset alone."""
    from anomalib.models import Patchcore
    from anomalib.models.components import KCenterGreedy

    device = choose_device(arguments.device)
    peer = Patchcore(
        backbone=arguments.backbone,
        layers=_LAYERS,
        pre_trained=False,
        coreset_sampling_ratio=arguments.coreset_ratio,
        evaluator=False,
        visualizer=False,
    )
    ours = build_model(recipe)
    load_encoder_weights(ours.encoder, arguments.encoder_weights)
    peer.model.feature_extractor.feature_extractor.load_state_dict(ours.encoder.feature_extractor.state_dict())
    model = peer.model.to(device).train()
    tiles = 0
    for number in range(len(frames)):
        image = frames[number]
        for part in _cut(image, _build_grid(recipe, image), recipe, device):
            tiles += len(part)
            model(part)
    torch.manual_seed(seed)
    np.random.seed(seed)  # its projection draws from here, its first centre from torch
    with mock.patch.object(KCenterGreedy, "update_distances", _update_distances):
        peer.fit()
    return PatchCore(recipe, model.eval(), device, tiles)


def _update_distances(sampler: Any, cluster_center: Tensor) -> None:
    """As the coreset's own, squared and by one product: its own writes all differences out, which takes far longer."""
    if sampler.min_distances is None:
        sampler.norms = sampler.features.pow(2).sum(1)
        sampler.min_distances = torch.full_like(sampler.norms[:, None], torch.inf)
    centre = sampler.features[cluster_center].squeeze()
    distances = torch.addmv(sampler.norms, sampler.features, centre, alpha=-2) + centre.pow(2).sum()
    sampler.min_distances = torch.minimum(sampler.min_distances, distances.clamp_min_(0)[:, None])


def _build_grid(recipe: Recipe, image: Tensor) -> TileGrid:
    return Tiler(recipe.tiling.tile_size, recipe.tiling.stride).grid((image.shape[1], image.shape[2]))


def _cut(image: Tensor, grid: TileGrid, recipe: Recipe, device: torch.device) -> Iterator[Tensor]:
    """Batches of normalised tiles (n, 3, t, t)."""
    for part in grid.tile(image).split(_BATCH):
        yield normalise(part.to(device), recipe.preprocessing)
