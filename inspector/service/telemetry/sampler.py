"""Samplers: each reads something that may block, a driver or a disk, in a thread of its own, so that no scrape does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from inspector.service.telemetry.health import Health
from inspector.service.telemetry.rate_limit import RateLimitedLog

logger = logging.getLogger(__name__)

PERIOD_S = 5.0
_KEEP_PERIODS = 3
"""An older sample says nothing of now."""

T = TypeVar("T")


class Sampler(threading.Thread, Generic[T]):
    """Reads again and again; the last sample is there at once. Where it hangs the station is DEGRADED, and no more."""

    def __init__(self, name: str, read: Callable[[], T], *, health: Health, period_s: float = PERIOD_S) -> None:
        super().__init__(name=f"sampler-{name}", daemon=True)
        self._read = read
        self._health = health
        self._period_s = period_s
        self._sample: tuple[float, T] | None = None
        self._stop_asked = threading.Event()
        self._log = RateLimitedLog(logger, 300.0)  # a GPU that is gone stays gone

    def latest(self) -> T | None:
        """The last sample; None where there is none, or it is too old."""
        sample = self._sample
        if sample is None or time.monotonic() - sample[0] > _KEEP_PERIODS * self._period_s:
            return None
        return sample[1]

    def stop(self) -> None:
        """Ask it to end; the caller joins, in vain where a read hangs."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop. One that dies leaves its beat behind: health misses it."""
        while not self._stop_asked.is_set():
            self._health.beat(self.name, self._period_s, vital=False)
            self._take()
            self._log.flush_due()
            self._stop_asked.wait(self._period_s)
        self._health.forget(self.name)

    def _take(self) -> None:
        try:
            self._sample = time.monotonic(), self._read()
        except Exception as error:  # noqa: BLE001 (whatever it is, it costs a sample and no more)
            self._sample = None
            self._log.warning(self.name, f"{self.name}: cannot be read: {error}")
