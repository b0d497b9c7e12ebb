"""The whole network: encoder → bottleneck → decoder → anomaly map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from inspector.model.anomaly_map import (
    AnomalyMapGenerator,
    AnomalyMapMode,
    MapNormalisation,
    compute_distances,
    compute_normalisation,
)
from inspector.model.backbones import BottleneckWidth, Student
from inspector.model.bottleneck import OneClassBottleneck
from inspector.model.decoder import Decoder
from inspector.model.encoder import LAYERS, Encoder


class ReverseDistillation(nn.Module):
    """Reverse Distillation from One-Class Embedding (arXiv 2201.10703).

    `forward` always returns anomaly maps, in training mode too; training reads `features`.
    """

    def __init__(
        self,
        backbone: str = "wide_resnet50_2",
        input_size: tuple[int, int] = (256, 256),
        layers: Sequence[str] = LAYERS,
        anomaly_map_mode: AnomalyMapMode | str = AnomalyMapMode.ADD,
        pre_trained: bool = True,
        sigma: float = 4.0,
        bottleneck_width: BottleneckWidth | str = BottleneckWidth.OFFICIAL,
        map_normalisation: MapNormalisation | str = MapNormalisation.NONE,
        student: Student | str = Student.FULL,
    ) -> None:
        """Build the network.

        Args:
            backbone: one of `BACKBONES`; a timm tag may follow. A bare name with `pre_trained` takes the
                paper's ImageNet weights (`.tv_in1k`).
            input_size: (height, width) of the images, multiples of 32.
            layers: layer1, layer2, layer3.
            anomaly_map_mode: `add` (official evaluation) or `multiply`.
            pre_trained: fetch ImageNet weights through timm. False: random, to be loaded by the caller.
            sigma: of the Gaussian that smooths the map, in pixels.
            bottleneck_width: `official` or `anomalib`.
            map_normalisation: `none` (the paper) or `position`; see `MapNormalisation`.
            student: `full` (the paper) or `light`; see `Student`.

        Raises:
            ValueError: a parameter breaks its rule; the message names it.
            WeightsError: pretrained weights cannot be fetched.
        """
        super().__init__()
        if any(side <= 0 or side % 32 for side in input_size):
            raise ValueError(f"input_size: height and width must be positive multiples of 32, got {input_size}")
        self.encoder = Encoder(backbone, layers, pre_trained=pre_trained)
        self.bottleneck = OneClassBottleneck(backbone, bottleneck_width, student)
        self.decoder = Decoder(backbone, bottleneck_width, student)
        self.anomaly_map = AnomalyMapGenerator(input_size, anomaly_map_mode, sigma, map_normalisation)

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """What training changes: bottleneck and decoder. The encoder is frozen."""
        yield from self.bottleneck.parameters()
        yield from self.decoder.parameters()

    def features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encoder and decoder features of `images` (B, 3, H, W), each three maps at 1/4, 1/8, 1/16."""
        encoder_features = self.encoder(images)
        return encoder_features, self.decoder(self.bottleneck(encoder_features))

    @torch.no_grad()
    def fit_normalisation(self, batches: Iterable[Tensor]) -> None:
        """Measure on good tiles what `map_normalisation: position` subtracts and divides by.

        Args:
            batches: normalised images (B, 3, H, W) of the input size, two or more in all. The network must be
                in eval mode.
        """
        distances = (compute_distances(*self.features(images)) for images in batches)
        self.anomaly_map.set_normalisation(*compute_normalisation(distances))

    def forward(self, images: Tensor) -> Tensor:
        """Anomaly maps (B, 1, H, W) of `images` (B, 3, H, W), ImageNet-normalised RGB."""
        maps: Tensor = self.anomaly_map(*self.features(images))
        return maps
