"""The nine ResNets Reverse Distillation is defined for, as one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BottleneckWidth(StrEnum):
    """Whose student is built.

    OFFICIAL: the encoder's own groups and width per group, and three blocks for resnet34
    (github.com/hq-deng/RD4AD). For the ResNeXts, for which the official code has no bottleneck, the same rule.
    ANOMALIB: width 64, one group, always; two blocks for resnet34. Smaller and less accurate on the wide ones.
    The decoder's shortcuts are grouped for the ResNeXts.
    """

    OFFICIAL = "official"
    ANOMALIB = "anomalib"


class Student(StrEnum):
    """How wide the student, bottleneck and decoder together, is.

    FULL: as in the paper: the decoder has the encoder's widths.
    LIGHT: half as many channels everywhere, and 1×1 convolutions that bring the decoder's three outputs to the
        encoder's. About a quarter of the student's multiplications.
    """

    FULL = "full"
    LIGHT = "light"

    @property
    def divisor(self) -> int:
        """What the paper's channel counts are divided by."""
        return 2 if self is Student.LIGHT else 1


@dataclass(frozen=True, slots=True)
class Backbone:
    """What the bottleneck and the decoder need to know of an encoder.

    Attributes:
        basic: BasicBlock (expansion 1) rather than Bottleneck (expansion 4).
        decoder_depths: blocks of the decoder's three stages, deepest first.
        groups, width_per_group: of the grouped 3×3 convolution.
        bottleneck_depth: blocks of the official one-class embedding.
    """

    basic: bool
    decoder_depths: tuple[int, int, int]
    groups: int = 1
    width_per_group: int = 64
    bottleneck_depth: int = 3


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(basic=True, decoder_depths=(2, 2, 2), bottleneck_depth=2),
    "resnet34": Backbone(basic=True, decoder_depths=(3, 4, 6)),
    "resnet50": Backbone(basic=False, decoder_depths=(3, 4, 6)),
    "resnet101": Backbone(basic=False, decoder_depths=(3, 4, 23)),
    "resnet152": Backbone(basic=False, decoder_depths=(3, 8, 36)),
    "resnext50_32x4d": Backbone(basic=False, decoder_depths=(3, 4, 6), groups=32, width_per_group=4),
    "resnext101_32x8d": Backbone(basic=False, decoder_depths=(3, 4, 23), groups=32, width_per_group=8),
    "wide_resnet50_2": Backbone(basic=False, decoder_depths=(3, 4, 6), width_per_group=128),
    "wide_resnet101_2": Backbone(basic=False, decoder_depths=(3, 4, 23), width_per_group=128),
}


def architecture(backbone: str) -> str:
    """The architecture of a timm model name: `wide_resnet50_2.tv_in1k` → `wide_resnet50_2`.

    Raises:
        ValueError: the architecture is none of the nine.
    """
    name = backbone.partition(".")[0]
    if name not in BACKBONES:
        raise ValueError(f"backbone: must be one of {', '.join(BACKBONES)} (a timm tag may follow), got {backbone!r}")
    return name
