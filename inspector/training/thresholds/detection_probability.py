"""Probability of detection (POD) from responses to artificial defects, as MIL-HDBK-1823A treats hit/miss data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, log_expit

from inspector.config.qualification import (
    CONTRASTS,
    DefectKind,
    DetectionCurve,
    Qualification,
    Range,
    Row,
    SizeAt,
)
from inspector.errors import TrainingError
from inspector.training.thresholds.policy import CONFIDENCE, compute_interval
from inspector.training.thresholds.qualification import Response

Array = np.ndarray[Any, np.dtype[np.float64]]

DETECTED = 0.9
"""The share that a90/95 asks for."""

_STEPS = 400  # of size, from the smallest to the largest tried: 1 % apart
_MOST_ITERATIONS = 200
_TOLERANCE = 1e-9
_FALLS = stats.norm.ppf(CONFIDENCE)


def build_qualification(responses: Sequence[Response], threshold: float, n_frames: int) -> Qualification:
    """Curves of all kinds at a threshold.

    Args:
        responses: of one recipe.
        threshold: a response above is a defect caught.
        n_frames: frames that carried the defects.
    """
    kinds = {kind: [each for each in responses if each.kind is kind] for kind in DefectKind}
    curves = {kind: fit_detection(own, threshold) for kind, own in kinds.items() if own}
    return Qualification(threshold=threshold, n_frames=n_frames, kinds=curves)


def fit_detection(responses: Sequence[Response], threshold: float) -> DetectionCurve:
    """Logistic regression of caught or missed on log size and log contrast, with Firth's penalty.

    The penalty (D. Firth, Bias reduction of maximum likelihood estimates, Biometrika 80, 1993) keeps it finite where
    all, or none, or all from a size on are caught. POD cannot fall with size or contrast: a slope below 0 by chance
    becomes 0, one that is below 0 beyond chance (95 %) makes the fit one that says nothing (`rises` is False).

    Args:
        responses: of one kind.
        threshold: a response above is a defect caught.

    Raises:
        TrainingError: no response, or one is not finite.
    """
    values = np.array([[each.size_px, each.contrast, each.response] for each in responses], dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise TrainingError(f"artificial defects: at least one finite response is needed, got {len(values)}")
    sizes, contrasts, found = values.T
    caught = found > threshold
    terms = np.column_stack([np.ones(len(values)), np.log(sizes), np.log(contrasts)])
    coefficients, covariance, rises = _fit_rising(terms, caught)
    curve = DetectionCurve(
        n=len(values),
        caught=int(caught.sum()),
        size_px=Range(low=float(sizes.min()), high=float(sizes.max())),
        contrast=Range(low=float(contrasts.min()), high=float(contrasts.max())),
        coefficients=_to_row(coefficients),
        covariance=(_to_row(covariance[0]), _to_row(covariance[1]), _to_row(covariance[2])),
        rises=rises,
    )
    tried = [contrast for contrast in CONTRASTS if contrast <= curve.contrast.high * 1.1]  # the last is the end itself
    sizes_at = tuple(SizeAt(contrast=contrast, size_px=find_a90_95(curve, contrast)) for contrast in tried)
    return curve.model_copy(update={"a90_95": sizes_at})


def find_a90_95(curve: DetectionCurve, contrast: float) -> float | None:
    """The smallest size in sensor pixels whose POD is at least 90 %, at 95 % confidence; None: none of those tried.

    Larger ones are caught at least as often. Found to 1 %.
    """
    if not curve.rises:
        return None
    for size in np.geomspace(curve.size_px.low, curve.size_px.high, _STEPS).tolist():
        if curve.compute_lower_bound(size, contrast, CONFIDENCE) >= DETECTED:
            return float(size)
    return None


@dataclass(frozen=True, slots=True)
class PassShare:
    """How many of the artificial defects tried pass.

    Attributes:
        n, passed: tried, and not caught.
        interval: two-sided 95 % Clopper–Pearson interval of the share; of this mixture of sizes and contrasts, which is
            that of no real line.
    """

    n: int
    passed: int
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Of those tried, in [0, 1]."""
        return self.passed / self.n


