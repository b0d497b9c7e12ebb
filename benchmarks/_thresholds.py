"""Methods at a threshold of their own, set as a user would set it, and at true false-reject rates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _patchcore import PATCHCORE, collect
from _rates import describe_threshold, describe_true_rates, format_range
from _training import PEER, choose_options, count_steps, make_scratch, plan_recipe, train_peer
from rich.console import Console
from rich.table import Table

from inspector.config import Preprocessing, Recipe, Threshold
from inspector.device import choose_device
from inspector.model import ReverseDistillation
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import FrameSet, list_images, read_image, split, survey
from inspector.training.data.good_frames import drop_duplicates
from inspector.training.evaluation.evaluate import Evaluation, evaluate
from inspector.training.recipe_writer import write_recipe
from inspector.training.thresholds.scoring import score_frames
from inspector.training.train import train
from inspector.types import Verdict

KEPT_ASIDE = 0.2
"""Share of the peer's good frames that its threshold is set from."""

RANKINGS = ("image_auroc", "aupro")


def measure_thresholds(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a method on train/good with all it needs for a threshold, and measure it there and at the true rates."""
    if name == PATCHCORE:
        return _measure_patchcore(seed, arguments)
    with make_scratch() as scratch:
        make = _make_peer if name == PEER else _make_ours
        recipe = make(name, seed, arguments, scratch / "recipe")
        evaluation = evaluate(scratch / "recipe", arguments.dataset, device=arguments.device)
    return describe(recipe, evaluation, arguments.rates)


def _make_ours(name: str, seed: int, arguments: argparse.Namespace, out: Path) -> Recipe:
    return train(arguments.dataset / "train" / "good", out, choose_options(name, seed, arguments))


def _make_peer(name: str, seed: int, arguments: argparse.Namespace, out: Path) -> Recipe:
    """Its own threshold needs defects; without any it is the highest score of good frames kept aside."""
    preprocessing, frames, aside = _keep_aside(seed, arguments)
    made = []

    def complete(model: ReverseDistillation, recipe: Recipe, _: int) -> None:
        write_recipe(recipe, model, out)
        scores = score_frames(open_detector(out, device=choose_device(arguments.device)), aside)
        threshold = Threshold(value=max(frame.score for frame in scores.values()), method="manual", n_good=len(scores))
        made.append(write_recipe(recipe.model_copy(update={"threshold": threshold}), model, out))

    last = count_steps(arguments)
    train_peer(frames, plan_recipe(name, preprocessing, arguments), seed, arguments, {last}, complete)
    return made[0]


def _measure_patchcore(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """As `_make_peer` sets a threshold."""
    preprocessing, frames, aside = _keep_aside(seed, arguments)
    bank = collect(frames, plan_recipe(PATCHCORE, preprocessing, arguments), seed, arguments)
    highest = max(bank.judge(*read_image(path))[1] for path in aside)
    threshold = Threshold(value=highest, method="manual", n_good=len(aside))
    recipe = bank.recipe.model_copy(update={"threshold": threshold})
    return describe(recipe, bank.evaluate(arguments.dataset, highest), arguments.rates)


def _keep_aside(seed: int, arguments: argparse.Namespace) -> tuple[Preprocessing, FrameSet, Sequence[Path]]:
    """How frames are scaled, the good ones that a peer learns from, and those that it does not."""
    torch.manual_seed(seed)
    distinct = list(drop_duplicates(list_images(arguments.dataset / "train" / "good")).values())
    preprocessing, looks = survey(distinct, arguments.scale, (0, 65_535), arguments.resize, arguments.short_side)
    parts = split(list(looks), KEPT_ASIDE, 0, seed)
    # It validates with none.
    return preprocessing, FrameSet([*parts.training, *parts.validation], preprocessing), parts.calibration


def describe(recipe: Recipe, evaluation: Evaluation, rates: Sequence[float]) -> dict[str, Any]:
    """What is kept of a run; the frames' scores among it, so that any other threshold can be looked at later."""
    assert recipe.threshold is not None  # noqa: S101 (an evaluation has one)
    kinds = [sample.kind for sample in evaluation.samples]
    scores = [sample.score for sample in evaluation.samples]
    refused = [sample.verdict is Verdict.ERROR for sample in evaluation.samples]
    return {
        **{metric: evaluation.metrics[metric] for metric in RANKINGS},
        "own": describe_threshold(kinds, scores, refused, recipe.threshold.value),
        "own_threshold": recipe.threshold.model_dump(mode="json", exclude={"set_with"}),
        "at_rates": describe_true_rates(kinds, scores, refused, rates),
        "frames": evaluation.to_json()["frames"],
    }


def print_thresholds(title: str, runs: Sequence[dict[str, Any]]) -> None:
    """A line for each method and threshold: the mean over the seeds, and the lowest to the highest."""
    columns = ("false rejects", "false errors", "escapes", "by score alone", "stated bound")
    table = Table("method", "seeds", *RANKINGS, "threshold", *columns, title=title, caption=_CAPTION)
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        ranks = [format_range([run[metric] for run in mine], "{:.3f}") for metric in RANKINGS]
        bounds = [run["own_threshold"]["false_reject_bound"] for run in mine]
        table.add_row(
            method,
            str(len(mine)),
            *ranks,
            "own",
            *_describe([run["own"] for run in mine]),
            format_range(bounds, "{:.1%}"),
        )
        for rate in mine[0]["at_rates"]:
            at_rate = [run["at_rates"][rate] for run in mine]
            table.add_row("", "", "", "", f"true {float(rate):.1%}", *_describe(at_rate), "–")
        table.add_section()
    Console(width=190).print(table)


_CAPTION = (
    "own: ours as train() sets it; the peers' the highest score of a fifth of train/good, kept aside. "
    "true: at most that share of test/good lies above it, so it cannot be had without the test set. "
    "Escapes: neither rejected nor refused for what the frame shows; by score alone: if none were refused."
)


def _describe(found: Sequence[dict[str, Any]]) -> list[str]:
    names = ("false_reject_rate", "false_error_rate", "escape_rate", "escape_rate_by_score")
    return [format_range([each[name] for each in found], "{:.1%}") for name in names]
