"""The clock that ages and deadlines are measured by."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it


def read_clock() -> float:
    """Seconds of a clock that never steps; where the system has such a one, it runs while the machine sleeps, too."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
