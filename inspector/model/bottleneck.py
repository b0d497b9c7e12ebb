"""The one-class bottleneck embedding, OCBE (paper, section 3.2): multi-scale fusion, then compression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inspector.model.backbones import BACKBONES, BottleneckWidth, Student, architecture


class OneClassBottleneck(nn.Module):
    """Fuses the encoder's three feature maps at 1/16 and compresses them to 1/32 of the image size.

    layer1 passes two strided 3×3 convolutions, layer2 one; with layer3 they are concatenated (MFF) and go
    through residual blocks, the first with stride 2 (OCE). The reference's `conv4`/`bn4` take part in no
    computation and are left out.
    """

    def __init__(
        self,
        backbone: str,
        width: BottleneckWidth | str = BottleneckWidth.OFFICIAL,
        student: Student | str = Student.FULL,
    ) -> None:
        from torchvision.models.resnet import BasicBlock, Bottleneck  # late, as timm in encoder.py, and for its reason

        super().__init__()
        spec = BACKBONES[architecture(backbone)]
        official = BottleneckWidth(width) is BottleneckWidth.OFFICIAL
        block: type[BasicBlock | Bottleneck] = BasicBlock if spec.basic else Bottleneck
        depth = spec.bottleneck_depth if official else (2 if spec.basic else 3)
        groups = spec.groups if official else 1
        width_per_group = spec.width_per_group if official else 64
        divisor = Student(student).divisor
        teacher = 64 * block.expansion
        channels = teacher // divisor

        self.conv1 = _halve(teacher, 2 * channels)
        self.bn1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = _halve(2 * channels, 4 * channels)
        self.bn2 = nn.BatchNorm2d(4 * channels)
        self.conv3 = _halve(2 * teacher, 4 * channels)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU(inplace=True)

        fused, planes, out = 8 * channels + 4 * teacher, 512 // divisor, 8 * channels
        shortcut = nn.Sequential(nn.Conv2d(fused, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))
        first = block(fused, planes, 2, shortcut, groups, width_per_group)
        rest = [block(out, planes, groups=groups, base_width=width_per_group) for _ in range(depth - 1)]
        self.bn_layer = nn.Sequential(first, *rest)
        initialise(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embed `features` (C, 2C, 4C channels at 1/4, 1/8, 1/16): (B, 8C, H/32, W/32), in a light student 4C."""
        fine, middle, coarse = features
        fine = self.relu(self.bn1(self.conv1(fine)))
        fine = self.relu(self.bn2(self.conv2(fine)))
        middle = self.relu(self.bn3(self.conv3(middle)))
        embedding: Tensor = self.bn_layer(torch.cat([fine, middle, coarse], dim=1))
        return embedding


def _halve(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)


def initialise(module: nn.Module) -> None:
    """The reference's initialisation: Kaiming fan-out on Conv2d only, BatchNorm at weight 1, bias 0.

    Transposed convolutions keep torch's default, as in the reference.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
