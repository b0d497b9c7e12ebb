"""The reference engine: torch in float32, operation by operation, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inspector.engine.base import Precision, allocate_tiles, allow_only_float32
from inspector.types import Fallback


class EagerEngine:
    """Runs the model as it is. What the other engines are measured against, and what they fall back to."""

    pays_for_full_batch = False
    frames_in_flight = 1
    brings_own_threads = False
    fallback = Fallback.NONE
    precision = Precision.FP32

    def __init__(
        self,
        model: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        side: int,
        dtype: torch.dtype = torch.uint8,
        device: torch.device,
        batch: int = 8,
    ) -> None:
        """Move `model`, which maps normalised images (B, 3, t, t) to maps (B, 1, t, t), to the device.

        Args:
            model: the network.
            mean: of RGB in [0, 1].
            std: of RGB in [0, 1].
            side: of a tile, in pixels.
            dtype: of the tiles.
            device: where to run.
            batch: tiles at once.
        """
        if device.type == "cuda":
            allow_only_float32()
        self.name = f"eager on {device}"
        self.device = device
        self.tiles = allocate_tiles(batch, side, dtype, device)
        self._mean = 255 * torch.tensor(mean, device=device).view(3, 1, 1)
        self._std = 255 * torch.tensor(std, device=device).view(3, 1, 1)
        self._model = model.to(device).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def infer(self, count: int) -> Tensor:
        images = (self.tiles[:count].float() - self._mean) / self._std
        maps: Tensor = self._model(images)
        return maps[:, 0]

    def halve_batch(self) -> None:
        self.tiles = self.tiles[: max(1, len(self.tiles) // 2)]
