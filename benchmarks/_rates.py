"""What a threshold lets pass and rejects, and whether a stated bound holds. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from inspector.training.evaluation.image_metrics import GOOD, compute_image_metrics
from inspector.training.thresholds.policy import compute_order_statistic

LEVEL = 0.05
"""Of the test that tells bad luck from a bound that does not hold."""

_NAMES = ("false_reject_rate", "false_reject_interval", "false_error_rate", "escape_rate", "escape_interval")


def describe_threshold(
    kinds: Sequence[str], scores: Sequence[float], refused: Sequence[bool] | None, threshold: float
) -> dict[str, Any]:
    """False rejects, false errors and escapes at a threshold, rates from 0 to 1; arguments as `compute_image_metrics`.

    A frame that is refused does not escape; `escape_rate_by_score` is the rate if none were refused.
    """
    metrics = compute_image_metrics(kinds, scores, threshold, refused)
    by_score = compute_image_metrics(kinds, scores, threshold)["escape_rate"]
    return {"threshold": threshold} | {name: metrics[name] for name in _NAMES} | {"escape_rate_by_score": by_score}


def compute_true_threshold(kinds: Sequence[str], scores: Sequence[float], rate: float) -> float:
    """The score that floor(n · rate) of the n good frames given lie above: where it is known which are good."""
    good = np.sort([score for kind, score in zip(kinds, scores, strict=True) if kind == GOOD])
    return float(compute_order_statistic(good, rate)[0])


def describe_true_rates(
    kinds: Sequence[str], scores: Sequence[float], refused: Sequence[bool] | None, rates: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """By rate: as `describe_threshold` at the true threshold. `refused`: None: no frame is."""
    return {
        str(rate): describe_threshold(kinds, scores, refused, compute_true_threshold(kinds, scores, rate))
        for rate in rates
    }


def compare_with_bound(rejects: int, n: int, bound: float) -> dict[str, Any]:
    """Whether `rejects` of `n` good frames keep a bound on the false-reject rate.

    Returns:
        The observed rate, whether it is at most the bound, and whether it is significantly above: so many rejects or
        more come with a probability (`p_value`) below `LEVEL` if the true rate is the bound.
    """
    p_value = float(stats.binomtest(rejects, n, bound, alternative="greater").pvalue)
    rate = rejects / n
    return {"false_reject_rate": rate, "is_within": rate <= bound, "p_value": p_value, "is_above": p_value < LEVEL}


def summarise_draws(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the draws of one size: in how many the bound was kept or significantly passed, and the mean of each rate."""
    names = ("false_reject_bound", "false_reject_rate", "false_error_rate", "escape_rate", "escape_rate_by_score")
    return {
        "draws": len(runs),
        "within": sum(run["is_within"] for run in runs),
        "above": sum(run["is_above"] for run in runs),
    } | {f"mean_{name}": statistics.mean(run[name] for run in runs) for name in names}


def format_range(values: Sequence[float | None], form: str) -> str:
    """Mean (lowest–highest) of what is known, such as an AUPRO where there are masks."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = form.format(min(known)), form.format(max(known))
    return f"{form.format(statistics.mean(known))} ({low}–{high})" if len(known) > 1 else low
