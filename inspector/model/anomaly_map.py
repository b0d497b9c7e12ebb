"""The anomaly map (paper, equations 3 and 4): cosine distance of teacher and student, fused and smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AnomalyMapMode(StrEnum):
    """How the layers' maps become one. ADD: any layer may raise it (official evaluation). MULTIPLY: all must agree."""

    ADD = "add"
    MULTIPLY = "multiply"


class AnomalyMapGenerator(nn.Module):
    """Teacher and student features → one smoothed map at the input's size."""

    kernel: Tensor

    def __init__(
        self,
        input_size: tuple[int, int],
        anomaly_map_mode: AnomalyMapMode | str = AnomalyMapMode.ADD,
        sigma: float = 4.0,
    ) -> None:
        """Build it.

        Args:
            input_size: (height, width) of the map.
            anomaly_map_mode: add or multiply.
            sigma: standard deviation of the Gaussian, in pixels; 0 leaves the map unsmoothed.

        Raises:
            ValueError: sigma below 0, or too wide for the input size (reflection needs size > radius).
        """
        super().__init__()
        self.input_size = input_size
        self.mode = AnomalyMapMode(anomaly_map_mode)
        if sigma < 0:
            raise ValueError(f"sigma: must be at least 0, got {sigma}")
        radius = int(4.0 * sigma + 0.5)
        if radius >= min(input_size):
            raise ValueError(f"sigma: 4·sigma must stay below the input size {input_size}, got {sigma}")
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2) if sigma else torch.ones(1)
        # One 1-D kernel: the Gaussian is separable. Not in the checkpoint, since sigma says it all.
        self.register_buffer("kernel", weights / weights.sum(), persistent=False)

    def forward(self, encoder_features: Sequence[Tensor], decoder_features: Sequence[Tensor]) -> Tensor:
        """Anomaly map (B, 1, H, W), float; each layer's share lies in [0, 2], 0 where the student is right."""
        layers = [
            F.interpolate(
                (1 - F.cosine_similarity(teacher, student, dim=1)).unsqueeze(1),
                size=self.input_size,
                mode="bilinear",
                align_corners=True,
            )
            for teacher, student in zip(encoder_features, decoder_features, strict=True)
        ]
        fused = layers[0]
        for layer in layers[1:]:
            fused = fused + layer if self.mode is AnomalyMapMode.ADD else fused * layer
        return self._blur(fused)

    def _blur(self, maps: Tensor) -> Tensor:
        radius = self.kernel.numel() // 2
        kernel = self.kernel.to(maps.dtype)
        padded = F.pad(maps, (radius, radius, radius, radius), mode="reflect")
        return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
