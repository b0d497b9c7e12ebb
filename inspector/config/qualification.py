"""What a recipe was found to miss: how often artificial defects on good frames are caught, by size and contrast."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from statistics import NormalDist
from typing import Annotated

from pydantic import Field, model_validator

from inspector.strict.base import Strict

CONTRASTS = (15.0, 30.0, 60.0, 120.0)
"""Grey levels for which a90/95 is stated."""

_CONFIDENCE = 0.95
_EXAMPLE = 3.0, 30.0  # px and grey levels: what a summary gives as an example

Positive = Annotated[float, Field(gt=0)]
Row = tuple[float, float, float]


class DefectKind(StrEnum):
    """Kinds of artificial defects: cracks and scratches, pores and specks, bumps and hollows."""

    LINE = "line"
    SPOT = "spot"
    DENT = "dent"


class Range(Strict):
    """The lowest and the highest value that was tried."""

    low: Positive
    """The lowest."""
    high: Positive
    """The highest."""

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.high < self.low:
            raise ValueError(f"high must be at least low ({self.low}), got {self.high}")
        return self


class SizeAt(Strict):
    """a90/95 at one contrast: the smallest size caught 90 % of the time, at 95 % confidence."""

    contrast: Positive
    """Grey levels of 255 by which the defect differs."""
    size_px: Positive | None
    """That size, in sensor pixels. null: none of the sizes tried."""


class DetectionCurve(Strict):
    """Probability of detection (POD) of one kind of artificial defect, at the recipe's threshold.

    log(p / (1 - p)) = coefficients · (1, log size, log contrast), sizes in sensor pixels, contrasts in grey levels
    of 255. It holds for sizes and contrasts like those tried.
    """

    n: Annotated[int, Field(ge=1)]
    """Defects that were tried."""
    caught: Annotated[int, Field(ge=0)]
    """Of these, those that the threshold caught."""
    size_px: Range
    """Sizes that were tried, in sensor pixels."""
    contrast: Range
    """Contrasts that were tried, in grey levels of 255."""
    coefficients: Row
    """Of 1, log size and log contrast."""
    covariance: tuple[Row, Row, Row]
    """Of the coefficients."""
    rises: bool = True
    """POD rises with size and contrast, as it must. false: the fit says nothing."""
    a90_95: tuple[SizeAt, ...] = ()
    """Smallest size that is caught, at each contrast that was tried."""

    @model_validator(mode="after")
    def _adds_up(self) -> DetectionCurve:
        if self.caught > self.n:
            raise ValueError(f"caught must be at most n ({self.n}), got {self.caught}")
        if min(self.covariance[place][place] for place in range(3)) < 0:
            raise ValueError(f"covariance must not have a variance below 0, got {self.covariance}")
        return self

    def compute_probability(self, size_px: float, contrast: float) -> float:
        """Share of such defects that is caught, in [0, 1]."""
        return _logistic(_dot(self.coefficients, _terms(size_px, contrast)))

    def compute_lower_bound(self, size_px: float, contrast: float, confidence: float = _CONFIDENCE) -> float:
        """One-sided lower bound on that share: Wald's, on the linear predictor, as MIL-HDBK-1823A allows.

        It is asymptotic: with a few dozen defects it holds about, not exactly.
        """
        terms = _terms(size_px, contrast)
        variance = max(0.0, sum(term * _dot(row, terms) for term, row in zip(terms, self.covariance, strict=True)))
        below = NormalDist().inv_cdf(confidence) * math.sqrt(variance)
        return _logistic(_dot(self.coefficients, terms) - below)


class Qualification(Strict):
    """How often artificial defects on good frames that training never saw are caught."""

    threshold: Positive
    """The threshold that it holds for."""
    n_frames: Annotated[int, Field(ge=1)]
    """Good frames that carried the defects."""
    kinds: Annotated[dict[DefectKind, DetectionCurve], Field(min_length=1)]
    """What was found, by kind of defect: cracks and scratches (`line`), pores and specks (`spot`), bumps and hollows
    (`dent`).
    """

    @property
    def catches_any(self) -> bool:
        """Whether there is a kind, a size and a contrast that is caught 90 % of the time, at 95 % confidence."""
        return any(each.size_px is not None for curve in self.kinds.values() for each in curve.a90_95)


def describe_qualification(qualification: Qualification) -> list[str]:
    """What is caught, in short sentences, two for each kind of defect."""
    lines = []
    for kind, curve in qualification.kinds.items():
        if not curve.rises:
            lines.append(
                f"{kind}s: {curve.caught} of {curve.n} caught, but larger and stronger ones are not caught more often: "
                "no size can be stated"
            )
            continue
        lines.append(_describe_example(kind, curve))
        lines.append(f"a90/95 of {kind}s: {'; '.join(_list_sizes(curve))}")
    return lines


def _describe_example(kind: DefectKind, curve: DetectionCurve) -> str:
    size, contrast = (
        _clip(value, tried) for value, tried in zip(_EXAMPLE, (curve.size_px, curve.contrast), strict=True)
    )
    share, least = curve.compute_probability(size, contrast), curve.compute_lower_bound(size, contrast)
    extent = "across" if kind is not DefectKind.LINE else "wide"
    return (
        f"a {kind} {size:.3g} px {extent} of {contrast:.3g} grey levels is caught {100 * share:.0f} % of the time "
        f"(at least {100 * least:.0f} %, at 95 % confidence)"
    )


def _list_sizes(curve: DetectionCurve) -> Iterator[str]:
    for each in curve.a90_95:
        if each.size_px is not None:
            yield f"{each.contrast:.3g} grey levels from {each.size_px:.2g} px on"
    if never := [f"{each.contrast:.3g}" for each in curve.a90_95 if each.size_px is None]:
        tried = f"{curve.size_px.low:.2g} to {curve.size_px.high:.2g} px"
        yield f"{', '.join(never)} grey levels at no tested size ({tried})"


def _clip(value: float, tried: Range) -> float:
    return min(max(value, tried.low), tried.high)


def _terms(size_px: float, contrast: float) -> Row:
    return 1.0, math.log(size_px), math.log(contrast)


def _dot(first: Row, second: Row) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def _logistic(value: float) -> float:
    return (1 + math.tanh(value / 2)) / 2  # which cannot overflow
