"""Accuracy side by side: anomalib's Reverse Distillation, trained by its own code, and ours.

    python benchmarks/accuracy.py DATASET_DIR --encoder-weights resnet18.pth --scale 0.5 --json lens.json

Both see the same frames (all of train/good), the same number of tiles, start from the same encoder weights and are
judged by the same code at a third, two thirds and the end of training. Theirs: its model, loss and optimiser, float32,
frames resized and cut as ours are (it would resize with antialiasing in training and without at inference, which costs
it accuracy; it is spared that); its weights then go through the importer, whose maps equal its own to 1e-5. Each
tile it learns from is one of ours before a pseudo-defect. Needs the bench extra.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from inspector.config import Recipe, Threshold, Tiling
from inspector.device import choose_device
from inspector.model import ReverseDistillation
from inspector.model.encoder import load_encoder_weights
from inspector.model.foreign import fill_network, load_checkpoint
from inspector.preprocessing import normalise
from inspector.recipe_network import build_model
from inspector.training.datasets import FrameSet, list_images, survey
from inspector.training.evaluate import evaluate
from inspector.training.options import REFERENCE, TrainOptions
from inspector.training.recipe_writer import write_recipe
from inspector.training.tiles import TileStream
from inspector.training.train import fit_normalisation
from inspector.training.trainer import Trainer

METRICS = ("image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro", "aupro_0_05")

VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "reference": REFERENCE,
    "without-pseudo-defects": {"pseudo_defect_share": 0.0},
    "without-schedule-and-average": {"schedule": "constant", "average_decay": 0.0},
    "without-position": {"map_normalisation": "none"},
    "fp32": {"precision": "fp32"},
}
"""Options that differ from ours."""

Snapshot = Callable[[ReverseDistillation, Recipe, int], None]


def main() -> None:
    """Run and print."""
    arguments = _parse()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    runs = []
    for seed in arguments.seeds:
        for name in arguments.methods:
            print(f"{arguments.dataset.name}: {name}, seed {seed}", file=sys.stderr, flush=True)
            runs.append({"method": name, "seed": seed, "snapshots": _run(name, seed, arguments)})
            if arguments.json:
                content = {"arguments": vars(arguments), "torch": torch.__version__, "runs": runs}
                arguments.json.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    _print(arguments.dataset.name, runs)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a data set in MVTec layout")
    parser.add_argument("--encoder-weights", required=True, help="file of ImageNet weights for both")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--methods", nargs="+", default=["anomalib", "ours"], choices=["anomalib", *VARIANTS])
    parser.add_argument("--tiles", type=int, default=3360, help="seen in training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--resize", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="squeeze frames to this")
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="scale frames, aspect kept, to this")
    parser.add_argument("--tile-size", type=int, default=256)
    parser.add_argument("--stride", type=int, help="of ours; theirs does not overlap tiles")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--snapshots", type=int, default=3, help="how often to measure")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _run(name: str, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    snapshots: list[dict[str, Any]] = []

    def measure(model: ReverseDistillation, recipe: Recipe, tiles: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # The threshold takes no part in the metrics compared here, but an evaluation asks for one.
            complete = recipe.model_copy(update={"threshold": Threshold(value=1.0, method="manual")})
            write_recipe(complete, model, Path(folder) / "recipe")
            metrics = evaluate(Path(folder) / "recipe", arguments.dataset, device=arguments.device).metrics
        chosen = {metric: metrics[metric] for metric in METRICS}
        by_kind = {kind: values["image_auroc"] for kind, values in metrics["by_kind"].items()}
        snapshots.append({"tiles_seen": tiles, **chosen, "image_auroc_by_kind": by_kind})
        print({"tiles": tiles} | {k: round(v, 4) for k, v in chosen.items()}, file=sys.stderr, flush=True)

    torch.manual_seed(seed)
    paths = list_images(arguments.dataset / "train" / "good")
    preprocessing, paths = survey(paths, arguments.scale, (0, 65_535), arguments.resize, arguments.short_side)
    frames = FrameSet(paths, preprocessing)
    stride = arguments.stride if arguments.stride and name != "anomalib" else arguments.tile_size
    recipe = Recipe(
        recipe_id=name,
        backbone=arguments.backbone,
        preprocessing=preprocessing,
        tiling=Tiling(tile_size=arguments.tile_size, stride=stride),
        weights_sha256="0" * 64,
    )
    train = _train_peer if name == "anomalib" else _train_ours
    train(frames, recipe, seed, arguments, measure)
    return snapshots


def _train_ours(frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace, measure: Snapshot) -> None:
    options = TrainOptions(
        tile_size=arguments.tile_size,
        batch_size=arguments.batch_size,
        steps=arguments.tiles // arguments.batch_size,
        seed=seed,
        # No frame is kept aside here, as the peer keeps none, so there is nothing to choose weights by.
        **(VARIANTS[recipe.recipe_id] | {"keep": "last"}),
    )
    recipe = recipe.model_copy(update={"map_normalisation": options.map_normalisation})
    device = choose_device(arguments.device)
    model = build_model(recipe)
    load_encoder_weights(model.encoder, arguments.encoder_weights)
    stream = TileStream(frames, options.tile_size, seed, options.pseudo_defect_share)
    tiles = [stream[number].clean for number in range(2)]
    trainer = Trainer(model, stream, tiles, recipe.preprocessing, options, device, {})
    due = _spread(arguments)

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


def _train_peer(frames: FrameSet, recipe: Recipe, seed: int, arguments: argparse.Namespace, measure: Snapshot) -> None:
    from anomalib.models import ReverseDistillation as Peer

    device = choose_device(arguments.device)
    peer = Peer(
        backbone=arguments.backbone,
        pre_trained=False,
        pre_processor=Peer.configure_pre_processor((arguments.tile_size, arguments.tile_size)),
        evaluator=False,
        visualizer=False,
    )
    ours = build_model(recipe := recipe.model_copy(update={"bottleneck_width": "anomalib"}))
    load_encoder_weights(ours.encoder, arguments.encoder_weights)
    peer.model.encoder.feature_extractor.load_state_dict(ours.encoder.feature_extractor.state_dict())
    peer.to(device).train()
    optimiser = peer.configure_optimizers()
    due = _spread(arguments)
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


def _spread(arguments: argparse.Namespace) -> set[int]:
    last = arguments.tiles // arguments.batch_size
    return {round(last * (number + 1) / arguments.snapshots) for number in range(arguments.snapshots)}


def _print(name: str, runs: list[dict[str, Any]]) -> None:
    table = Table("method", "tiles seen", "seeds", *METRICS, title=name)
    methods = list(dict.fromkeys(run["method"] for run in runs))
    for method in methods:
        chosen = [run["snapshots"] for run in runs if run["method"] == method]
        for snapshots in zip(*chosen, strict=True):
            cells = [_cell([snapshot[metric] for snapshot in snapshots]) for metric in METRICS]
            table.add_row(method, str(snapshots[0]["tiles_seen"]), str(len(snapshots)), *cells)
    Console(width=140).print(table)


def _cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
