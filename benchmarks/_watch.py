"""What a daemon takes while it works, once a second, and whether that grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import linregress

from inspector.testing.station_process import RunningStation

_PERIOD_S = 1.0
_SHORTEST_WARM_UP_S, _LONGEST_WARM_UP_S = 120.0, 300.0
_SLOPE_S = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the daemon.

    Attributes:
        at_s: monotonic.
        memory_mb, descriptors, threads: as the kernel has them; threads include those of libraries.
        reported_mb, reported_descriptors, python_threads: what /metrics says a moment later.
        journal_bytes: of its file and its log.
        received, answered, in_flight: the daemon's own account.
    """

    at_s: float
    memory_mb: float
    descriptors: int
    threads: int
    reported_mb: float
    reported_descriptors: int
    python_threads: int
    buffer_bytes: int
    evidence_bytes: int
    journal_bytes: int
    received: int
    answered: int
    in_flight: int


class Watcher(threading.Thread):
    """Looks once a second, until stopped or until the daemon is gone."""

    def __init__(self, station: RunningStation) -> None:
        super().__init__(name="watcher", daemon=True)
        self._station = station
        self._stop_asked = threading.Event()
        self.samples: list[Sample] = []
        self.missed = 0

    def stop(self) -> None:
        """Ask it to end; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop."""
        while not self._stop_asked.wait(_PERIOD_S) and self._station.process.poll() is None:
            try:
                self.samples.append(take_sample(self._station))
            except OSError:  # /metrics did not answer, or the process ended just now
                self.missed += 1


def take_sample(station: RunningStation) -> Sample:
    """Look once.

    Raises:
        OSError: the process or its /metrics cannot be read.
    """
    process = Path(f"/proc/{station.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text(encoding="ascii").splitlines())
    descriptors = sum(1 for _ in (process / "fd").iterdir())
    at_s = time.monotonic()
    metrics = _scrape(station)
    return Sample(
        at_s=at_s,
        memory_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        descriptors=descriptors,
        threads=int(status["Threads"]),
        reported_mb=metrics["process_resident_memory_bytes"] / 1e6,
        reported_descriptors=int(metrics["process_open_fds"]),
        python_threads=int(metrics["inspector_threads"]),
        buffer_bytes=int(metrics["inspector_buffer_bytes"]),
        evidence_bytes=int(metrics["inspector_evidence_bytes"]),
        journal_bytes=sum(path.stat().st_size for path in station.journal.parent.glob("journal.sqlite*")),
        received=int(metrics["inspector_frames_received_total"]),
        answered=int(metrics.get("inspector_results_total", 0)),
        in_flight=int(metrics["inspector_frames_in_flight"]),
    )


def _scrape(station: RunningStation) -> dict[str, float]:
    """Each metric, summed over its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(station.get("/metrics")[1]):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def compute_warm_up(total_s: float) -> float:
    """Seconds at the beginning that do not count: a quarter of all, but from two to five minutes."""
    return min(max(total_s / 4, _SHORTEST_WARM_UP_S), _LONGEST_WARM_UP_S)


def compute_slope(at_s: Sequence[float], values: Sequence[float]) -> float | None:
    """Growth per ten minutes by least squares; None where fewer than three values tell nothing."""
    if len(values) < 3:
        return None
    return float(linregress(at_s, values).slope) * _SLOPE_S


def has_grown(values: Sequence[float]) -> bool:
    """Whether the least of the last third is above the least of the first: who comes and goes in between is no leak."""
    third = len(values) // 3
    return third > 0 and min(values[-third:]) > min(values[:third])


def compute_minutes(at_s: Sequence[float], values: Sequence[float], start_s: float) -> list[tuple[float, float, float]]:
    """Of each minute from `start_s` on: its middle (same clock), p50 and p99."""
    minutes = ((np.asarray(at_s) - start_s) // 60).astype(int)
    every = np.asarray(values, dtype=float)
    return [
        (start_s + 60 * minute + 30, *map(float, np.quantile(every[minutes == minute], (0.5, 0.99))))
        for minute in sorted(set(minutes[minutes >= 0].tolist()))
    ]
