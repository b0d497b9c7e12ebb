"""Pieces of PromQL that several panels share."""

from __future__ import annotations

INSTANCE = 'instance=~"$instance"'
CAMERA = f'{INSTANCE},camera=~"$camera"'
RATE = "[$__rate_interval]"

STATES = {
    0: ("DOWN", "dark-red"),
    1: ("STARTING", "blue"),
    2: ("READY", "light-green"),
    3: ("RUNNING", "green"),
    4: ("DEGRADED", "orange"),
    5: ("STOPPING", "purple"),
    6: ("FAULT", "red"),
}
"""A number for each state, as one series can have; DOWN: Prometheus gets no answer."""

_NUMBERED = " or ".join(
    f'inspector_state{{{INSTANCE},inspector_state="{name}"}} * {number}'
    for number, (name, _) in STATES.items()
    if number
)
STATE = f'sum by (instance) ({_NUMBERED}) or sum by (instance) (up{{job="inspector",{INSTANCE}}} * 0)'


def rate(metric: str, *by: str, where: str = CAMERA, window: str = RATE) -> str:
    """Per second, summed by these labels."""
    return f"sum by ({', '.join(by)}) (rate({metric}{{{where}}}{window}))"


def results(*by: str, verdict: str = "", reason: str = "", window: str = RATE) -> str:
    """Verdicts per second, all of them or those that match."""
    where = CAMERA + (f',verdict=~"{verdict}"' if verdict else "") + (f',reason=~"{reason}"' if reason else "")
    return rate("inspector_results_total", *by, where=where, window=window)


def share(part: str, *by: str, of: str = "", window: str = RATE) -> str:
    """Of the results with verdicts `of` (all), those with the verdict `part`; nothing while there are none."""
    return f"{results(*by, verdict=part, window=window)} / ({results(*by, verdict=of, window=window)} > 0)"


def quantile(level: float, histogram: str, *by: str, where: str = CAMERA, window: str = RATE) -> str:
    """Of a histogram, for each set of these labels; nothing while nothing happens."""
    buckets = rate(f"{histogram}_bucket", *by, "le", where=where, window=window)
    return f"histogram_quantile({level}, {buckets}) >= 0"


def age(timestamp: str, by: str) -> str:
    """Seconds since a time stamp, the latest of each set of these labels."""
    return f"time() - max by ({by}) ({timestamp})"
