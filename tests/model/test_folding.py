"""Folded networks compute what they computed before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inspector.model import BACKBONES, ReverseDistillation
from inspector.model.folding import fold_batch_norm


def randomise(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.1)
    return model.eval()


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in model.modules())


GROUPED = [name for name, backbone in BACKBONES.items() if backbone.groups > 1]
"""Whose transposed convolutions are grouped, and in anomalib's student their shortcuts too."""


@pytest.mark.parametrize(
    ("backbone", "width", "student"),
    [
        *((name, "official", "full") for name in BACKBONES),
        *((name, "anomalib", "full") for name in GROUPED),
        ("resnet18", "official", "light"),
        ("resnext50_32x4d", "official", "light"),
    ],
)
def test_features_stay_the_same_when_folded(backbone: str, width: str, student: str) -> None:
    torch.manual_seed(1)
    model = ReverseDistillation(backbone, (64, 64), pre_trained=False, bottleneck_width=width, student=student)
    randomise(model)
    folded = fold_batch_norm(model)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = [feature for features in model.features(images) for feature in features]
        found = [feature for features in folded.features(images) for feature in features]
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        assert float(other.std()) > 1e-3  # flat features would prove nothing
        assert float((one - other).norm() / other.norm()) < 1e-4
    assert count(folded, nn.BatchNorm2d) == sum(
        isinstance(part, nn.ConvTranspose2d) and part.groups > 1 for part in model.modules()
    )


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolution_stays_right_when_grouped_or_transposed(kind: type[nn.Module], groups: int) -> None:
    torch.manual_seed(2)
    model = randomise(nn.Sequential(kind(8, 8, 2, stride=2, groups=groups, bias=False), nn.BatchNorm2d(8)))
    folded = fold_batch_norm(model)
    images = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)
    stays = kind is nn.ConvTranspose2d and groups > 1
    assert count(folded, nn.BatchNorm2d) == stays


def test_original_is_untouched_when_folded() -> None:
    torch.manual_seed(3)
    model = randomise(ReverseDistillation("resnet18", (64, 64), pre_trained=False))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    norms = count(model, nn.BatchNorm2d)
    folded = fold_batch_norm(model)

    assert not folded.training
    assert model.training
    assert count(model, nn.BatchNorm2d) == norms > 0
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_norm_stays_when_another_operation_is_between() -> None:
    torch.manual_seed(4)
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)))
    folded = fold_batch_norm(model)
    images = torch.randn(1, 3, 5, 5)
    assert count(folded, nn.BatchNorm2d) == 1
    with torch.no_grad():
        assert torch.equal(folded(images), model(images))
