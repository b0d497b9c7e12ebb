"""Metrics of frames' scores: how well they tell good from defective, and what the threshold makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Array = np.ndarray[Any, Any]

GOOD = "good"
"""The kind of the frames without a defect."""


def compute_image_metrics(
    kinds: Sequence[str], scores: Sequence[float], threshold: float, refused: Sequence[bool] | None = None
) -> dict[str, Any]:
    """Image-level metrics. Intervals are two-sided, of 95 %.

    Args:
        kinds: `good` or the kind of defect, of each frame.
        scores: what each scores; NaN where it has none: it counts in the rates, and is not ranked.
        threshold: a score above it is a reject.
        refused: which frames are answered ERROR whatever they score: these do not escape. None: none.
    """
    truth = np.array([kind != GOOD for kind in kinds])
    values = np.asarray(scores)
    ranked = ~np.isnan(values)
    precision, recall, _ = precision_recall_curve(truth[ranked], values[ranked])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    rejected = values > threshold
    stopped = rejected | np.asarray(refused, dtype=bool) if refused is not None else rejected
    by_kind = {}
    for kind in sorted(set(kinds) - {GOOD}):
        mine = np.array([other == kind for other in kinds])
        compared = ranked & (mine | ~truth)
        auroc = float(roc_auc_score(truth[compared], values[compared])) if (ranked & mine).any() else None
        by_kind[kind] = {"n": int(mine.sum()), "image_auroc": auroc} | compute_rate("escape", ~stopped[mine])
    return {
        "image_auroc": float(roc_auc_score(truth[ranked], values[ranked])),
        "image_ap": float(average_precision_score(truth[ranked], values[ranked])),
        "f1_max": float(f1.max()),
        **compute_rate("false_reject", rejected[~truth]),
        **compute_rate("false_error", (stopped & ~rejected)[~truth]),
        **compute_rate("escape", ~stopped[truth]),
        "n_good": int((~truth).sum()),
        "n_defective": int(truth.sum()),
        "by_kind": by_kind,
    }


def compute_rate(name: str, hits: Array) -> dict[str, Any]:
    """A share and its two-sided 95 % Clopper–Pearson interval, as `<name>_rate` and `<name>_interval`."""
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="exact")
    return {f"{name}_rate": float(hits.mean()), f"{name}_interval": [float(interval.low), float(interval.high)]}
