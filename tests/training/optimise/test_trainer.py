"""The loop: schedule, limits, memory."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from inspector.config import Preprocessing
from inspector.errors import DeviceOutOfMemoryError
from inspector.model import ReverseDistillation
from inspector.training.data.datasets import FrameSet, list_images
from inspector.training.data.tiles import TileStream
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.trainer import Trainer

OPTIONS = TrainOptions(tile_size=64, batch_size=4, steps=4, device="cpu", precision="fp32")


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    for number in range(2):
        image = np.random.default_rng(number).integers(80, 120, (100, 100, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    return FrameSet(list_images(tmp_path), Preprocessing())


def build(frames: FrameSet, options: TrainOptions) -> Trainer:
    torch.manual_seed(0)
    model = ReverseDistillation("resnet18", (64, 64), pre_trained=False, sigma=2.0)
    stream = TileStream(frames, 64, options.seed, options.pseudo_defect_share)
    tiles = [frames[0][:, :64, :64], frames[1][:, :64, :64]]
    return Trainer(model, stream, tiles, Preprocessing(), options, torch.device("cpu"), {})


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [({}, "steps"), ({"steps": None, "epochs": 1}, "epochs"), ({"steps": None, "minutes": 0.001}, "minutes")],
)
def test_run_says_which_limit_ended_it(frames: FrameSet, chosen: dict[str, float | None], reason: str) -> None:
    assert build(frames, dataclasses.replace(OPTIONS, **chosen)).run() == reason


def test_run_ends_on_a_plateau(frames: FrameSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(frames, dataclasses.replace(OPTIONS, steps=50, patience=2, learning_rate=1e-9, average_decay=0.0))
    monkeypatch.setattr(run, "_validate_every", 1)
    assert run.run() == "plateau"
    assert run.state.step < 50


def test_best_weights_are_kept(frames: FrameSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(frames, dataclasses.replace(OPTIONS, steps=12, learning_rate=0.05))
    monkeypatch.setattr(run, "_validate_every", 1)
    run.run()
    losses = [float(entry["validation_loss"]) for entry in run.state.history]
    assert len(losses) == 12
    assert run.kept_validation_loss == min(losses)
    run._options = dataclasses.replace(run._options, average_decay=0.0)  # measure the weights that were kept
    run._losses.append(0.0)
    run._validate()
    assert run.state.history[-1]["validation_loss"] == pytest.approx(min(losses), rel=1e-5)


def limit_memory(run: Trainer, tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = run._model.bottleneck.forward

    def limited(features: list[Tensor]) -> Tensor:
        if len(features[0]) > tiles:
            raise torch.OutOfMemoryError("out of memory")
        return forward(features)

    monkeypatch.setattr(run._model.bottleneck, "forward", limited)


def test_batch_is_halved_when_memory_runs_out(
    frames: FrameSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = build(frames, OPTIONS)
    limit_memory(run, 2, monkeypatch)
    assert run.run() == "steps"
    assert run.state.batch_size == 2
    assert run.state.tiles_seen == 4 * 2
    assert "out of memory at 4 tiles per batch: continuing with 2" in caplog.text


def test_halved_batches_do_not_shorten_an_epoch(frames: FrameSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(frames, dataclasses.replace(OPTIONS, batch_size=3, steps=None, epochs=1))
    limit_memory(run, 2, monkeypatch)
    assert run.run() == "epochs"
    assert run.state.batch_size == 2
    assert run.state.tiles_seen == 18  # 2 frames of 3 × 3 tiles


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_of_a_validation_that_is_not_finite_are_not_kept(
    frames: FrameSet, monkeypatch: pytest.MonkeyPatch, keep: Literal["best", "last"]
) -> None:
    run = build(frames, dataclasses.replace(OPTIONS, steps=3, keep=keep, average_decay=0.0))
    forward, calls = run._loss_function.forward, itertools.count()
    bad = {1, 2, 7, 8}  # one training loss and two validation chunks for each step: the first and the last validation

    def fail(a: list[Tensor], b: list[Tensor]) -> Tensor:
        return forward(a, b) * (float("nan") if next(calls) in bad else 1.0)

    monkeypatch.setattr(run, "_validate_every", 1)
    monkeypatch.setattr(run, "_validation_tiles", list(run._validation_tiles) * 2)
    monkeypatch.setattr(run._loss_function, "forward", fail)
    kept: list[dict[str, Tensor]] = []
    validate = run._validate

    def note() -> None:
        validate()
        kept.append({name: value.clone() for name, value in run._student.state_dict().items()})

    monkeypatch.setattr(run, "_validate", note)
    run.run()
    final = run._student.state_dict()
    assert all(torch.equal(value, final[name]) for name, value in kept[1].items())


def test_run_ends_when_even_the_smallest_batch_does_not_fit(frames: FrameSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(frames, OPTIONS)
    limit_memory(run, 0, monkeypatch)
    with pytest.raises(DeviceOutOfMemoryError, match="even at 2 tiles"):
        run.run()


def test_student_is_asked_for_the_features_of_the_clean_tile(frames: FrameSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(frames, dataclasses.replace(OPTIONS, steps=1, pseudo_defect_share=1.0))
    wanted: list[list[Tensor]] = []
    shown: list[list[Tensor]] = []
    loss_forward, bottleneck_forward = run._loss_function.forward, run._model.bottleneck.forward

    def loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        wanted.append(teacher)
        return loss_forward(teacher, student)

    def bottleneck(features: list[Tensor]) -> Tensor:
        shown.append(features)
        return bottleneck_forward(features)

    monkeypatch.setattr(run._loss_function, "forward", loss)
    monkeypatch.setattr(run._model.bottleneck, "forward", bottleneck)
    run.run()
    tiles = [TileStream(frames, 64, 0, 1.0)[number] for number in range(4)]
    for features, expected in ((wanted[0], "clean"), (shown[0], "shown")):
        images = run._prepare(torch.stack([getattr(tile, expected) for tile in tiles]))
        for got, right in zip(features, run._model.encoder(images), strict=True):
            torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


def test_bf16_trains_about_as_well(frames: FrameSet) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        run = build(frames, dataclasses.replace(OPTIONS, steps=10, precision=precision))
        run.run()
        losses[run.precision] = run.kept_validation_loss
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses["bf16"] != losses["fp32"]
