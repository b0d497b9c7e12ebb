"""Good frames that are not like the others: found before a threshold is set, lest they lift it unseen. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

FEWEST = 8
"""Scores below which none can be told from the others."""
_MOST = 0.25
"""Of the scores that may stand out: what more frames share is how good frames are."""
_PROBABILITY = 0.15
"""That any score stands out where all are plausible: a frame that a person looks at in vain costs little."""
_LEAST_SCALE = 0.01  # scores that tie leave no distance: what is a per cent higher is no outlier yet


def count_outliers(scores: Array) -> int:
    """How many of the highest scores (n,) are cut off from the rest by a gap that chance does not explain.

    The upper half of plausible scores falls off at most as a Pareto law, so their logarithms as an exponential one:
    then i times the i-th gap from above is exponential, each with the same mean and by itself (Rényi 1953). A gap is
    compared with the mean of those below it, by Snedecor's F, at a level shared by all gaps that are looked at.
    """
    n = len(scores)
    if n < FEWEST:
        return 0
    values = np.sort(np.log(np.maximum(scores, 1e-12)))[::-1][: n // 2 + 1]
    gaps = -np.diff(values) * np.arange(1, len(values))
    most = count_candidates(n)
    found = 0
    for place in range(most):
        below = gaps[place + 1 :]
        ratio = gaps[place] / max(float(below.mean()), _LEAST_SCALE)
        if (1 + ratio / len(below)) ** -len(below) < _PROBABILITY / most:  # F with 2 and 2 len(below) degrees
            found = place + 1
    return found


def count_candidates(n: int) -> int:
    """How many of n scores may be outliers."""
    return max(1, int(n * _MOST))


def find_outliers(scores: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which scores (n,) are outliers, see `count_outliers`."""
    found = np.zeros(len(scores), dtype=np.bool_)
    found[np.argsort(scores)[len(scores) - count_outliers(scores) :]] = True
    return found
