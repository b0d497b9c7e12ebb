"""The distillation loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReverseDistillationLoss(nn.Module):
    """Per layer 1 − cos over a sample's flattened C·H·W features, mean over the batch, summed over layers.

    The reference's loss; the paper's equation 2 takes the cosine per position instead.
    """

    def forward(self, encoder_features: Sequence[Tensor], decoder_features: Sequence[Tensor]) -> Tensor:
        """Scalar loss in [0, 2 · layers] of two equally long lists of (B, C, H, W) features."""
        per_layer = [
            1 - F.cosine_similarity(teacher.flatten(1), student.flatten(1), dim=1).mean()
            for teacher, student in zip(encoder_features, decoder_features, strict=True)
        ]
        return torch.stack(per_layer).sum()
