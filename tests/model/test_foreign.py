"""Other programs' checkpoints: which is which, and which network fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inspector.errors import CheckpointError
from inspector.model import BACKBONES, ReverseDistillation
from inspector.model.bottleneck import OneClassBottleneck
from inspector.model.decoder import Decoder
from inspector.model.foreign import (
    CheckpointFormat,
    ForeignCheckpoint,
    fill_network,
    find_architecture,
    load_checkpoint,
)

PATH = Path("some.ckpt")
State = dict[str, Tensor]


def student(backbone: str, width: str = "official", device: str = "meta") -> tuple[State, State]:
    with torch.device(device):
        return OneClassBottleneck(backbone, width).state_dict(), Decoder(backbone, width).state_dict()


@pytest.mark.parametrize(
    ("backbone", "width"),
    [
        *((backbone, "official") for backbone in BACKBONES),
        ("resnet34", "anomalib"),
        ("resnext50_32x4d", "anomalib"),
        ("wide_resnet50_2", "anomalib"),
    ],
)
def test_architecture_is_found_when_only_the_tensors_tell(backbone: str, width: str) -> None:
    checkpoint = ForeignCheckpoint(PATH, CheckpointFormat.RD4AD, *student(backbone, width))
    assert find_architecture(checkpoint) == (backbone, width)


def test_tag_is_kept_when_the_checkpoint_or_the_user_names_one() -> None:
    checkpoint = ForeignCheckpoint(PATH, CheckpointFormat.ANOMALIB, *student("resnet18"), backbone="resnet18.a1_in1k")
    assert find_architecture(checkpoint)[0] == "resnet18.a1_in1k"
    assert find_architecture(checkpoint, "resnet18.tv_in1k")[0] == "resnet18.tv_in1k"


def test_architecture_is_refused_when_nothing_fits() -> None:
    bottleneck, decoder = student("resnet18")
    checkpoint = ForeignCheckpoint(PATH, CheckpointFormat.RD4AD, bottleneck, decoder)
    with pytest.raises(CheckpointError, match=r"^some\.ckpt: its 48 .* and 90 .* shapes of resnet34, got others"):
        find_architecture(checkpoint, "resnet34")
    with pytest.raises(CheckpointError, match=r"must be one of resnet18, .*got 'resnet18d'"):
        find_architecture(dataclasses.replace(checkpoint, backbone="resnet18d"))
    more = decoder | {"layer4.0.conv1.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"one of resnet18, .* got others"):
        find_architecture(dataclasses.replace(checkpoint, decoder=more))


def save(content: Any, tmp_path: Path) -> Path:
    torch.save(content, tmp_path / "saved.pth")
    return tmp_path / "saved.pth"


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_anomalibs_state_is_read_when_wrapped_or_bare(tmp_path: Path, prefix: str, nested: bool) -> None:
    state = {
        f"{prefix}encoder.feature_extractor.conv1.weight": torch.ones(1),
        f"{prefix}bottleneck.conv1.weight": torch.ones(2),
        f"{prefix}bottleneck.conv4.weight": torch.ones(3),
        f"{prefix}bottleneck.bn4.running_mean": torch.ones(3),
        f"{prefix}decoder.layer1.0.conv1.weight": torch.ones(4),
        "post_processor.image_min": torch.ones(5),
    }
    path = save({"state_dict": state, "hyper_parameters": {"backbone": "resnet18"}} if nested else state, tmp_path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.format is CheckpointFormat.ANOMALIB
    assert checkpoint.encoder is not None
    parts = checkpoint.encoder, checkpoint.bottleneck, checkpoint.decoder
    assert [list(part) for part in parts] == [["conv1.weight"], ["conv1.weight"], ["layer1.0.conv1.weight"]]
    assert [value.numel() for part in parts for value in part.values()] == [1, 2, 4]
    assert (checkpoint.backbone, checkpoint.anomaly_map_mode) == ("resnet18" if nested else None, None)
    assert checkpoint.sigma == 4


def test_format_is_refused_when_the_file_is_another(tmp_path: Path) -> None:
    path = save({"bn": {"conv1.weight": torch.ones(1)}, "decoder": {}}, tmp_path)
    assert load_checkpoint(path, CheckpointFormat.RD4AD).encoder is None
    with pytest.raises(
        CheckpointError, match=r"saved\.pth: --format: must be rd4ad, the format of the file, got anomalib"
    ):
        load_checkpoint(path, CheckpointFormat.ANOMALIB)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.ones(2),
        {},
        {"state_dict": 3},
        {"bn": 1, "decoder": 2},
        {"state_dict": {"model.feature_extractor.conv1.weight": torch.ones(1)}},  # another anomalib model
    ],
)
def test_file_is_refused_when_it_is_no_reverse_distillation(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match=r"saved\.pth: must contain Reverse Distillation of anomalib"):
        load_checkpoint(save(content, tmp_path))


def test_network_is_refused_when_the_encoder_is_incomplete() -> None:
    model = ReverseDistillation("resnet18", (64, 64), pre_trained=False, sigma=2.0)
    bottleneck, decoder = student("resnet18", device="cpu")
    checkpoint = ForeignCheckpoint(PATH, CheckpointFormat.ANOMALIB, bottleneck, decoder, encoder={})
    with pytest.raises(CheckpointError, match=r"^some\.ckpt: its encoder must have .*got 90 differences"):
        fill_network(model, checkpoint)
