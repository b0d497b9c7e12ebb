"""The report of a soak: growth after the warm-up, latency by minute, faults, account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from _traffic import Account
from _watch import Sample, compute_minutes, compute_slope, compute_warm_up
from rich.console import Console
from rich.table import Table

SHORTEST_WINDOW_S = 300.0
"""Memory moves by some hundred kilobytes either way: a shorter time says nothing of its slope."""


@dataclass(slots=True)
class Run:
    """What a soak left to report.

    Attributes:
        capacity: frames per second.
        started_s, and the times in `samples` and `injected`: monotonic; of a fault, when it began.
        journal_rows: those that verified at the end; None where none were looked at.
        missed: samples that could not be taken.
    """

    capacity: float
    started_s: float
    samples: list[Sample]
    account: Account
    injected: list[tuple[float, str]]
    broken: list[str] = field(default_factory=list)
    journal_rows: int | None = None
    missed: int = 0


def report(run: Run) -> dict[str, Any]:
    """Print; the same as a dictionary."""
    counted = count_samples(run)
    minutes = compute_minutes(*zip(*run.account.latencies, strict=True), run.started_s) if run.account.latencies else []
    growth = _measure_growth(counted, minutes)
    console = Console(width=120)
    console.print(_tabulate_growth(growth, compute_window_s(counted)))
    console.print(_tabulate_minutes(run, minutes))
    account = _summarise_account(run)
    faults = dict(sorted(Counter(kind for _, kind in run.injected).items()))
    for title, content in (("faults", faults), ("account", account)):
        table = Table(title, "", title=None)
        for name, value in content.items():
            table.add_row(name, str(value))
        console.print(table)
    console.print("\n".join(f"BROKEN {line}" for line in run.broken) or "every promise was kept", markup=False)
    return {
        "capacity": run.capacity,
        "window_s": compute_window_s(counted),
        "growth": growth,
        "minutes": [{"minute": i, "p50_ms": p50, "p99_ms": p99} for i, (_, p50, p99) in enumerate(minutes)],
        "started_s": run.started_s,
        "faults": faults,
        "injected": run.injected,
        "account": account,
        "broken": run.broken,
    }


def _measure_growth(counted: list[Sample], minutes: list[tuple[float, float, float]]) -> dict[str, dict[str, Any]]:
    """Of each thing watched: its slope per ten minutes, the least and the most, all after the warm-up."""
    takes: dict[str, Callable[[Sample], float]] = {
        "memory MB": lambda sample: sample.memory_mb,
        "descriptors": lambda sample: sample.descriptors,
        "threads": lambda sample: sample.threads,
        "python threads": lambda sample: sample.python_threads,
        "buffer KiB": lambda sample: sample.buffer_bytes / 1024,
        "journal MiB": lambda sample: sample.journal_bytes / 1024**2,
        "evidence MiB": lambda sample: sample.evidence_bytes / 1024**2,
        "/proc less /metrics: MB": lambda sample: sample.memory_mb - sample.reported_mb,
        "/proc less /metrics: descriptors": lambda sample: sample.descriptors - sample.reported_descriptors,
        "/proc less /metrics: threads": lambda sample: sample.threads - sample.python_threads,
    }
    growth = {name: _summarise([sample.at_s for sample in counted], list(map(take, counted)))
              for name, take in takes.items()}  # fmt: skip
    late = [(at_s, p50) for at_s, p50, _ in minutes if counted and at_s - 30 >= counted[0].at_s - 1]
    return growth | {"latency p50 ms, by minute": _summarise([at for at, _ in late], [p50 for _, p50 in late])}


def _summarise(at_s: list[float], values: list[float]) -> dict[str, Any]:
    return {
        "slope": compute_slope(at_s, values),
        "least": min(values, default=None),
        "most": max(values, default=None),
    }


def _tabulate_growth(growth: dict[str, dict[str, Any]], window_s: float) -> Table:
    note = "" if window_s >= SHORTEST_WINDOW_S else ", too short to judge memory"
    table = Table("", "per 10 minutes", "least", "most", title=f"after the warm-up ({window_s:.0f} s{note})")
    for name, numbers in growth.items():
        table.add_row(name, *("–" if value is None else f"{value:.2f}" for value in numbers.values()))
    return table


def _tabulate_minutes(run: Run, minutes: list[tuple[float, float, float]]) -> Table:
    table = Table("minute", "p50 ms", "p99 ms", "memory MB", title="latency of what was judged, from reception on")
    for number, (at_s, p50, p99) in enumerate(minutes):
        memory = [sample.memory_mb for sample in run.samples if abs(sample.at_s - at_s) <= 30]
        text = f"{sum(memory) / len(memory):.1f}" if memory else "–"
        table.add_row(str(number), f"{p50:.1f}", f"{p99:.1f}", text)
    return table


def _summarise_account(run: Run) -> dict[str, int | None]:
    account = run.account
    errors = {f"ERROR {reason}": n for (verdict, reason), n in sorted(account.counts.items()) if verdict == "ERROR"}
    return {
        "sent with an id": account.sent,
        "malformed, but owed a verdict": account.owed_to_others,
        "received": account.received,
        "PASS": account.counts["PASS", "OK"],
        "FAIL": account.counts["FAIL", "DEFECT"],
        **errors,
        "in flight or without verdict": len(account.waiting),
        "two verdicts": len(account.twice),
        "undeserved PASS": len(account.undeserved),
        "sequence numbers missing": account.missing_seqs,
        "rows in the journal after pruning": run.journal_rows,
        "samples missed": run.missed,
        "later than 100 ms after the deadline": len(account.late),
    }


def count_samples(run: Run) -> list[Sample]:
    """Samples after the warm-up, of the time with traffic."""
    if not run.samples:
        return []
    start = run.started_s + compute_warm_up(run.samples[-1].at_s - run.started_s)
    return [sample for sample in run.samples if sample.at_s >= start]


def compute_window_s(samples: list[Sample]) -> float:
    return samples[-1].at_s - samples[0].at_s if samples else 0.0


def compute_slope_of(samples: list[Sample], take: Callable[[Sample], float]) -> float | None:
    return compute_slope([sample.at_s for sample in samples], [take(sample) for sample in samples])
