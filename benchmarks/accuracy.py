"""Accuracy side by side: anomalib's Reverse Distillation and its PatchCore, by its own code, and ours.

    python benchmarks/accuracy.py DATASET_DIR --encoder-weights resnet18.pth --scale 0.5 --json lens.json

Both networks see the same frames (all of train/good), the same number of tiles, start from the same encoder weights
and are judged by the same code at a third, two thirds and the end of training. Theirs: its model, loss and optimiser,
float32, frames resized and cut as ours are (it would resize with antialiasing in training and without at inference,
which costs it accuracy; it is spared that); its weights then go through the importer, whose maps equal its own to 1e-5.
Each tile it learns from is one of ours before a pseudo-defect. Needs the bench extra.

PatchCore is not trained: its bank is chosen (--coreset-ratio) from the features of all tiles of all good frames, once,
and what it gives is measured as it is: its own map of each tile, and of a frame the highest of its own tile scores.

    python benchmarks/accuracy.py DATASET_DIR --encoder-weights resnet18.pth --thresholds --json thresholds.json

compares what users get: escapes and false rejects at a threshold set without the test set. Ours is what train() makes
of train/good by default. Theirs needs defects for one, so a fifth of train/good is kept from it in training, and the
highest score of these is its threshold, PatchCore's too. Beside it, all at the thresholds that at most 1 % and 2 % of
test/good lie above: those need the test set.

    python benchmarks/accuracy.py DATASET_DIR --encoder-weights resnet18.pth --draws 20 --draw-sizes 16 32 64 \
        --resize 128 128 --tile-size 128 --tiles 1600 --json draws.json

asks whether the bound on false rejects that a recipe states holds: train() on random draws of so many of all good
frames (train/good and test/good), then the false-reject rate on all the others, and escapes.

--json is written after each run; called again with the same file and settings, only what it lacks is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _draws import measure_draw, print_draws
from _patchcore import PATCHCORE, collect
from _rates import describe_true_rates, format_range
from _results import Run, measure_each
from _thresholds import measure_thresholds, print_thresholds
from _training import PEER, VARIANTS, count_steps, plan_recipe, train_ours, train_peer
from rich.console import Console
from rich.table import Table

from inspector.config import Recipe, Threshold
from inspector.model import ReverseDistillation
from inspector.training.data.datasets import FrameSet, list_images, survey
from inspector.training.evaluation.evaluate import Evaluation, evaluate
from inspector.training.recipe_writer import write_recipe

METRICS = ("image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro", "aupro_0_05")

_FREE = {"json", "threads", "seeds", "methods", "draws", "draw_sizes"}
"""Options that may differ between runs of one file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = parse(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    methods = [{"method": name, "seed": seed} for seed in options.seeds for name in options.methods]
    if options.draws:
        draws = [{"size": size, "draw": number} for size in options.draw_sizes for number in range(options.draws)]
        runs = _measure("draws", draws, lambda case: measure_draw(case["size"], case["draw"], options), options)
        print_draws(options.dataset.name, runs)
    elif options.thresholds:
        runs = _measure(
            "thresholds", methods, lambda case: measure_thresholds(case["method"], case["seed"], options), options
        )
        print_thresholds(options.dataset.name, runs)
    else:
        runs = _measure(
            "snapshots", methods, lambda case: measure_snapshots(case["method"], case["seed"], options), options
        )
        print_snapshots(options.dataset.name, runs)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a data set in MVTec layout")
    parser.add_argument("--encoder-weights", required=True, help="file of ImageNet weights for both")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--methods", nargs="+", choices=[PEER, PATCHCORE, *VARIANTS], help="not with --draws")
    parser.add_argument("--tiles", type=int, default=3360, help="seen in training")
    parser.add_argument("--seeds", type=int, nargs="+", help="not with --draws, whose number is the seed")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--resize", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="squeeze frames to this")
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="scale frames, aspect kept, to this")
    parser.add_argument("--tile-size", type=int, default=256)
    parser.add_argument("--stride", type=int, help="of ours; theirs does not overlap tiles")
    parser.add_argument("--coreset-ratio", type=float, default=0.01, help="share of features that PatchCore keeps")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--snapshots", type=int, default=3, help="how often to measure, without the next two")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--thresholds", action="store_true", help="compare at thresholds, not in training")
    mode.add_argument("--draws", type=int, default=0, metavar="N", help="train ours on N random draws of each size")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.02], help="true ones of false rejects")
    parser.add_argument("--draw-sizes", type=int, nargs="+", default=[16, 32, 64], help="good frames in a draw")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.draws and (options.methods or options.seeds):
        parser.error("--draws: must come without --methods and --seeds")
    if not 0 < options.coreset_ratio <= 1:
        parser.error(f"--coreset-ratio: must be above 0 and at most 1, got {options.coreset_ratio}")
    options.methods = options.methods or [PEER, PATCHCORE, "ours"]
    options.seeds = options.seeds or [0, 1]
    peers = {PEER, PATCHCORE} & {*options.methods}
    if not options.draws and peers and importlib.util.find_spec("anomalib") is None:
        parser.error("--methods: anomalib is not installed: install the bench extra, or name others")
    return options