@dataclass(frozen=True, slots=True)
class PassShares:
    """Of all kinds together, and of each that was tried."""

    all: PassShare
    by_kind: dict[DefectKind, PassShare]


def compute_pass_share(responses: Sequence[Response], threshold: float) -> PassShares:
    """What would escape at another threshold: the share of all artificial defects tried that pass.

    Raises:
        TrainingError: no response.
    """
    if not responses:
        raise TrainingError("artificial defects: at least one response is needed, got none")
    kinds = {kind: [each for each in responses if each.kind is kind] for kind in DefectKind}
    return PassShares(
        _count_passed(responses, threshold), {kind: _count_passed(own, threshold) for kind, own in kinds.items() if own}
    )


def _count_passed(responses: Sequence[Response], threshold: float) -> PassShare:
    passed = sum(each.response <= threshold for each in responses)
    return PassShare(len(responses), passed, compute_interval(passed, len(responses)))


@dataclass(frozen=True, slots=True)
class _Fit:
    coefficients: Array
    covariance: Array


def _fit_rising(terms: Array, caught: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Array, Array, bool]:
    """Coefficients (3,), covariance (3, 3), and whether POD rises with size and contrast."""
    kept = [0, *(column for column in (1, 2) if np.ptp(terms[:, column]) > 0)]  # else it would explain nothing
    while True:
        fit = _fit_firth(terms[:, kept], caught)
        slopes = {column: place for place, column in enumerate(kept) if column and fit.coefficients[place] < 0}
        errors = np.sqrt(np.diag(fit.covariance))
        rises = all(fit.coefficients[place] >= -_FALLS * errors[place] for place in slopes.values())
        if not slopes or not rises:
            coefficients, covariance = np.zeros(3), np.zeros((3, 3))
            coefficients[kept], covariance[np.ix_(kept, kept)] = fit.coefficients, fit.covariance
            return coefficients, covariance, rises
        kept.remove(min(slopes, key=lambda column: fit.coefficients[slopes[column]] / errors[slopes[column]]))


def _fit_firth(terms: Array, caught: np.ndarray[Any, np.dtype[np.bool_]]) -> _Fit:
    """Newton's steps on the likelihood with Jeffreys' prior, halved where they lead down."""
    centre = terms.mean(axis=0)
    centre[0] = 0.0
    scaled = terms - centre  # log sizes far from 0 would make the steps ill-conditioned
    coefficients = np.zeros(terms.shape[1])
    reached = _compute_likelihood(scaled, caught, coefficients)
    for _ in range(_MOST_ITERATIONS):
        share = expit(scaled @ coefficients)
        weights = share * (1 - share)
        covariance = np.linalg.inv(_compute_information(scaled, weights))
        leverage = weights * np.einsum("ij,jk,ik->i", scaled, covariance, scaled)
        step = covariance @ (scaled.T @ (caught - share + leverage * (0.5 - share)))
        step *= min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        while (likelihood := _compute_likelihood(scaled, caught, coefficients + step)) < reached - _TOLERANCE:
            step /= 2
        coefficients, reached = coefficients + step, likelihood
        if np.abs(step).max() < _TOLERANCE:
            break
    back = np.eye(terms.shape[1])
    back[0, 1:] = -centre[1:]
    share = expit(scaled @ coefficients)
    covariance = np.linalg.inv(_compute_information(scaled, share * (1 - share)))
    return _Fit(back @ coefficients, back @ covariance @ back.T)


def _compute_information(terms: Array, weights: Array) -> Array:
    return np.asarray((terms * weights[:, None]).T @ terms)


def _compute_likelihood(terms: Array, caught: np.ndarray[Any, np.dtype[np.bool_]], coefficients: Array) -> float:
    predictor = terms @ coefficients
    share = expit(predictor)
    sign, logarithm = np.linalg.slogdet(_compute_information(terms, share * (1 - share)))
    return float(log_expit(np.where(caught, predictor, -predictor)).sum() + logarithm / 2) if sign > 0 else -np.inf


def _to_row(values: Array) -> Row:
    first, second, third = values.tolist()
    return first, second, third
