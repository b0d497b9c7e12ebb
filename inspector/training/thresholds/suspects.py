"""Good frames that stand out: named, with the place, and what they do to the threshold."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from inspector.config import Threshold
from inspector.training.thresholds.outliers import find_outliers
from inspector.training.thresholds.policy import REST, compute_threshold
from inspector.training.thresholds.score_record import ScoreRecord

logger = logging.getLogger(__name__)


def find_suspects(record: ScoreRecord) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which frames (n,) stand out in any part."""
    return np.asarray(np.logical_or.reduce([find_outliers(scores) for scores in record.to_scores().values()]))


def leave_out(record: ScoreRecord) -> ScoreRecord:
    """The record without frames that stand out, which are named there."""
    suspects = find_suspects(record)
    frames, trimmed = (
        [frame for frame, out in zip(record.frames, suspects, strict=True) if bool(out) is wanted]
        for wanted in (False, True)
    )
    for frame in trimmed:
        logger.warning("--trim: good frame %s is left out, it scores %.4g", frame.path, max(frame.scores.values()))
    return record.model_copy(update={"frames": frames, "trimmed": [*record.trimmed, *trimmed]})


def tell_outliers(record: ScoreRecord, threshold: Threshold) -> None:
    """Name each in the log, and how the threshold would change with it."""
    scores = record.to_scores()[REST]
    outliers = find_outliers(scores)
    for number in np.flatnonzero(outliers):
        frame = record.frames[number]
        logger.warning(
            "good frame %s scores %.4g at x %d, y %d; the median is %.4g: it stands out, check it",
            frame.path, scores[number], *frame.xy, float(np.median(scores)),
        )  # fmt: skip
    rate = threshold.target_false_reject_rate
    if not outliers.any() or rate is None:
        return
    without, with_them = (
        compute_threshold(scores[~outliers], rate).value,
        compute_threshold(scores, rate, outliers=False).value,
    )
    logger.warning(
        "%d of %d good frames stand out. The threshold is %.4g; with them left out (--trim) about %.4g, "
        "treated as good "
        "(--keep-outliers) %.4g", int(outliers.sum()), len(scores), threshold.value, without, with_them,
    )  # fmt: skip
