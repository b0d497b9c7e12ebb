"""The network against anomalib's with the same weights, against published sizes, and against hand-made values."""

from __future__ import annotations

import math
import warnings
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inspector.model import BACKBONES, ReverseDistillation, ReverseDistillationLoss, Student
from inspector.model.anomaly_map import AnomalyMapGenerator
from inspector.model.backbones import architecture
from inspector.model.bottleneck import OneClassBottleneck
from inspector.model.decoder import Decoder

LAYERS = ["layer1", "layer2", "layer3"]
REFERENCE_ONLY = ("bottleneck.conv4", "bottleneck.bn4", "anomaly_map_generator")


@pytest.fixture(scope="module")
def reference() -> Any:
    """Builds anomalib's network, random, with BatchNorm that does something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "anomalib.models.image.reverse_distillation.torch_model",
            reason="anomalib is not installed: install the bench extra",
            exc_type=ImportError,
        )

    def build(backbone: str, mode: str) -> nn.Module:
        torch.manual_seed(7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = module.ReverseDistillationModel(backbone, (64, 64), LAYERS, mode, pre_trained=False)
        return randomise(model).eval()

    return build


def randomise(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.1)
    return model


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(REFERENCE_ONLY)}


def build_small(**changes: Any) -> ReverseDistillation:
    torch.manual_seed(3)
    return ReverseDistillation("resnet18", **{"input_size": (64, 64), "pre_trained": False, "sigma": 2.0, **changes})


@pytest.mark.parametrize(
    ("backbone", "mode"), [("resnet18", "multiply"), *((backbone, "add") for backbone in BACKBONES)]
)
def test_maps_equal_anomalibs_when_weights_are_the_same(reference: Any, backbone: str, mode: str) -> None:
    theirs = reference(backbone, mode)
    # All its weights are loaded: drawing them first takes a third of the time.
    with mock.patch.object(nn.Conv2d, "reset_parameters"), mock.patch.object(nn.init, "kaiming_normal_"):
        ours = ReverseDistillation(
            backbone, (64, 64), anomaly_map_mode=mode, pre_trained=False, bottleneck_width="anomalib"
        ).eval()
    ours.load_state_dict(convert(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(images).anomaly_map, ours(images)
    assert float(expected.std()) > 1e-4  # a flat map would prove nothing
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "width", "bottleneck", "decoder"),
    [
        ("resnet18", "official", 11_680_000, 3_703_168),
        ("resnet18", "anomalib", 11_680_000, 3_703_168),
        ("resnet34", "official", 16_400_640, 5_770_624),
        ("resnet34", "anomalib", 11_680_000, 5_770_624),
        ("resnet50", "official", 30_829_568, 15_821_824),
        ("resnet50", "anomalib", 30_829_568, 15_821_824),
        ("resnet101", "official", 30_829_568, 17_018_624),
        ("resnet101", "anomalib", 30_829_568, 17_018_624),
        ("resnet152", "official", 30_829_568, 19_054_080),
        ("resnet152", "anomalib", 30_829_568, 19_054_080),
        ("resnext50_32x4d", "official", 31_458_304, 16_584_704),
        ("resnext50_32x4d", "anomalib", 30_829_568, 5_918_720),
        ("resnext101_32x8d", "official", 47_756_288, 25_247_744),
        ("resnext101_32x8d", "anomalib", 30_829_568, 14_581_760),
        ("wide_resnet50_2", "official", 58_885_120, 24_917_504),
        ("wide_resnet50_2", "anomalib", 30_829_568, 24_917_504),
        ("wide_resnet101_2", "official", 58_885_120, 28_555_776),
        ("wide_resnet101_2", "anomalib", 30_829_568, 28_555_776),
    ],
)
def test_parameter_counts_equal_the_published_networks_when_built(
    backbone: str, width: str, bottleneck: int, decoder: int
) -> None:
    with torch.device("meta"):
        assert count(OneClassBottleneck(backbone, width)) == bottleneck
        assert count(Decoder(backbone, width)) == decoder


def test_bottleneck_equals_the_reference_when_its_dead_layers_are_added() -> None:
    with torch.device("meta"):
        living = count(OneClassBottleneck("wide_resnet50_2", "official"))
    assert living + 4096 * 2048 + 2 * 2048 == 67_277_824


@pytest.mark.parametrize(
    ("backbone", "bottleneck", "decoder", "share"),
    [
        ("resnet18", 3_341_440, 970_816, 0.587),
        ("resnet34", 4_522_112, 1_488_448, 0.594),
        ("resnet50", 9_844_224, 4_653_056, 0.549),
        ("resnext50_32x4d", 10_134_016, 4_845_440, 0.543),
        ("wide_resnet50_2", 16_990_720, 6_928_640, 0.582),
    ],
)
def test_light_student_saves_four_tenths_of_the_multiplications_when_counted(
    backbone: str, bottleneck: int, decoder: int, share: float
) -> None:
    with torch.device("meta"):
        full, light = (
            ReverseDistillation(backbone, (64, 64), pre_trained=False, student=student) for student in Student
        )
    assert (count(light.bottleneck), count(light.decoder)) == (bottleneck, decoder)
    assert count(light.encoder) == count(full.encoder)
    assert count_multiplications(light) / count_multiplications(full) == pytest.approx(share, abs=1e-3)


def count_multiplications(model: ReverseDistillation) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.features(torch.zeros(2, 3, 64, 64, device="meta"))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("width", ["official", "anomalib"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_light_student_rebuilds_features_of_the_encoders_shapes_when_run(backbone: str, width: str) -> None:
    with torch.device("meta"):
        model = ReverseDistillation(
            backbone, (64, 96), pre_trained=False, bottleneck_width=width, student="light"
        ).eval()
        with torch.no_grad():
            teacher, student = model.features(torch.zeros(2, 3, 64, 96))
    assert [features.shape for features in student] == [features.shape for features in teacher]


def test_light_student_gives_features_that_are_not_negative_and_all_of_it_learns() -> None:
    model = build_small(student="light").train()
    teacher, student = model.features(torch.randn(4, 3, 64, 64))
    ReverseDistillationLoss()(teacher, student).backward()
    assert all(float(features.detach().min()) == 0 < float(features.detach().max()) for features in student)
    assert all(bool(parameter.grad.any()) for parameter in model.trained_parameters())


def test_light_student_is_another_network_when_weights_are_loaded() -> None:
    with pytest.raises(RuntimeError, match="output1"):
        build_small().load_state_dict(build_small(student="light").state_dict())


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_forward_gives_maps_when_in_train_mode() -> None:
    model = build_small().train()
    maps = model(torch.randn(2, 3, 64, 64)).detach()
    assert maps.shape == (2, 1, 64, 64)
    assert float(maps.min()) > 0
    assert float(maps.max()) < 6


def test_encoder_stays_frozen_when_the_model_trains() -> None:
    model = build_small().train()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    embedding_mean = model.bottleneck.bn1.running_mean.clone()
    teacher, student = model.features(torch.randn(2, 3, 64, 64))
    ReverseDistillationLoss()(teacher, student).backward()

    assert not any(part.training for part in model.encoder.modules())
    assert model.bottleneck.training
    assert model.decoder.training
    assert all(feature.grad_fn is None for feature in teacher)
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.trained_parameters())
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(model.bottleneck.bn1.running_mean, embedding_mean)


def test_trained_parameters_leave_the_encoder_out_when_listed() -> None:
    model = build_small()
    trained = {id(parameter) for parameter in model.trained_parameters()}
    everything = {id(parameter) for parameter in model.parameters()}
    assert everything - trained == {id(parameter) for parameter in model.encoder.parameters()}


@pytest.mark.parametrize("size", [(48, 64), (64, 100), (0, 64), (-32, 64)])
def test_model_refuses_input_size_when_not_a_multiple_of_32(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^input_size: .*multiples of 32, got "):
        build_small(input_size=size)


@pytest.mark.parametrize("backbone", ["resnet20", "efficientnet_b0", "resnet18d.ra4", ""])
def test_model_refuses_backbone_when_unknown(backbone: str) -> None:
    with pytest.raises(ValueError, match=r"^backbone: must be one of resnet18, .*got "):
        ReverseDistillation(backbone, (64, 64), pre_trained=False)


@pytest.mark.parametrize("layers", [["layer2", "layer3"], ["layer3", "layer2", "layer1"], [*LAYERS, "layer4"], []])
def test_model_refuses_layers_when_not_the_three(layers: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^layers: must be \['layer1', 'layer2', 'layer3'\]"):
        build_small(layers=layers)


def test_model_refuses_mode_width_and_student_when_unknown() -> None:
    with pytest.raises(ValueError, match="mean"):
        build_small(anomaly_map_mode="mean")
    with pytest.raises(ValueError, match="narrow"):
        build_small(bottleneck_width="narrow")
    with pytest.raises(ValueError, match="slim"):
        build_small(student="slim")


def test_tag_is_accepted_when_not_pre_trained() -> None:
    torch.manual_seed(0)
    tagged = ReverseDistillation("resnet18.tv_in1k", (64, 64), pre_trained=False)
    torch.manual_seed(0)
    bare = ReverseDistillation("resnet18", (64, 64), pre_trained=False)
    assert architecture("resnet18.tv_in1k") == "resnet18"
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(tagged.eval()(images), bare.eval()(images))


def test_random_encoder_uses_its_residual_branches_when_not_pre_trained() -> None:
    norms = [part for name, part in build_small().encoder.named_modules() if name.endswith("bn2")]
    assert norms
    assert all(float(norm.weight.abs().min()) > 0 for norm in norms)


def features(size: int = 16, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, size // step, size // step, generator=generator) for step in (1, 2, 4)]


def test_map_is_unblurred_when_sigma_is_zero() -> None:
    (teacher, *_), (student, *_) = features(seed=1), features(seed=2)
    found = AnomalyMapGenerator((16, 16), sigma=0)([teacher], [student])
    products = (teacher * student).sum(1, keepdim=True)
    cosine = products / (teacher.norm(dim=1, keepdim=True) * student.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found, 1 - cosine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("at", [(20, 20), (1, 2)])
def test_blur_equals_scipys_gaussian_when_given_an_impulse(sigma: float, at: tuple[int, int]) -> None:
    teacher, student = torch.zeros(2, 1, 2, 41, 41)
    teacher[:, 0] = student[:, 0] = 1
    student[0, :, at[0], at[1]] = torch.tensor([0.0, 1.0])  # orthogonal: a distance of 1, elsewhere 0
    found = AnomalyMapGenerator((41, 41), sigma=sigma)([teacher], [student])[0, 0].numpy()
    impulse = np.zeros((41, 41))
    impulse[at] = 1
    np.testing.assert_allclose(found, ndimage.gaussian_filter(impulse, sigma, truncate=4.0, mode="mirror"), atol=1e-6)
    if at == (20, 20):
        radius = math.floor(4 * sigma + 0.5)
        one_axis = sum(math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1))
        assert found[at] == pytest.approx(one_axis**-2, abs=1e-6)


def test_generator_refuses_sigma_when_negative_or_too_wide() -> None:
    with pytest.raises(ValueError, match=r"^sigma: must be at least 0, got -1"):
        AnomalyMapGenerator((64, 64), sigma=-1)
    with pytest.raises(ValueError, match=r"^sigma: 4·sigma must stay below the input size"):
        AnomalyMapGenerator((64, 32), sigma=8)


@pytest.mark.parametrize("mode", ["add", "multiply"])
def test_map_is_zero_when_features_are_identical(mode: str) -> None:
    maps = AnomalyMapGenerator((16, 16), mode, sigma=1.0)(features(), features())
    assert float(maps.abs().max()) <= 1e-6


@pytest.mark.parametrize(("mode", "value"), [("add", 2 * 3), ("multiply", 2**3)])
def test_map_is_greatest_when_features_are_opposite(mode: str, value: float) -> None:
    opposite = [-feature for feature in features()]
    maps = AnomalyMapGenerator((16, 16), mode, sigma=1.0)(features(), opposite)
    torch.testing.assert_close(maps, torch.full((2, 1, 16, 16), float(value)), rtol=0, atol=1e-5)


def test_generator_refuses_features_when_layers_are_uneven() -> None:
    with pytest.raises(ValueError, match="shorter"):
        AnomalyMapGenerator((16, 16), sigma=1.0)(features(), features()[:2])


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def test_loss_equals_hand_values_when_features_are_simple() -> None:
    loss = ReverseDistillationLoss()
    assert float(loss([row(3, 4)], [row(6, 8)])) == pytest.approx(0, abs=1e-6)
    assert float(loss([row(1, 0)], [row(0, 5)])) == pytest.approx(1, abs=1e-6)
    assert float(loss([row(3, 4)], [row(-3, -4)])) == pytest.approx(2, abs=1e-6)
    # Over the flattened features: 1 − 24/25. Per position it would be 0.
    assert float(loss([row(3, 4)], [row(4, 3)])) == pytest.approx(0.04, abs=1e-6)


def test_loss_sums_layers_and_averages_samples_when_there_are_several() -> None:
    loss = ReverseDistillationLoss()
    teacher = [torch.cat([row(1, 0), row(1, 0)]), torch.cat([row(3, 4), row(1, 0)])]
    student = [torch.cat([row(1, 0), row(0, 1)]), torch.cat([row(-3, -4), row(-1, 0)])]
    assert float(loss(teacher, student)) == pytest.approx((0 + 1) / 2 + (2 + 2) / 2, abs=1e-6)
