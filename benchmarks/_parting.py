"""What parts cost: frames per second with and without them, and how long a part waits after its last view."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Rounds = Mapping[str, Sequence[float]]
"""By way of working, the seconds that a frame took in each round."""
Shares = Mapping[str, tuple[float, float, float]]
"""Frames per second as a share of those of one way: median, least and most of the rounds."""


def measure_waits(results: Sequence[tuple[float, Mapping[str, Any]]]) -> list[float]:
    """Milliseconds from the verdict on each part's last view to its own; `results` each with when it came, in order."""
    views: dict[str, float] = {}
    waits = []
    for moment, result in results:
        if result["camera"].startswith("part/"):
            waits.append((moment - views[result["frame_id"]]) * 1000)
        else:
            views[result["part_id"]] = moment
    return waits


def compute_shares(rounds: Rounds, of: str) -> Shares:
    """Of the frames per second of the way `of`, round by round."""
    shares = {name: [base / own for base, own in zip(rounds[of], each, strict=True)] for name, each in rounds.items()}
    return {name: (statistics.median(each), min(each), max(each)) for name, each in shares.items()}


def print_parts(rounds: Rounds, shares: Shares, waits: Sequence[float]) -> dict[str, Any]:
    """Print the table; what it shows. `waits` as `measure_waits` has them."""
    table = Table("", "frames/s", "share", "least", "most", title="by turns, medians of the rounds")
    for name, each in rounds.items():
        table.add_row(name, f"{1 / statistics.median(each):.2f}", *(f"{share:.1%}" for share in shares[name]))
    Console(width=120).print(table)
    p50, p99 = (float(each) for each in np.quantile(waits, (0.5, 0.99)))
    print(
        f"from the verdict on the last view to that on the part: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(waits)} parts"
    )
    return {"seconds_per_frame": dict(rounds), "shares": dict(shares), "wait_ms": {"p50": p50, "p99": p99}}
