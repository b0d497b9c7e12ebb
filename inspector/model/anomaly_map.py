"""The anomaly map (paper, equations 3 and 4): cosine distance of teacher and student, fused and smoothed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AnomalyMapMode(StrEnum):
    """How the layers' maps become one. ADD: any layer may raise it (official evaluation). MULTIPLY: all must agree."""

    ADD = "add"
    MULTIPLY = "multiply"


class MapNormalisation(StrEnum):
    """What is done to each layer's distances before they are fused.

    NONE: nothing, as in the paper.
    POSITION: the distance that good tiles show at that place of the tile is subtracted, and the rest divided by the
        layer's own deviation. Convolutions see padding at the tile's border, where the student errs on good tiles
        too, and layers differ in how much they err: unnormalised, the loudest layer's border drowns the others.
    """

    NONE = "none"
    POSITION = "position"


STRIDES = (4, 8, 16)
"""Image pixels per position of layer1, layer2, layer3."""


class AnomalyMapGenerator(nn.Module):
    """Teacher and student features → one smoothed map at the input's size."""

    kernel: Tensor

    def __init__(
        self,
        input_size: tuple[int, int],
        anomaly_map_mode: AnomalyMapMode | str = AnomalyMapMode.ADD,
        sigma: float = 4.0,
        map_normalisation: MapNormalisation | str = MapNormalisation.NONE,
    ) -> None:
        """Build it.

        Args:
            input_size: (height, width) of the map.
            anomaly_map_mode: add or multiply.
            sigma: standard deviation of the Gaussian, in pixels; 0 leaves the map unsmoothed.
            map_normalisation: none or position; position changes nothing until `set_normalisation` is called or
                weights are loaded, and only adds up (a product of signed deviations means nothing).

        Raises:
            ValueError: sigma below 0, or too wide for the input size (reflection needs size > radius); position
                with multiply.
        """
        super().__init__()
        self.input_size = input_size
        self.mode = AnomalyMapMode(anomaly_map_mode)
        if sigma < 0:
            raise ValueError(f"sigma: must be at least 0, got {sigma}")
        radius = int(4.0 * sigma + 0.5)
        if radius >= min(input_size):
            raise ValueError(f"sigma: 4·sigma must stay below the input size {input_size}, got {sigma}")
        self.normalisation = MapNormalisation(map_normalisation)
        if self.normalisation is MapNormalisation.POSITION:
            if self.mode is not AnomalyMapMode.ADD:
                raise ValueError(
                    f"map_normalisation: must be none with anomaly_map_mode {self.mode.value}, got position"
                )
            for index, stride in enumerate(STRIDES):
                size = (input_size[0] // stride, input_size[1] // stride)
                self.register_buffer(f"expected{index}", torch.zeros(size))
            self.register_buffer("deviations", torch.ones(len(STRIDES)))
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2) if sigma else torch.ones(1)
        # One 1-D kernel: the Gaussian is separable. Not in the checkpoint, since sigma says it all.
        self.register_buffer("kernel", weights / weights.sum(), persistent=False)

    def forward(self, encoder_features: Sequence[Tensor], decoder_features: Sequence[Tensor]) -> Tensor:
        """Anomaly map (B, 1, H, W), float.

        Unnormalised, each layer's share lies in [0, 2], 0 where the student is right; normalised by position it is
        in deviations of good tiles, 0 where it is as expected, and may lie below 0.
        """
        layers = [
            F.interpolate(distances.unsqueeze(1), size=self.input_size, mode="bilinear", align_corners=True)
            for distances in self._normalise(compute_distances(encoder_features, decoder_features))
        ]
        fused = layers[0]
        for layer in layers[1:]:
            fused = fused + layer if self.mode is AnomalyMapMode.ADD else fused * layer
        return self._blur(fused)

    def set_normalisation(self, expected: Sequence[Tensor], deviations: Tensor) -> None:
        """Take over what `compute_normalisation` found: per layer (H/stride, W/stride), and (layers,)."""
        for index, values in enumerate(expected):
            getattr(self, f"expected{index}").copy_(values)
        self.get_buffer("deviations").copy_(deviations)

    def _normalise(self, layers: list[Tensor]) -> list[Tensor]:
        if self.normalisation is MapNormalisation.NONE:
            return layers
        deviations = self.get_buffer("deviations")
        return [
            (distances - self.get_buffer(f"expected{index}")) / deviations[index]
            for index, distances in enumerate(layers)
        ]

    def _blur(self, maps: Tensor) -> Tensor:
        radius = self.kernel.numel() // 2
        kernel = self.kernel.to(maps.dtype)
        padded = F.pad(maps, (radius, radius, radius, radius), mode="reflect")
        return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def compute_distances(encoder_features: Sequence[Tensor], decoder_features: Sequence[Tensor]) -> list[Tensor]:
    """Cosine distance of teacher and student at each position (paper, equation 3): per layer (B, h, w) in [0, 2]."""
    return [
        1 - F.cosine_similarity(teacher, student, dim=1)
        for teacher, student in zip(encoder_features, decoder_features, strict=True)
    ]


def compute_normalisation(batches: Iterable[Sequence[Tensor]]) -> tuple[list[Tensor], Tensor]:
    """What good tiles show: the mean distance per layer and position, and each layer's deviation about it.

    Args:
        batches: `compute_distances` of good tiles, at least two tiles in all.

    Returns:
        Means, per layer (h, w) float64; deviations (layers,) float64, each the mean over positions of the standard
        deviation over tiles, and above 0.

    Raises:
        ValueError: fewer than two tiles.
    """
    count = 0
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    for batch in batches:
        wide = [distances.double() for distances in batch]
        totals = [distances.sum(0) for distances in wide], [(distances**2).sum(0) for distances in wide]
        sums = [a + b for a, b in zip(sums, totals[0], strict=True)] if count else totals[0]
        squares = [a + b for a, b in zip(squares, totals[1], strict=True)] if count else totals[1]
        count += len(wide[0])
    if count < 2:
        raise ValueError(f"batches: at least 2 tiles are needed, got {count}")
    means = [total / count for total in sums]
    variances = [
        (square - count * mean**2).clamp(min=0) / (count - 1) for square, mean in zip(squares, means, strict=True)
    ]
    return means, torch.stack([variance.sqrt().mean().clamp(min=1e-6) for variance in variances])