def _measure(mode: str, cases: Sequence[Run], measure: Callable[[Run], Run], options: argparse.Namespace) -> list[Run]:
    settings = {name: value for name, value in vars(options).items() if name not in _FREE}
    return measure_each(cases, measure, options.json, settings | {"mode": mode})


def measure_snapshots(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train on all of train/good and measure on the way."""
    snapshots: list[dict[str, Any]] = []

    def keep(evaluation: Evaluation, tiles: int) -> None:
        snapshots.append({"tiles_seen": tiles} | _choose_metrics(evaluation, options.rates))
        shown = {metric: value and round(value, 4) for metric, value in snapshots[-1].items() if metric in METRICS}
        print({"tiles": tiles} | shown, file=sys.stderr, flush=True)

    def measure(model: ReverseDistillation, recipe: Recipe, tiles: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # The threshold takes no part in the metrics compared here, but an evaluation asks for one.
            complete = recipe.model_copy(update={"threshold": Threshold(value=1.0, method="manual")})
            write_recipe(complete, model, Path(folder) / "recipe")
            keep(evaluate(Path(folder) / "recipe", options.dataset, device=options.device), tiles)

    torch.manual_seed(seed)
    paths = list_images(options.dataset / "train" / "good")
    preprocessing, looks = survey(paths, options.scale, (0, 65_535), options.resize, options.short_side)
    frames = FrameSet(list(looks), preprocessing)
    recipe = plan_recipe(name, preprocessing, options)
    if name == PATCHCORE:
        bank = collect(frames, recipe, seed, options)
        keep(bank.evaluate(options.dataset, 1.0), bank.tiles_seen)
    else:
        train = train_peer if name == PEER else train_ours
        train(frames, recipe, seed, options, _spread(options), measure)
    return {"snapshots": snapshots}


def _choose_metrics(evaluation: Evaluation, rates: Sequence[float]) -> dict[str, Any]:
    metrics = evaluation.metrics
    by_kind = {kind: values["image_auroc"] for kind, values in metrics["by_kind"].items()}
    chosen = {metric: metrics[metric] for metric in METRICS}
    kinds, scores = zip(*((sample.kind, sample.score) for sample in evaluation.samples), strict=True)
    return chosen | {"image_auroc_by_kind": by_kind, "at_rates": describe_true_rates(kinds, scores, None, rates)}


def _spread(options: argparse.Namespace) -> set[int]:
    last = count_steps(options)
    return {max(1, round(last * (number + 1) / options.snapshots)) for number in range(options.snapshots)}


def print_snapshots(name: str, runs: Sequence[Run]) -> None:
    """A line for each method and snapshot."""
    rates = runs[0]["snapshots"][0]["at_rates"]
    escapes = [f"escapes at {float(rate):.1%}" for rate in rates]
    table = Table("method", "tiles seen", "seeds", *METRICS, *escapes, title=name)
    methods = list(dict.fromkeys(run["method"] for run in runs))
    for method in methods:
        chosen = [run["snapshots"] for run in runs if run["method"] == method]
        for snapshots in zip(*chosen, strict=True):
            cells = [format_range([snapshot[metric] for snapshot in snapshots], "{:.3f}") for metric in METRICS]
            passed = [[snapshot["at_rates"][rate]["escape_rate"] for snapshot in snapshots] for rate in rates]
            cells += [format_range(each, "{:.1%}") for each in passed]
            table.add_row(method, str(snapshots[0]["tiles_seen"]), str(len(snapshots)), *cells)
    Console(width=190).print(table)


if __name__ == "__main__":
    main()
