"""Does the stated bound on false rejects hold? Recipes from random draws of good frames, measured on all the others."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _rates import compare_with_bound, describe_threshold, summarise_draws
from _training import choose_options, make_scratch
from rich.console import Console
from rich.table import Table

from inspector.training.data.datasets import list_images
from inspector.training.data.good_frames import drop_duplicates
from inspector.training.evaluation.evaluate import evaluate
from inspector.training.evaluation.image_metrics import GOOD
from inspector.training.train import train
from inspector.types import Verdict


def list_pool(dataset: Path) -> list[Path]:
    """All good frames of a data set, each once."""
    paths = [*list_images(dataset / "train" / GOOD), *list_images(dataset / "test" / GOOD)]
    return list(drop_duplicates(paths).values())


def draw(pool: Sequence[Path], size: int, number: int) -> tuple[list[Path], list[Path]]:
    """So many frames at random, without replacement, the same whenever asked again; and all the others.

    Raises:
        ValueError: no other would be left.
    """
    if size >= len(pool):
        raise ValueError(f"--draw-sizes: must leave good frames to measure on, got {size} of {len(pool)}")
    drawn = set(random.Random(f"{size}/{number}").sample(range(len(pool)), size))
    parts: tuple[list[Path], list[Path]] = ([], [])
    for index, path in enumerate(pool):
        parts[index not in drawn].append(path)
    return parts


def lay_out(folder: Path, dataset: Path, drawn: Sequence[Path], rest: Sequence[Path]) -> None:
    """A data set of links: train/good is what was drawn, test/good the rest, the defects are the data set's."""
    _link(drawn, folder / "train" / GOOD)
    _link(rest, folder / "test" / GOOD)
    for kind in sorted(path for path in (dataset / "test").iterdir() if path.is_dir() and path.name != GOOD):
        _link(list_images(kind), folder / "test" / kind.name)


def _link(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):  # two folders may have a file of the same name
        (folder / f"{number:05}-{path.name}").symlink_to(path.resolve())


def measure_draw(size: int, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on a draw, with its number as the seed, and measure on every other good frame and on all defects."""
    drawn, rest = draw(list_pool(arguments.dataset), size, number)
    with make_scratch() as scratch:
        lay_out(scratch / "data", arguments.dataset, drawn, rest)
        recipe = train(scratch / "data" / "train" / GOOD, scratch / "recipe", choose_options("ours", number, arguments))
        samples = evaluate(scratch / "recipe", scratch / "data", device=arguments.device).samples
    threshold = recipe.threshold
    assert threshold is not None  # noqa: S101 (training sets one)
    assert threshold.false_reject_bound is not None  # noqa: S101
    kinds, scores = [sample.kind for sample in samples], [sample.score for sample in samples]
    found = describe_threshold(kinds, scores, [each.verdict is Verdict.ERROR for each in samples], threshold.value)
    good = np.array([score for kind, score in zip(kinds, scores, strict=True) if kind == GOOD])
    rejects = int((good > threshold.value).sum())
    return {
        **found,
        "method": threshold.method,
        "n_calibration": threshold.n_good,
        "n_rest": len(good),
        "false_rejects": rejects,
        "false_reject_bound": threshold.false_reject_bound,
        **compare_with_bound(rejects, len(good), threshold.false_reject_bound),
        "good_scores": sorted(good.tolist()),
        "defect_scores": sorted(score for kind, score in zip(kinds, scores, strict=True) if kind != GOOD),
    }


def print_draws(title: str, runs: Sequence[dict[str, Any]]) -> None:
    """A line for each size."""
    columns = ("within the bound", "significantly above", "stated bound", "false rejects", "false errors", "escapes")
    table = Table("frames drawn", "draws", *columns, "by score alone", title=title, caption=_CAPTION)
    for size in dict.fromkeys(run["size"] for run in runs):
        found = summarise_draws([run for run in runs if run["size"] == size])
        shares = [f"{value:.1%}" for name, value in found.items() if name.startswith("mean_")]
        table.add_row(str(size), str(found["draws"]), str(found["within"]), str(found["above"]), *shares)
    Console(width=150).print(table)


_CAPTION = (
    "Rates are means over the draws, measured on all good frames that were not drawn and on all defects. "
    "Significantly above: a binomial test at 5 %. Draws of one pool share frames, so they are not independent."
)
