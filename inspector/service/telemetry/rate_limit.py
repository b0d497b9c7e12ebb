"""Log lines that may repeat a thousand times a second are written once a period, with a count."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

_GRACE_S = 1.0
"""How long after a period the next line of its kind is waited for: what was held back is counted on that one."""


class RateLimitedLog:
    """Used by one thread, which calls `flush_due` every now and then, and `flush` at its end."""

    def __init__(self, logger: logging.Logger, period_s: float = 5.0, *, burst: int = 1) -> None:
        """Of each kind, `burst` lines are written per `period_s`; the next one says how many were suppressed."""
        self._logger = logger
        self._period_s = period_s
        self._burst = burst
        self._periods: dict[str, _Period] = {}

    def warning(self, kind: str, message: str, **fields: Any) -> None:
        self.log(logging.WARNING, kind, message, **fields)

    def error(self, kind: str, message: str, **fields: Any) -> None:
        self.log(logging.ERROR, kind, message, **fields)

    def log(self, level: int, kind: str, message: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Write `message`, with `fields` where the format has them, unless enough of its kind were within the period.

        Kinds are a closed set.
        """
        now = time.monotonic()
        period = self._periods.get(kind)
        held = 0
        if period is None or now >= period.ends:
            held = period.held if period else 0
            period = self._periods[kind] = _Period(now + self._period_s)
        if period.written < self._burst:
            period.written += 1
            self._logger.log(level, "%s%s", message, _count(held), exc_info=exc_info, extra=fields)
        else:
            period.held += 1
            period.last = level, message, fields

    def flush_due(self) -> None:
        """Write the last of what was held back, and how many more, where no line of that kind came any more."""
        if not self._periods:
            return
        now = time.monotonic()
        for kind in [kind for kind, period in self._periods.items() if now >= period.ends + _GRACE_S]:
            self._write_held(self._periods.pop(kind))

    def flush(self) -> None:
        """Write suppressed lines now."""
        while self._periods:
            self._write_held(self._periods.popitem()[1])

    def _write_held(self, period: _Period) -> None:
        if period.held:
            level, message, fields = period.last
            self._logger.log(level, "%s%s", message, _count(period.held - 1), extra=fields)


@dataclass(slots=True)
class _Period:
    """What was written and held back of one kind until `ends` (monotonic, seconds)."""

    ends: float
    written: int = 0
    held: int = 0
    last: tuple[int, str, dict[str, Any]] = (0, "", {})


def _count(held: int) -> str:
    return f" ({held} more like this)" if held else ""
