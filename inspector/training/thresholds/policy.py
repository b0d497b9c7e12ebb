"""The statistics of a threshold: from good frames' scores to a value, and what these frames show of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from inspector.config import GoodScores, GroupCheck, Policy, Threshold
from inspector.detection.parts import compute_gain
from inspector.errors import TrainingError
from inspector.training.thresholds.outliers import count_candidates, count_outliers
from inspector.training.thresholds.tail import Peaks, fit_tail

Array = np.ndarray[Any, np.dtype[np.float64]]
Scores = Mapping[str, Array]
"""Scores (n,) of the same n frames, by part of the frame: outside all zones (REST), then by the zone's name."""

REST = ""
CONFIDENCE = 0.95
WARN_FACTOR = 5
"""Of the target false-reject rate: how many good frames may carry a warning."""


def compute_false_reject_bound(rejects: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper one-sided Clopper–Pearson bound on the false-reject rate after `rejects` in `n` good frames."""
    return 1.0 if rejects >= n else float(stats.beta.ppf(confidence, rejects + 1, n - rejects))


def compute_interval(count: int, n: int) -> tuple[float, float]:
    """Two-sided 95 % Clopper–Pearson interval of a rate of which `count` in `n` were seen."""
    interval = stats.binomtest(count, n).proportion_ci(CONFIDENCE, "exact")
    return float(interval.low), float(interval.high)


def compute_order_statistic(values: Array, false_reject_rate: float) -> tuple[Array, int]:
    """Of sorted scores (..., n) the one that k = floor(n · rate) lie above, and k.

    Further scores exceed it at a rate that follows Beta(k + 1, n - k), so the bound after k rejects is exact. With
    ties it is larger than needed; one from the rejects then counted would be too small.
    """
    n = values.shape[-1]
    allowed = math.floor(n * false_reject_rate + 1e-9)  # 100 × 0.29 is 28.999999999999996
    return values[..., n - 1 - allowed], allowed


def compute_threshold(
    scores: Sequence[float] | Array,
    false_reject_rate: float,
    *,
    policy: Policy = "near",
    confidence: float = CONFIDENCE,
    warn_rate: float | None = None,
    peaks: Peaks | None = None,
    outliers: bool = True,
) -> Threshold:
    """Set the threshold from good frames' scores.

    With enough frames for the rate, the order statistic. With fewer, by the policy:

    - `near`: the highest plausible score, and at most one mean excess above it, see `_lie_near`.
    - `extrapolate`: where a law over the highest peaks puts the target, never below the highest plausible score: a
      generalised Pareto law, or Gumbel's where there are fewer than 20, as a frame's score is a maximum.

    Outliers stay above it and count as rejects in the bound, which is what the frames show by themselves.

    Args:
        scores: of frames never trained on.
        false_reject_rate: the target.
        policy: see above.
        confidence: of the bound; above 95 % where this is one of several thresholds on the same frames.
        warn_rate: share of good frames that may lie in the warn band or above; 5 times the target by default.
        peaks: of each frame's map; None: the scores are all that is known.
        outliers: whether scores that stand out are implausible; False: each frame is as good as the others.

    Raises:
        TrainingError: fewer than 2 scores, one not finite, or a threshold that would not lie above 0.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        raise TrainingError(f"calibration: at least 2 finite scores are needed, got {list(scores)}")
    statistic, allowed = compute_order_statistic(values, false_reject_rate)
    n_outliers = count_outliers(values) if outliers else 0
    plausible = values[: n - n_outliers]
    fit = fit_tail(select_peaks(plausible, peaks))
    value, method = float(statistic), "order_statistic"
    if n_outliers > allowed:
        lowest = math.nextafter(values[n - n_outliers], 0)
        value, method, allowed = min(_lie_near(plausible, false_reject_rate), lowest), "near_highest", n_outliers
        # How many stand out was not known beforehand: each number that was possible has its share of the doubt.
        confidence = 1 - (1 - confidence) / count_candidates(n)
    elif not allowed and policy == "near":
        value, method = _lie_near(plausible, false_reject_rate), "near_highest"
    elif not allowed and fit is not None:
        value, method = max(value, fit.find_level(false_reject_rate)), "generalised_pareto"
    elif not allowed:
        value, method = max(value, _gumbel_quantile(values, false_reject_rate)), "gumbel"
    if value <= 0 or values[-1] <= 0:  # a tail may be put over nothing, too
        raise TrainingError(
            f"threshold: must lie above 0, got {min(value, values[-1]):g} from {n} frames: the anomaly maps "
            "show nothing"
        )
    return Threshold(
        value=value,
        method=method,  # type: ignore[arg-type]
        warn_above=compute_warn_level(values, warn_rate or WARN_FACTOR * false_reject_rate, value),
        n_good=n,
        n_outliers=n_outliers,
        good_scores=describe_scores(values),
        target_false_reject_rate=false_reject_rate,
        false_reject_bound=compute_false_reject_bound(allowed, n, confidence),
        tail=fit.describe(value) if fit is not None and value >= fit.location else None,
    )


def select_peaks(plausible: Array, peaks: Peaks | None) -> Peaks:
    """Peaks of the frames that score no more than the highest plausible one: what a law is fitted to."""
    if peaks is None:
        return [np.array([score]) for score in plausible]
    highest = float(np.max(plausible, initial=-np.inf))
    return [each for each in peaks if each[0] <= highest]


def _lie_near(plausible: Array, false_reject_rate: float) -> float:
    """The highest of sorted plausible scores, and above it as much as lowers an exponential tail to the target.

    At most the tail's scale, the mean excess over the median: one more would be an extrapolation. The highest of n
    scores is exceeded at a rate of about 1 / n, so this brings it to a third at the most.
    """
    median = float(np.median(plausible))
    excesses = plausible[plausible > median] - median
    scale = float(excesses.mean()) if len(excesses) else 0.0
    return float(plausible[-1]) + scale * min(1.0, max(0.0, -math.log(false_reject_rate * len(plausible))))


def describe_scores(scores: Array) -> GoodScores:
    """Median and 95 % quantile of good frames' scores (n,)."""
    median, p95 = np.quantile(scores, [0.5, 0.95])
    return GoodScores(median=float(median), p95=float(p95))


def compute_warn_level(scores: Array, warn_rate: float, threshold: float) -> float | None:
    """The score that at most `warn_rate` of good frames exceed; None where it is not between 0 and the threshold."""
    level = float(compute_order_statistic(np.sort(scores), min(warn_rate, 0.9))[0])
    return level if 0 < level < threshold else None


def _gumbel_quantile(values: Array, rate: float) -> float:
    # Moments rather than likelihood: steady for the handful of frames this is meant for.
    spread = math.sqrt(6) / math.pi * values.std(ddof=1)
    centre = values.mean() - np.euler_gamma * spread
    return float(stats.gumbel_r.ppf(1 - rate, centre, spread or 1e-12))


def compute_thresholds(
    scores: Scores,
    false_reject_rate: float,
    *,
    policy: Policy = "near",
    confidence: float = CONFIDENCE,
    peaks: Peaks | None = None,
    outliers: bool = True,
) -> dict[str, Threshold]:
    """One threshold for each part of the frame, so that the frame keeps the target (Bonferroni).

    Each of m parts gets a mth of the rate, and a bound that fails with a mth of the probability: the sum of the
    bounds then holds for the frame, however the parts depend on each other. Peaks are of whole frames, so that they
    tell nothing of several parts.

    Raises:
        TrainingError: as `compute_threshold`; it names the part.
    """
    m = len(scores)
    thresholds = {}
    for name, values in scores.items():
        try:
            thresholds[name] = compute_threshold(
                values,
                false_reject_rate / m,
                policy=policy,
                confidence=1 - (1 - confidence) / m,
                peaks=peaks if m == 1 else None,
                outliers=outliers,
            )
        except TrainingError as error:
            if m == 1:
                raise
            raise TrainingError(f"{f'zone {name}' if name else 'outside all zones'}: {error}") from error
    return thresholds


def compute_frame_bound(thresholds: Mapping[str, Threshold]) -> float:
    """Upper bound on the false-reject rate of whole frames: the sum over their parts."""
    return min(1.0, sum(threshold.false_reject_bound or 0.0 for threshold in thresholds.values()))


def compute_frame_scores(scores: Scores, thresholds: Mapping[str, Threshold]) -> Array:
    """Scores (n,) of whole frames as the detector finds them: parts weighed so that REST's threshold holds in all."""
    whole = thresholds[REST].value
    weighed = [
        values * (compute_gain(whole, thresholds[name].value) if name else 1.0) for name, values in scores.items()
    ]
    return np.asarray(np.max(weighed, axis=0))


def build_frame_threshold(
    scores: Scores, thresholds: Mapping[str, Threshold], false_reject_rate: float, warn_rate: float | None = None
) -> Threshold:
    """REST's threshold with what holds for whole frames: target, bound, warn band and good scores."""
    rest = thresholds[REST]
    whole = compute_frame_scores(scores, thresholds)
    level = compute_warn_level(whole, warn_rate or WARN_FACTOR * false_reject_rate, rest.value)
    return rest.model_copy(
        update={
            "target_false_reject_rate": rest.target_false_reject_rate and false_reject_rate,
            "false_reject_bound": compute_frame_bound(thresholds),
            "warn_above": level,
            "good_scores": describe_scores(whole),
        }
    )


def compute_threshold_from_defects(
    good: Array, defects: Array, escape_rate: float, confidence: float = CONFIDENCE
) -> Threshold:
    """The highest threshold that lets at most `escape_rate` of the given defects pass.

    Good frames have no say in it, so the bound from the rejects counted among them is exact.

    Raises:
        TrainingError: no scores, or a threshold that would not lie above 0.
    """
    if not (len(good) and len(defects)):
        raise TrainingError(
            f"calibration: scores of good and defective frames are needed, got {len(good)} good, {len(defects)} defects"
        )
    must_fail = float(np.sort(defects)[math.floor(len(defects) * escape_rate)])
    value = math.nextafter(must_fail, -math.inf)  # a score equal to the threshold passes
    if value <= 0:
        raise TrainingError(f"threshold: must lie above 0, got {value:g}: this defect does not show at all")
    return Threshold(
        value=value,
        method="defects",
        n_good=len(good),
        target_escape_rate=escape_rate,
        false_reject_bound=compute_false_reject_bound(int((good > value).sum()), len(good), confidence),
    )


def choose_area(thresholds: Mapping[int, Mapping[str, Threshold]], sigma: float) -> int:
    """The minimum region area at which a point-like defect needs the lowest peak to fail.

    A point shows as the map's Gaussian, whose area above a level t is 2π·sigma²·ln(peak / t): an area above 1 is
    taken only where good frames' thresholds fall by more than it asks of the smallest defect's peak.
    """
    smallest = thresholds[min(thresholds)]

    def peak(area: int) -> float:
        change = max(threshold.value / smallest[name].value for name, threshold in thresholds[area].items())
        exponent = (area - min(thresholds)) / (2 * math.pi * max(sigma, 0.1) ** 2)
        return change * math.exp(min(exponent, 700.0))

    return min(sorted(thresholds), key=peak)


def check_groups(
    scores: Scores, groups: Sequence[str], fit: Callable[[Scores], Mapping[str, Threshold]]
) -> tuple[GroupCheck, list[str]]:
    """Leave each group out in turn, set the thresholds on the others and count rejects in it.

    Returns:
        The account, and a line for each group that rejects more than the others' bound allows by chance
        (one in twenty over all groups).
    """
    labels = np.asarray(groups)
    names = sorted(set(groups))
    sizes = {name: int((labels == name).sum()) for name in names}
    rejects, faults = {}, []
    for name in names:
        out = labels == name
        thresholds = fit({part: values[~out] for part, values in scores.items()})
        left_out = compute_frame_scores({part: values[out] for part, values in scores.items()}, thresholds)
        rejects[name] = int((left_out > thresholds[REST].value).sum())
        bound = compute_frame_bound(thresholds)
        if stats.binom.sf(rejects[name] - 1, sizes[name], bound) < (1 - CONFIDENCE) / len(names):
            faults.append(f"group {name}: {rejects[name]} of {sizes[name]} good frames rejected, bound {bound:.1%}")
    worst = max(names, key=lambda name: rejects[name] / sizes[name])
    total = sum(rejects.values())
    check = GroupCheck(
        n_groups=len(names),
        false_reject_rate=total / len(labels),
        interval=compute_interval(total, len(labels)),
        worst_group=worst,
        worst_false_reject_rate=rejects[worst] / sizes[worst],
    )
    return check, faults
