"""What each threshold would cost: false rejects that good frames foretell, and artificial defects that would pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspector.training.thresholds.detection_probability import compute_pass_share
from inspector.training.thresholds.outliers import count_outliers
from inspector.training.thresholds.policy import REST, compute_false_reject_bound, select_peaks
from inspector.training.thresholds.score_record import ScoreRecord
from inspector.training.thresholds.tail import fit_tail

_RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One threshold.

    Attributes:
        chosen: it is the recipe's.
        rejected: of the good frames, by a network that never saw them.
        bound: upper 95 % bound on the false-reject rate that these support, with folds of scores times their
            `unseen_ratio`; it holds for one threshold that is set without regard to them, so not for the best of a
            table.
        expected: the false-reject rate among frames that do not stand out, by a law over their highest peaks; None:
            below that law, or too few peaks for it.
        interval: where that lies with 95 % confidence.
        passed: share of artificial defects that pass; None: none were tried.
    """

    threshold: float
    chosen: bool
    rejected: int
    n_good: int
    bound: float
    expected: float | None
    interval: tuple[float, float] | None
    passed: float | None


def compute_trade_off(record: ScoreRecord, threshold: float) -> list[TradeOff]:
    """A row for each of some false-reject rates, and for the recipe's threshold, lowest threshold first.

    Rates that the good frames show are order statistics of their scores; lower ones are what their tail foretells.
    """
    scores = np.sort(record.to_scores()[REST])
    n = len(scores)
    plausible = scores[: n - count_outliers(scores)]
    fit = fit_tail(select_peaks(plausible, record.to_peaks()))
    levels = {float(np.quantile(scores, 1 - rate)) for rate in _RATES if rate * n >= 1}
    if fit is not None:
        levels |= {max(fit.find_level(rate), float(plausible[-1])) for rate in _RATES if rate * n < 1}
    folds = record.cross_validated
    ratio = folds.unseen_ratio if folds else 1.0
    rows = []
    for level in sorted(levels - {threshold} | {threshold}):
        rejected = int((scores > level).sum())
        known = fit is not None and level >= fit.location
        rows.append(
            TradeOff(
                threshold=level,
                chosen=level == threshold,
                rejected=rejected,
                n_good=n,
                bound=compute_false_reject_bound(int((scores * ratio > level).sum()), n),
                expected=fit.compute_rate(level) if fit is not None and known else None,
                interval=fit.compute_interval(level) if fit is not None and known else None,
                passed=compute_pass_share(record.responses, level).all.share if record.responses else None,
            )
        )
    return rows
