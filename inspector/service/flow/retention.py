"""What may be deleted because it is old: nothing while the clock may be wrong, and never much at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from inspector.service.telemetry.clock import Clock, read_clock

logger = logging.getLogger(__name__)

SETTLE_S = 3600.0
"""How long the clock must have run evenly, and followed its reference, before it says what is old."""
_TOLERANCE_S = 5.0
_SLEW = 0.1  # chrony corrects a clock by up to a twelfth of the time that passes
_SHARE = 0.01
"""Of all rows, deleted in an hour at most; and four times what `keep_days` asks for in the mean."""
_TIMES_THE_MEAN = 4.0
_MAX_SHARE = 0.5
KEPT_ROWS = 1000
"""The newest ones, which no clock deletes."""


@dataclass(frozen=True, slots=True)
class AgeLimit:
    """Delete what was published before `before_utc_ns`, at most `rows`."""

    before_utc_ns: int
    rows: int


class Retention:
    """Asked every minute or so by the thread that prunes."""

    def __init__(self, read: Callable[[], Clock | None] = read_clock) -> None:
        """`read` says whether the clock is synchronised; it returns None where that is not known."""
        self._read = read
        self._seen: tuple[float, float] | None = None
        self._steady_since_s = 0.0
        self._budget = 0.0

    def find_limit(self, keep_days: float | None, rows: int, *, now_s: float, utc_ns: int) -> AgeLimit | None:
        """What may go for its age now; None: nothing.

        Args:
            keep_days: how long results are to be kept; None: for ever.
            rows: how many there are.
            now_s: on the monotonic clock.
            utc_ns: on the wall clock.
        """
        passed_s = self._look(now_s, utc_ns / 1e9)
        if keep_days is None or now_s - self._steady_since_s < SETTLE_S:
            return None
        share = min(_SHARE + _TIMES_THE_MEAN / (24 * keep_days), _MAX_SHARE)
        self._budget = min(self._budget + rows * share * passed_s / 3600, rows * share)
        allowed = min(int(self._budget), rows - KEPT_ROWS)
        return AgeLimit(utc_ns - int(keep_days * 86_400e9), allowed) if allowed > 0 else None

    def spend(self, rows: int) -> None:
        """Count rows that were deleted."""
        self._budget = max(0.0, self._budget - rows)

    def _look(self, now_s: float, utc_s: float) -> float:
        """How long ago the last look was; whether the clock ran evenly since, and is synchronised."""
        before_s, before_utc_s = self._seen or (now_s, utc_s)
        passed_s, step_s = now_s - before_s, utc_s - before_utc_s - (now_s - before_s)
        stepped = abs(step_s) > _TOLERANCE_S + _SLEW * passed_s
        if stepped:
            logger.warning("the clock jumped by %.0f s: for one hour no result is deleted because of its age", step_s)
        clock = self._read()
        if self._seen is None or stepped or (clock is not None and not clock.synchronised):
            self._steady_since_s, self._budget = now_s, 0.0
        self._seen = now_s, utc_s
        return passed_s
