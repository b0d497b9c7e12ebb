"""Encoder weights from files: what loads, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from inspector.errors import WeightsError
from inspector.model.encoder import Encoder, load_encoder_weights


def build(backbone: str = "resnet18", seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(backbone, pre_trained=False)


def state_of(encoder: Encoder) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in encoder.feature_extractor.state_dict().items()}


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors"])
def test_weights_load_when_saved_from_the_same_backbone(tmp_path: Path, name: str) -> None:
    saved, encoder = build(seed=1), build(seed=2)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(saved(images)[2], encoder(images)[2])
    load_encoder_weights(encoder, save(state_of(saved), tmp_path / name))
    for expected, found in zip(saved(images), encoder(images), strict=True):
        assert torch.equal(expected, found)


def test_weights_load_when_the_file_holds_more_and_lacks_counters(tmp_path: Path) -> None:
    saved, encoder = build(seed=1), build(seed=2)
    state = {key: value for key, value in state_of(saved).items() if not key.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.zeros(3), "layer4.0.conv1.weight": torch.zeros(3)}
    path = tmp_path / "whole.pth"
    torch.save({"state_dict": state}, path)
    load_encoder_weights(encoder, path)
    assert torch.equal(state_of(encoder)["layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])


def test_none_warns_and_keeps_weights_when_asked_for_no_weights() -> None:
    encoder = build()
    before = state_of(encoder)["conv1.weight"].clone()
    with pytest.warns(UserWarning, match=r"encoder weights: none\. .*use ImageNet weights in production"):
        load_encoder_weights(encoder, "none")
    assert torch.equal(state_of(encoder)["conv1.weight"], before)


def test_weights_are_refused_when_the_file_is_missing(tmp_path: Path) -> None:
    for name in ("absent.pth", "absent.safetensors"):
        with pytest.raises(WeightsError, match=rf"cannot read .*{name} \(FileNotFoundError"):
            load_encoder_weights(build(), tmp_path / name)


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("resnet50", "resnet18"),
        ("resnet18", "resnet34"),
        ("resnet50", "wide_resnet50_2"),
        # The larger of a family holds every tensor of the smaller, in the same shape.
        ("resnet34", "resnet18"),
        ("resnet101", "resnet50"),
    ],
)
def test_weights_are_refused_when_of_another_architecture(tmp_path: Path, saved: str, loaded: str) -> None:
    path = save(state_of(build(saved)), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit the backbone"):
        load_encoder_weights(build(loaded), path)


class Malicious:
    """What an attacker would pickle: unpickling it runs a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_weights_are_refused_and_not_executed_when_pickled_objects(tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "evil.pth"
    torch.save({"conv1.weight": Malicious(trace)}, path)
    with pytest.raises(WeightsError, match=r"cannot read .*evil\.pth \(UnpicklingError"):
        load_encoder_weights(build(), path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"conv1.weight": 3}, {"state_dict": {"conv1.weight": "x"}}])
def test_weights_are_refused_when_not_a_dictionary_of_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="must contain a dictionary of tensors"):
        load_encoder_weights(build(), tmp_path / "odd.pth")


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
def test_weights_are_refused_when_the_file_is_noise(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 4)
    with pytest.raises(WeightsError, match=f"cannot read .*{name}"):
        load_encoder_weights(build(), tmp_path / name)


@pytest.mark.data
def test_features_are_alive_when_real_weights_see_a_constant_image(data_dir: Path) -> None:
    path = data_dir / "weights" / "resnet18_imagenet_conv1_to_layer3.pth"
    if not path.is_file():
        pytest.skip(f"no ImageNet weights at {path}")
    encoder = build()
    load_encoder_weights(encoder, path)
    features = encoder(torch.full((1, 3, 64, 64), 0.5))
    assert [tuple(feature.shape[1:]) for feature in features] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert all(bool(feature.isfinite().all()) for feature in features)
    assert float(features[0].mean()) > 0
