"""The network as it is run on the line: bytes → distances of the layers → map. The same function as the model's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspector.model import ReverseDistillation
from inspector.model.anomaly_map import STRIDES, AnomalyMapGenerator, AnomalyMapMode, MapNormalisation
from inspector.model.folding import fold_batch_norm

_EPS = 1e-8
"""As in torch.nn.functional.cosine_similarity: features of length 0 are at distance 1."""


class DistanceNetwork(nn.Module):
    """Tiles as they are in the frame → the cosine distances of teacher and student, per layer, in float32."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: ReverseDistillation,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over `model`'s weights, BatchNorms folded.

        Args:
            model: the trained network.
            mean: of RGB in [0, 1].
            std: of RGB in [0, 1].
            dtype: of weights and features; normalisation and distances are float32 always.
        """
        super().__init__()
        self.features = FeatureNetwork(fold_batch_norm(model).requires_grad_(False)).to(dtype).eval()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))
        self._dtype = dtype

    def forward(self, tiles: Tensor) -> tuple[Tensor, ...]:
        """Distances of `tiles` (B, 3, t, t) in [0, 255]: (B, t/4, t/4), (B, t/8, t/8), (B, t/16, t/16)."""
        return compare_layers(*self.features(self.normalise(tiles)))

    def normalise(self, tiles: Tensor) -> Tensor:
        """Images (B, 3, t, t) as the encoder takes them."""
        return ((tiles.float() - self.mean) / self.std).to(self._dtype)


class FeatureNetwork(nn.Module):
    """Normalised images → features of teacher and student, per layer: all that is convolution."""

    def __init__(self, model: ReverseDistillation) -> None:
        """Take over `model`'s parts."""
        super().__init__()
        self.encoder = model.encoder
        self.bottleneck = model.bottleneck
        self.decoder = model.decoder

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of `images` (B, 3, t, t), twice three maps at 1/4, 1/8, 1/16."""
        teacher = self.encoder(images)
        return teacher, self.decoder(self.bottleneck(teacher))


def compare_layers(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`compare`, per layer."""
    return tuple(compare(t, s) for t, s in zip(teacher, student, strict=True))


def compare(teacher: Tensor, student: Tensor) -> Tensor:
    """Cosine distance over the channels: (B, C, h, w) twice → (B, h, w) float32 (paper, equation 3).

    With norms as reductions of their own only one product as large as the features is written out.
    """
    teacher, student = teacher.float(), student.float()
    lengths = [torch.linalg.vector_norm(features, dim=1).clamp(min=_EPS) for features in (teacher, student)]
    distances: Tensor = 1 - (teacher * student).sum(dim=1) / (lengths[0] * lengths[1])
    return distances


class MapNetwork(nn.Module):
    """Distances of the layers → one smoothed map, by products with small matrices.

    Interpolation and Gaussian are linear and separable: on each axis both together are one matrix M per layer, and
    map = Σ M·D·Mᵀ. What was 33 taps twice on each pixel becomes products of 256 × 64 and smaller, always in float32.
    """

    def __init__(self, generator: AnomalyMapGenerator) -> None:
        """Take over `generator`'s parameters."""
        super().__init__()
        self._multiply = generator.mode is AnomalyMapMode.MULTIPLY
        self._normalised = generator.normalisation is MapNormalisation.POSITION
        gaussians = [_build_gaussian(size, generator.kernel.double().cpu()) for size in generator.input_size]
        for index, stride in enumerate(STRIDES):
            down, across = (_build_interpolation(size // stride, size) for size in generator.input_size)
            if not self._multiply:  # a product of maps is not linear: there the Gaussian comes after it
                down, across = gaussians[0] @ down, gaussians[1] @ across
            self.register_buffer(f"down{index}", down.float())
            self.register_buffer(f"across{index}", across.T.float().contiguous())
            if self._normalised:
                expected, deviations = generator.get_buffer(f"expected{index}"), generator.get_buffer("deviations")
                self.register_buffer(f"expected{index}", expected.detach().float().cpu().clone())
                self.register_buffer(f"deviation{index}", deviations[index].detach().float().cpu().clone())
        self.register_buffer("gaussian_down", gaussians[0].float())
        self.register_buffer("gaussian_across", gaussians[1].T.float().contiguous())

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """Maps (B, t, t) float32 of the layers' distances (B, t/4, t/4), (B, t/8, t/8), (B, t/16, t/16)."""
        layers = []
        for index, distances in enumerate((fine, middle, coarse)):
            if self._normalised:
                expected = self.get_buffer(f"expected{index}")
                distances = (distances - expected) / self.get_buffer(f"deviation{index}")  # noqa: PLW2901
            layers.append(self.get_buffer(f"down{index}") @ distances @ self.get_buffer(f"across{index}"))
        if not self._multiply:
            return layers[0] + layers[1] + layers[2]
        fused = layers[0] * layers[1] * layers[2]
        return self.get_buffer("gaussian_down") @ fused @ self.get_buffer("gaussian_across")


def _build_interpolation(inputs: int, outputs: int) -> Tensor:
    """(outputs, inputs) float64: linear interpolation with align_corners, as the map generator's."""
    identity = torch.eye(inputs, dtype=torch.float64)[None]
    return F.interpolate(identity, size=outputs, mode="linear", align_corners=True)[0].T


def _build_gaussian(size: int, kernel: Tensor) -> Tensor:
    """(size, size) float64: convolution with `kernel` on an axis whose ends are reflected."""
    radius = len(kernel) // 2
    identity = torch.eye(size, dtype=torch.float64)[:, None]
    padded = F.pad(identity, (radius, radius), mode="reflect") if radius else identity
    return F.conv1d(padded, kernel.view(1, 1, -1))[:, 0].T


class Forward(nn.Module):
    """Tiles → maps (B, t, t)."""

    def __init__(self, network: DistanceNetwork, maps: MapNetwork) -> None:
        super().__init__()
        self.network = network
        self.maps = maps

    def forward(self, tiles: Tensor) -> Tensor:
        maps: Tensor = self.maps(*self.network(tiles))
        return maps


class Finish(nn.Module):
    """Features → maps (B, t, t)."""

    def __init__(self, maps: MapNetwork) -> None:
        super().__init__()
        self._maps = maps

    def forward(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        maps: Tensor = self._maps(*compare_layers(teacher, student))
        return maps
