"""The decoder (student): a ResNet in reverse that rebuilds the encoder's features from the embedding."""

from __future__ import annotations

from torch import Tensor, nn

from inspector.model.backbones import BACKBONES, BottleneckWidth, Student, architecture
from inspector.model.bottleneck import initialise


class DecoderBasicBlock(nn.Module):
    """BasicBlock whose strided convolution is a 2×2 transposed one."""

    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, groups: int, width_per_group: int, *, grouped_shortcut: bool
    ) -> None:
        super().__init__()
        del groups, width_per_group, grouped_shortcut  # a BasicBlock is never grouped
        self.conv1 = _conv3x3_or_double(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3_or_double(planes, planes, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.upsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.upsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


class DecoderBottleneck(nn.Module):
    """Bottleneck block whose strided 3×3 convolution is a 2×2 transposed one."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, groups: int, width_per_group: int, *, grouped_shortcut: bool
    ) -> None:
        super().__init__()
        width = planes * width_per_group // 64 * groups
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3_or_double(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.upsample = _shortcut(inputs, outputs, stride, groups if grouped_shortcut else 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.upsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


def _conv3x3_or_double(inputs: int, outputs: int, stride: int, groups: int = 1) -> nn.Module:
    if stride == 1:
        return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, groups=groups, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int, groups: int = 1) -> nn.Module:
    if stride == 1:
        return nn.Identity()
    double = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, groups=groups, bias=False)
    return nn.Sequential(double, nn.BatchNorm2d(outputs))


def _widen(inputs: int, divisor: int) -> nn.Module:
    """To the encoder's channels; like its features, and the full decoder's, none is below 0."""
    if divisor == 1:
        return nn.Identity()
    outputs = inputs * divisor
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """Three stages, each doubling the resolution: 1/32 → 1/16 → 1/8 → 1/4."""

    def __init__(
        self,
        backbone: str,
        width: BottleneckWidth | str = BottleneckWidth.OFFICIAL,
        student: Student | str = Student.FULL,
    ) -> None:
        super().__init__()
        spec = BACKBONES[architecture(backbone)]
        block: type[DecoderBasicBlock | DecoderBottleneck] = DecoderBasicBlock if spec.basic else DecoderBottleneck
        # anomalib also groups the shortcuts of the ResNeXts; the official code does not.
        grouped = BottleneckWidth(width) is BottleneckWidth.ANOMALIB
        divisor = Student(student).divisor
        inputs = 512 // divisor * block.expansion
        stages, outputs = [], []
        for full, depth in zip((256, 128, 64), spec.decoder_depths, strict=True):
            planes, blocks = full // divisor, []
            for stride in (2, *[1] * (depth - 1)):
                blocks.append(
                    block(inputs, planes, stride, spec.groups, spec.width_per_group, grouped_shortcut=grouped)
                )
                inputs = planes * block.expansion
            stages.append(nn.Sequential(*blocks))
            outputs.append(_widen(inputs, divisor))
        self.layer1, self.layer2, self.layer3 = stages
        self.output1, self.output2, self.output3 = outputs
        initialise(self)

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Rebuild the encoder's features from the embedding, in the encoder's order and channels: 1/4, 1/8, 1/16."""
        coarse = self.layer1(embedding)
        middle = self.layer2(coarse)
        fine = self.layer3(middle)
        return [self.output3(fine), self.output2(middle), self.output1(coarse)]
