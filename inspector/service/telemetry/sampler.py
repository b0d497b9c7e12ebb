"""Samplers: each reads something that may block, a driver or a disk, in a thread of its own, so that no scrape does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from inspector.service.telemetry.health import Health
from inspector.service.telemetry.part import Part

PERIOD_S = 5.0
_KEEP_PERIODS = 3
"""An older sample says nothing of now."""

T = TypeVar("T")


class Sampler(Part, Generic[T]):
    """Reads again and again; the last sample is there at once. Where it hangs the station is DEGRADED, and no more."""

    is_vital = False

    def __init__(self, name: str, read: Callable[[], T], *, health: Health, period_s: float = PERIOD_S) -> None:
        super().__init__(f"sampler-{name}", health=health, log_period_s=300.0)  # a GPU that is gone stays gone
        self._read = read
        self._period_s = period_s
        self._sample: tuple[float, T] | None = None

    def latest(self) -> T | None:
        """The last sample; None where there is none, or it is too old."""
        sample = self._sample
        if sample is None or time.monotonic() - sample[0] > _KEEP_PERIODS * self._period_s:
            return None
        return sample[1]

    def beat(self) -> None:
        self._health.beat(self.name, self._period_s, vital=False)

    def step(self) -> None:
        """Read once, then wait."""
        try:
            self._sample = time.monotonic(), self._read()
        except Exception as error:  # noqa: BLE001 (whatever it is, it costs a sample and no more)
            self._sample = None
            self._log.warning(self.name, f"{self.name}: cannot be read: {error}")
        self._log.flush_due()
        self._stop_asked.wait(self._period_s)

    def die(self, error: BaseException) -> None:
        """No FAULT: it leaves its beat behind, and health misses it."""

    def release(self) -> None:
        if self.failure is None:
            super().release()
