"""Log lines that may repeat a thousand times a second are written once a period, with a count."""

from __future__ import annotations

import logging
import time


class RateLimitedLog:
    """Used by one thread."""

    def __init__(self, logger: logging.Logger, period_s: float = 5.0) -> None:
        self._logger = logger
        self._period_s = period_s
        self._next: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def warning(self, kind: str, message: str) -> None:
        """Write `message` unless one of the same kind was written within the period."""
        self._write(logging.WARNING, kind, message)

    def error(self, kind: str, message: str) -> None:
        """The same, as an error."""
        self._write(logging.ERROR, kind, message)

    def _write(self, level: int, kind: str, message: str) -> None:
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        held = self._held.pop(kind, 0)
        self._logger.log(level, "%s%s", message, f" ({held} more like it)" if held else "")
        self._next[kind] = now + self._period_s
