"""The fused network, by operators that a CPU has: the same features, and nothing left unfused where a pattern fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from inspector.engine.fusion import CUDNN, REFERENCE, Form, Layer, Operators, fuse, get_layers
from inspector.engine.network import DistanceNetwork
from inspector.model import ReverseDistillation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

COUNTS = {"resnet18": (29, 6, 3), "wide_resnet50_2": (88, 36, 3)}
"""Layers that may run as a fused convolution, as a product, and those that have nothing to fuse."""


def fuse_in(form: Form, network: nn.Module, operators: Operators = REFERENCE) -> fx.GraphModule:
    fused = fuse(network, operators)
    for layer in get_layers(fused):
        layer.form = form if form in layer.forms else Form.PLAIN
    return fused


@pytest.fixture(scope="module", params=list(COUNTS))
def network(request: pytest.FixtureRequest, make_model: Callable[..., ReverseDistillation]) -> DistanceNetwork:
    network = DistanceNetwork(make_model(backbone=request.param), MEAN, STD).to(memory_format=torch.channels_last)
    network.backbone = request.param
    return network


@torch.inference_mode()
@pytest.mark.parametrize("form", list(Form))
def test_features_equal_the_folded_networks_in_each_form(
    network: DistanceNetwork, make_tiles: Callable[..., Tensor], form: Form
) -> None:
    images = network.normalise(make_tiles(2).to(memory_format=torch.channels_last))
    fused = fuse_in(form, network.features)
    forms = Counter(layer.form for layer in get_layers(fused))
    assert forms[form] >= 3
    for found, right in zip(tree_leaves(fused(images)), tree_leaves(network.features(images)), strict=True):
        assert float((found - right).abs().max() / right.abs().max()) < 1e-5
        assert found.stride() == right.stride()


def test_nothing_stays_unfused_where_a_pattern_fits(network: DistanceNetwork) -> None:
    convolutions, products, unfused = COUNTS[network.backbone]
    fused = fuse(network.features, REFERENCE)
    calls = [fused.get_submodule(node.target) for node in fused.graph.nodes if node.op == "call_module"]
    assert {type(call) for call in calls} == {Layer, nn.MaxPool2d}
    functions = [node.target for node in fused.graph.nodes if node.op in {"call_function", "call_method"}]
    assert functions == [torch.cat]
    layers = get_layers(fused)
    assert sum(Form.CONVOLUTION in layer.forms for layer in layers) == convolutions
    assert sum(Form.PRODUCT in layer.forms for layer in layers) == products
    alone = [layer for layer in layers if layer.forms == (Form.PLAIN,)]
    assert len(alone) == unfused
    assert [(layer._bias, layer._relu) for layer in alone] == [(None, False)] * unfused  # nothing is there to fuse


class Awkward(nn.Module):
    """What must stay as it is: a convolution read twice, a sum of three, padding of another kind, a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.reflected = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.grouped = nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.leaky = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        twice = self.twice(x)
        out = self.relu(twice) + twice
        out = self.relu(self.reflected(out) + 1) + self.leaky(self.same(out))
        return self.relu(self.norm(self.grouped(self.relu(out))))


@torch.inference_mode()
def test_what_fits_no_pattern_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network, x = Awkward().eval(), torch.randn(2, 4, 6, 6)
    expected = network(x)
    fused = fuse_in(Form.CONVOLUTION, network)
    assert [layer.forms for layer in get_layers(fused)] == [(Form.PLAIN,)] * 2
    torch.testing.assert_close(fused(x), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_without_bias_is_the_same_in_each_form(form: Form, has_bias: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1, bias=has_bias), nn.ReLU(), nn.Conv2d(5, 2, 1, bias=has_bias)).eval()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fuse_in(form, network)(x), network(x), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_operators_get_what_cudnns_take(model: ReverseDistillation) -> None:
    given: list[tuple[str, Any]] = []

    def record(name: str) -> Callable[..., Tensor]:
        def run(*args: Any) -> Tensor:
            given.append((name, args))
            schema = getattr(torch.ops.aten, getattr(CUDNN, name).__name__).default._schema
            assert len(args) == len([each for each in schema.arguments if not each.kwarg_only])
            return getattr(REFERENCE, name)(*args)

        return run

    names = ("convolve_relu", "convolve_add_relu", "multiply_relu")
    operators = replace(REFERENCE, **{name: record(name) for name in names})
    features = DistanceNetwork(model, MEAN, STD).features
    for form in (Form.CONVOLUTION, Form.PRODUCT):
        fuse_in(form, features, operators)(torch.rand(1, 3, 64, 64))
    assert Counter(name for name, _ in given) == {"convolve_relu": 15, "convolve_add_relu": 14, "multiply_relu": 3}
    first = dict(reversed(given))
    x, weight, bias, *settings = first["convolve_relu"]
    assert (x.shape, weight.shape, bias.shape) == ((1, 3, 64, 64), (64, 3, 7, 7), (64,))
    assert settings == [(2, 2), (3, 3), (1, 1), 1]
    x, weight, z, alpha, bias, *settings = first["convolve_add_relu"]
    assert (x.shape, z.shape, alpha, bias.shape) == ((1, 64, 16, 16), (1, 64, 16, 16), 1.0, (64,))
    assert settings == [(1, 1), (1, 1), (1, 1), 1]


@torch.inference_mode()
def test_network_is_untouched_when_fused(network: DistanceNetwork) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(1, 3, 64, 64)
    expected = [each.clone() for each in network.features(images)[1]]
    fused = fuse_in(Form.CONVOLUTION, network.features)
    fused(images)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for found, right in zip(network.features(images)[1], expected, strict=True):
        assert torch.equal(found, right)
    weights = {value.data_ptr() for value in network.features.state_dict().values()}
    assert {layer._weight.data_ptr() for layer in get_layers(fused)} <= weights  # no second copy on the device
