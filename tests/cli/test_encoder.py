"""`inspector encoder fetch` on a machine with network, `train` with its file on one without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from inspector.config import WEIGHTS_FILE, load_recipe
from inspector.files import compute_sha256

Run = Callable[..., tuple[int, str]]
create_model = timm.create_model


def test_recipe_holds_the_fetched_encoder_when_train_takes_its_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "resnet18.safetensors"
    with monkeypatch.context() as network:
        network.setattr(timm, "create_model", lambda name, **options: create_model(name, **options | OFFLINE))
        status, printed = run("encoder", "fetch", "resnet18", "--out", out)
    assert status == 0
    sha256 = compute_sha256(out)
    assert f"resnet18, tag tv_in1k: {out}, {out.stat().st_size} bytes, sha256 {sha256}" in printed

    for number in range(4):
        image = np.random.default_rng(number).integers(80, 120, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    status, _ = run(
        *("train", tmp_path, "--out", tmp_path / "recipe", "--encoder-weights", out, "--device", "cpu"),
        *("--steps", 1, "--batch-size", 2, "--tile-size", 64, "--sigma", 2, "--map-normalisation", "none"),
    )
    assert status == 0
    assert load_recipe(tmp_path / "recipe").encoder_weights == f"resnet18.safetensors sha256:{sha256[:16]}"
    weights = load_file(tmp_path / "recipe" / WEIGHTS_FILE)
    for name, value in load_file(out).items():
        assert torch.equal(weights[f"encoder.feature_extractor.{name}"], value), name


OFFLINE: dict[str, Any] = {"pretrained": False, "zero_init_last": False}


def test_fetch_ends_with_1_and_says_why_when_there_is_no_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", refuse)
    status, printed = run("encoder", "fetch", "wide_resnet50_2", "--out", tmp_path / "w.safetensors")
    assert status == 1
    assert "'wide_resnet50_2.tv_in1k' could not be fetched (OSError: Name or service not known)" in printed
    assert list(tmp_path.iterdir()) == []


def test_fetch_is_wrong_usage_when_the_backbone_is_unknown(run: Run, tmp_path: Path) -> None:
    status, printed = run("encoder", "fetch", "vgg16", "--out", tmp_path / "w.safetensors")
    assert status == 2
    assert "Invalid value for 'NAME': must be one of resnet18, " in printed
