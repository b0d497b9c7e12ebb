"""Fetched encoder weights: the file that comes out, and what is refused. timm's download is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from inspector.errors import WeightsError
from inspector.files import compute_sha256
from inspector.model.encoder import Encoder, load_encoder_weights
from inspector.model.encoder_file import EncoderFile, fetch_encoder

create_model = timm.create_model


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names asked of timm; each tag has weights of its own."""
    names: list[str] = []

    def create(name: str, *, pretrained: bool, **options: Any) -> Any:
        if pretrained:
            names.append(name)
            torch.manual_seed(len(name))
        return create_model(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    return names


def test_file_fills_an_encoder_with_the_fetched_weights(fetched: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "resnet18.safetensors"
    found = fetch_encoder("resnet18", out)
    assert fetched == ["resnet18.tv_in1k"]
    assert found == EncoderFile("resnet18.tv_in1k", out.stat().st_size, compute_sha256(out))
    assert out.stat().st_mode & 0o777 == 0o644
    assert list(out.parent.iterdir()) == [out]

    expected, encoder = Encoder("resnet18"), Encoder("resnet18", pre_trained=False)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(encoder(images)[2], expected(images)[2])
    load_encoder_weights(encoder, out)
    assert torch.equal(encoder(images)[2], expected(images)[2])


def test_file_stays_when_it_holds_the_same(fetched: list[str], tmp_path: Path) -> None:
    out = tmp_path / "resnet18.safetensors"
    first = fetch_encoder("resnet18", out)
    inode = out.stat().st_ino
    assert fetch_encoder("resnet18.tv_in1k", out) == first
    assert out.stat().st_ino == inode


def test_file_is_replaced_only_by_force_when_it_holds_something_else(fetched: list[str], tmp_path: Path) -> None:
    out = tmp_path / "resnet18.safetensors"
    first = fetch_encoder("resnet18", out)
    with pytest.raises(WeightsError, match=r"--out: must be new or contain the same weights \(or use --force\), got "):
        fetch_encoder("resnet18.fb_ssl_yfcc100m_ft_in1k", out)
    assert compute_sha256(out) == first.sha256
    second = fetch_encoder("resnet18.fb_ssl_yfcc100m_ft_in1k", out, force=True)
    assert compute_sha256(out) == second.sha256 != first.sha256
    assert list(tmp_path.iterdir()) == [out]


def test_nothing_is_fetched_when_out_is_no_safetensors_file(fetched: list[str], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"--out: must be a \.safetensors file, got .*weights\.pth"):
        fetch_encoder("resnet18", tmp_path / "weights.pth")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"--out: must be a file, got .*folder\.safetensors"):
        fetch_encoder("resnet18", tmp_path / "folder.safetensors")
    assert fetched == []
