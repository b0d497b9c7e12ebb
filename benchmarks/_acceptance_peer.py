"""The peer of `gpu_acceptance.py`: Reverse Distillation as anomalib runs it, which need not be there."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class EagerPeer:
    """Float32, operation by operation, all tiles of a frame at once; its map comes back to the host."""

    def __init__(
        self,
        model: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        tile: int,
        device: torch.device,
    ) -> None:
        """Copy `model`, which maps normalised images (B, 3, t, t) to maps (B, 1, t, t), to the device."""
        self._model = copy.deepcopy(model).to(device).eval()
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(std, device=device).view(3, 1, 1)
        self._tile = tile
        self._device = device

    @torch.no_grad()
    def judge(self, pixels: np.ndarray[Any, Any]) -> float:
        """The score of a frame (H, W, 3) uint8 RGB, padded with zeros to whole tiles."""
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        image = (image.to(self._device) - self._mean) / self._std
        side = self._tile
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % side, 0, -height % side))
        rows, columns = padded.shape[-2] // side, padded.shape[-1] // side
        tiles = padded.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
        maps = self._model(tiles).view(rows, columns, side, side).permute(0, 2, 1, 3)
        anomaly_map = maps.reshape(rows * side, columns * side)[:height, :width]
        return float(anomaly_map.cpu().max())
