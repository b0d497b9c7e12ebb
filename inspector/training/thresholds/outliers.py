"""Good frames that are not like the others: found before a threshold is set, lest they lift it unseen. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

FEWEST = 8
"""Scores below which none can be told from the others."""
_FEWEST_OF_A_LAW, MANY = 20, 100
"""So many scores are held against a law: fewer do not give it, more show by themselves how far they reach."""
_MOST = 0.25
"""Of the scores that may stand out: what more frames share is how good frames are."""
_PROBABILITY = 0.15
"""That a gap stands out where all scores are plausible: a frame that a person looks at in vain costs little."""
_FALSE_SHARE = 0.1
"""Of the scores that lie too high for the lower half, how many may be plausible all the same."""
_LEAST_SCALE = 0.01  # scores that tie leave no distance: what is a per cent higher is no outlier yet


def count_outliers(scores: Array) -> int:
    """How many of the highest scores (n,) are not like the rest: cut off from it, or too high for its lower half."""
    if len(scores) < FEWEST:
        return 0
    values = np.sort(scores)[::-1]
    found, most = _count_cut_off(values), count_candidates(len(values))
    if _FEWEST_OF_A_LAW <= len(values) < MANY:
        while more := _count_too_high(values[found:]):  # without them the rest is known better
            if found + more > most:
                break
            found += more
    return found


def _count_cut_off(values: Array) -> int:
    """How many of descending scores lie above a gap that chance does not explain.

    The upper half of plausible scores falls off at most as a Pareto law, so their logarithms as an exponential one:
    then i times the i-th gap from above is exponential, each with the same mean and by itself (Rényi 1953). A gap is
    compared with the mean of those below it, by Snedecor's F, at a level shared by all gaps that are looked at.
    """
    n = len(values)
    logarithms = np.log(np.maximum(values, 1e-12))[: n // 2 + 1]
    gaps = -np.diff(logarithms) * np.arange(1, len(logarithms))
    most = count_candidates(n)
    found = 0
    for place in range(most):
        below = gaps[place + 1 :]
        ratio = gaps[place] / max(float(below.mean()), _LEAST_SCALE)
        if (1 + ratio / len(below)) ** -len(below) < _PROBABILITY / most:  # F with 2 and 2 len(below) degrees
            found = place + 1
    return found


def _count_too_high(values: Array) -> int:
    """How many of descending scores no law fits that fits the lower half, which blemishes do not reach.

    A frame's score is a maximum, so the law is Gumbel's, through the median and the lower quartile. Which scores lie
    too high for it is decided with a bound on the share of wrong ones among them (Benjamini and Hochberg 1995).
    """
    n = len(values)
    quartile, median = np.quantile(values, [0.25, 0.5])
    scale = max(float(median - quartile) / math.log(2), _LEAST_SCALE * abs(float(median)), 1e-12)
    mode = float(median) + scale * math.log(math.log(2))
    ranks = np.arange(1, n // 2 + 1)
    chances = -np.expm1(-np.exp(-(values[: len(ranks)] - mode) / scale))
    return int(np.max(ranks[chances <= _FALSE_SHARE * ranks / n], initial=0))


def count_candidates(n: int) -> int:
    """How many of n scores may be outliers."""
    return max(1, int(n * _MOST))


def find_outliers(scores: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which scores (n,) are outliers, see `count_outliers`."""
    found = np.zeros(len(scores), dtype=np.bool_)
    found[np.argsort(scores)[len(scores) - count_outliers(scores) :]] = True
    return found
