"""The methods whose accuracy is compared: anomalib's Reverse Distillation by its own code, and ours."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from inspector.config import Preprocessing, Recipe, Tiling
from inspector.detection.preprocessing import normalise
from inspector.device import choose_device
from inspector.model import ReverseDistillation
from inspector.model.encoder import load_encoder_weights
from inspector.model.foreign import fill_network, load_checkpoint
from inspector.recipe.network import build_model
from inspector.training.data.datasets import FrameSet
from inspector.training.data.tiles import TileStream
from inspector.training.optimise.fitting import fit_normalisation
from inspector.training.optimise.options import REFERENCE, TrainOptions
from inspector.training.optimise.trainer import Trainer

PEER = "anomalib"

VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "light": {"student": "light"},
    "reference": REFERENCE,
    "without-pseudo-defects": {"pseudo_defect_share": 0.0},
    "without-schedule-and-average": {"schedule": "constant", "average_decay": 0.0},
    "without-position": {"map_normalisation": "none"},
    "fp32": {"precision": "fp32"},
}
"""Options that differ from ours."""

Snapshot = Callable[[ReverseDistillation, Recipe, int], None]
"""Told the network in eval mode, its recipe, and the tiles seen."""


@contextlib.contextmanager
def make_scratch() -> Iterator[Path]:
    """A folder for recipes that live for one measurement, and for what is compiled of them."""
    with (
        tempfile.TemporaryDirectory(prefix="inspector-accuracy-") as folder,
        mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}),
    ):
        yield Path(folder)


def choose_options(name: str, seed: int, arguments: argparse.Namespace) -> TrainOptions:
    """Of one of ours; what the command line does not name is the default."""
    return TrainOptions(
        backbone=arguments.backbone,
        encoder_weights=arguments.encoder_weights,
        tile_size=arguments.tile_size,
        stride=arguments.stride,
        scale=arguments.scale,
        resize_hw=tuple(arguments.resize) if arguments.resize else None,
        short_side=arguments.short_side,
        batch_size=arguments.batch_size,
        steps=count_steps(arguments),
        device=arguments.device,
        seed=seed,
        **VARIANTS[name],
    )


def count_steps(arguments: argparse.Namespace) -> int:
    """Batches in all."""
    return max(1, arguments.tiles // arguments.batch_size)


def plan_recipe(name: str, preprocessing: Preprocessing, arguments: argparse.Namespace) -> Recipe:
    """A recipe without threshold and weights; the peers' tiles do not overlap."""
    stride = arguments.stride if arguments.stride and name in VARIANTS else arguments.tile_size
    return Recipe(
        recipe_id=name,
        backbone=arguments.backbone,
        preprocessing=preprocessing,
        tiling=Tiling(tile_size=arguments.tile_size, stride=stride),
        weights_sha256="0" * 64,
    )


def train_ours(
    frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace, due: Collection[int], measure: Snapshot
) -> None:
    """Train one of ours on all of `frames`, and measure it after the steps that are `due`."""
    # No frame is kept aside here, as the peer keeps none, so there is nothing to choose weights by.
    options = dataclasses.replace(choose_options(recipe.recipe_id, seed, arguments), keep="last")
    recipe = recipe.model_copy(update={"map_normalisation": options.map_normalisation, "student": options.student})
    device = choose_device(arguments.device)
    model = build_model(recipe)
    load_encoder_weights(model.encoder, arguments.encoder_weights)
    stream = TileStream(frames, options.tile_size, seed, options.pseudo_defect_share)
    tiles = [stream[number].clean for number in range(2)]
    trainer = Trainer(model, stream, tiles, recipe.preprocessing, options, device, {})

    def look(step: Any) -> None:
        if step.step not in due:
            return
        snapshot = copy.deepcopy(model)
        trainer.copy_student_into(snapshot)
        snapshot.eval()
        if options.map_normalisation == "position":
            fit_normalisation(snapshot, frames, options, recipe.preprocessing, device)
        measure(snapshot, recipe, trainer.state.tiles_seen)

    trainer.run(look)


def train_peer(
    frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace, due: Collection[int], measure: Snapshot
) -> None:
    """Train anomalib's on all of `frames`, and measure it after the steps that are `due`."""
    from anomalib.models import ReverseDistillation as Peer

    device = choose_device(arguments.device)
    peer = Peer(
        backbone=arguments.backbone,
        pre_trained=False,
        pre_processor=Peer.configure_pre_processor((arguments.tile_size, arguments.tile_size)),
        evaluator=False,
        visualizer=False,
    )
    recipe = recipe.model_copy(update={"bottleneck_width": "anomalib"})
    ours = build_model(recipe)
    load_encoder_weights(ours.encoder, arguments.encoder_weights)
    peer.model.encoder.feature_extractor.load_state_dict(ours.encoder.feature_extractor.state_dict())
    peer.to(device).train()
    optimiser = peer.configure_optimizers()
    for step, images in enumerate(_batches(frames, recipe, seed, arguments, device), start=1):
        loss = peer.loss(*peer.model(images))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in due:
            _fill(ours, peer)
            measure(ours.eval(), recipe, step * arguments.batch_size)
        if step == max(due):
            return


def _fill(ours: ReverseDistillation, peer: Any) -> None:
    """Through a checkpoint file, as a user would bring it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peer.ckpt"
        torch.save({"state_dict": peer.state_dict()}, path)
        fill_network(ours, load_checkpoint(path))


def _batches(
    frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace, device: torch.device
) -> Iterator[torch.Tensor]:
    stream = TileStream(frames, arguments.tile_size, seed)
    for batch in stream.load(0, arguments.batch_size, device):
        yield normalise(batch.clean.to(device), recipe.preprocessing)
