"""A recipe in words: how its threshold came about, what that guarantees, and what it would miss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from inspector.config import CrossValidation, ExpectedFrames, Recipe, Threshold


def show_recipe(recipe: Recipe, folder: Path) -> None:
    """Print what the recipe states: training, threshold, bounds and what it would miss."""
    from inspector.config import list_doubts

    typer.echo(f"recipe {recipe.recipe_id} in {folder}")
    for line in (*_describe_training(recipe.training), *_describe_judging(recipe), *_describe_misses(recipe)):
        typer.echo(line)
    if (folder / "scores.json").is_file():
        _show_trade_off(folder, recipe)
    for doubt in list_doubts(recipe):
        typer.echo(f"hint: {doubt}")


def _describe_training(facts: Mapping[str, Any]) -> Iterator[str]:
    if "imported_from" in facts:
        yield f"imported: from {facts['imported_from']} ({facts['format']}), sha256 {facts['sha256']}"
    elif facts:
        yield f"trained: {facts['steps']} steps, {facts['tiles_seen']} tiles, {facts['seconds']} s"
    if facts.get("n_trimmed"):
        yield f"  {facts['n_trimmed']} good frames stood out and were left out (--trim); see suspects/"
    if facts.get("n_skipped"):
        yield f"  {facts['n_skipped']} good frames could not be used; see training.json"


def _describe_judging(recipe: Recipe) -> Iterator[str]:
    from inspector.types import PixelFormat

    if recipe.threshold is not None:
        yield from describe_threshold(recipe.threshold, len(recipe.zones))
    if recipe.preprocessing.pixel_format is PixelFormat.MONO16:
        yield "16-bit frames: black is {}, white {} (mono16_range)".format(*recipe.preprocessing.mono16_range)
    if recipe.expected_frames is not None:
        yield describe_expectation(recipe.expected_frames)
    if recipe.min_region_area > 1:
        yield f"minimum region area: {recipe.min_region_area} pixels of the map"
    for zone in recipe.zones:
        if zone.threshold is not None:
            yield f"zone {zone.name}: threshold {zone.threshold.value:.5g} ({zone.threshold.method})"


def _describe_misses(recipe: Recipe) -> Iterator[str]:
    from inspector.config import describe_qualification

    if recipe.qualification is not None:
        yield f"what it would miss, tested with artificial defects on {recipe.qualification.n_frames} good frames:"
        for line in describe_qualification(recipe.qualification):
            yield f"  {line}"


def _show_trade_off(folder: Path, recipe: Recipe) -> None:
    """What other thresholds would cost."""
    from rich.console import Console
    from rich.table import Table

    from inspector.training.thresholds.score_record import load_scores
    from inspector.training.thresholds.trade_off import compute_trade_off

    if recipe.threshold is None or recipe.zones:
        return  # each zone has a threshold of its own
    table = Table("threshold", "good frames rejected", "at most", "expected", "artificial defects that pass")
    for row in compute_trade_off(load_scores(folder), recipe.threshold.value):
        table.add_row(
            f"{row.threshold:.5g}{' (chosen)' if row.chosen else ''}",
            f"{row.rejected} of {row.n_good}",
            f"{row.bound:.1%}",
            "" if row.expected is None or row.interval is None else
            f"{row.expected:.2%} ({row.interval[0]:.2%} to {row.interval[1]:.2%})",
            "" if row.passed is None else f"{row.passed:.0%}",
        )  # fmt: skip
    Console(width=100).print(table)
    typer.echo(f"  to choose: inspector calibrate {folder} --false-reject-rate SHARE or --policy extrapolate")


def describe_expectation(expected: ExpectedFrames) -> str:
    """What frames are refused by, and what that costs."""
    sizes = (
        " or ".join("×".join(map(str, size)) for size in expected.sizes_hw or ()) or "about as large as the good frames"
    )
    return (
        f"frames must be {sizes} and look like the {expected.n_good} good frames (expected_frames), else ERROR; "
        f"this refuses at most {expected.false_error_bound:.1%} of good frames, at 95 % confidence"
        + (f"; switched off: {', '.join(expected.off)}" if expected.off else "")
    )


def describe_threshold(threshold: Threshold, zones: int = 0) -> Iterator[str]:
    """Lines that say how it was set and what the frames show of it."""
    line = f"threshold {threshold.value:.5g} ({_METHODS.get(threshold.method, threshold.method)}"
    seen = "each scored by a network not trained on it" if threshold.cross_validated else "not used in training"
    yield line + f", {threshold.n_good} good frames {seen})"
    yield from _describe_rejects(threshold)
    if threshold.cross_validated is not None:
        yield from _describe_folds(threshold.cross_validated)
    target = threshold.target_false_reject_rate
    if target is not None and threshold.n_good * target < 1 + zones:
        # (1 - rate)^n = 0.05, in each of the parts that share the target and the doubt: about 3 / target for one.
        needed = math.ceil(math.log(20 * (1 + zones)) * (1 + zones) / target)
        instead = _INSTEAD.get(threshold.method, "")
        yield (
            f"  {threshold.n_good} good frames are too few to prove the target of {100 * target:.3g} %{instead}; "
            f"{needed} without a reject would do"
        )
    if threshold.warn_above is not None:
        yield f"  warning above {threshold.warn_above:.5g}"
    if threshold.groups is not None:
        groups = threshold.groups
        yield (
            f"  groups left out in turn: {groups.false_reject_rate:.1%} rejected ({groups.interval[0]:.1%} to "
            f"{groups.interval[1]:.1%}); worst {groups.worst_group} with {groups.worst_false_reject_rate:.1%}"
        )
    if threshold.escape_rate is not None:
        low, high = threshold.escape_interval or (0.0, 1.0)
        yield (
            f"escapes: {threshold.escape_rate:.1%} of {threshold.n_defective} defective frames "
            f"({low:.1%} to {high:.1%} at 95 % confidence)"
        )
    if threshold.defect_scores is not None and threshold.good_scores is not None:
        good, defects = threshold.good_scores, threshold.defect_scores
        yield (
            f"  good frames score {good.median:.4g} (median) to {good.p95:.4g} (95 %), the threshold is "
            f"{threshold.value:.4g}, defective ones from {defects.lowest:.4g}, median {defects.median:.4g}"
        )


def _describe_rejects(threshold: Threshold) -> Iterator[str]:
    if threshold.false_reject_bound is not None:
        yield f"  false rejects: at most {threshold.false_reject_bound:.1%}, at 95 % confidence"
    if threshold.n_outliers:
        yield (
            f"  {threshold.n_outliers} of the good frames stand out and score above it. Check them; --trim leaves them "
            "out, --keep-outliers treats them as good"
        )
    if threshold.tail is not None and threshold.tail.rate is not None:
        low, high = threshold.tail.rate_interval
        yield (
            f"  a distribution fitted to their highest peaks predicts {threshold.tail.rate:.2%} ({low:.2%} to "
            f"{high:.2%})"
            f"{' of frames that do not stand out' if threshold.n_outliers else ''}; this is an estimate, not a bound"
        )


def _describe_folds(folds: CrossValidation) -> Iterator[str]:
    yield (
        f"  cross-validated: scored by {folds.n_folds} networks like this one, each trained on the other frames; "
        f"of {folds.n_deployed} frames not used to train this one, {folds.deployed_above} score above it"
        + (
            f", and they score {folds.unseen_ratio:.2f} times as high as by those, which the bound allows for"
            if folds.unseen_ratio > 1
            else ""
        )
    )


_METHODS = {
    "order_statistic": "as the target asks",
    "near_highest": "near the highest plausible score",
    "generalised_pareto": "extrapolated with a Pareto distribution",
    "gumbel": "extrapolated with a Gumbel distribution",
    "defects": "from the defective frames",
    "manual": "set by hand",
}
_INSTEAD = {
    "near_highest": ", so the threshold is set near their highest score",
    "generalised_pareto": ", so the threshold is extrapolated",
    "gumbel": ", so the threshold is extrapolated",
}
