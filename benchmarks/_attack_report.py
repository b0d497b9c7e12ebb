"""The report on attacks: all rounds, how those attacked compare with the quiet ones, and what was counted."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from _guarded import OTHER_CAMERA
from _watch import Sample
from rich.console import Console
from rich.table import Table

QUIET = "quiet"
ALL = "attacked"
COUNTED_BY: Mapping[str, tuple[str, dict[str, Sequence[str]]]] = {
    "unknown keys": ("handshakes_refused", {"cause": ["unknown"]}),
    "revoked key": ("handshakes_refused", {"cause": ["revoked"]}),
    # Who uses no key hangs up as well, and which of the two is seen first is chance.
    "plain clients": ("handshakes_refused", {"cause": ["mechanism", "incomplete"]}),
    "wrong role": ("handshakes_refused", {"cause": ["role"]}),
    "replayed handshakes": ("handshakes_refused", {"cause": ["cryptography"]}),
    "oversized messages": ("results", {"camera": [OTHER_CAMERA], "reason": ["BAD_FRAME"]}),
    "bomb images": ("results", {"camera": [OTHER_CAMERA], "reason": ["FRAME_MISMATCH"]}),
    "another's camera": ("messages_refused", {"cause": ["permission"]}),
    "message flood": ("messages_refused", {"cause": ["rate", "parts"]}),
    "1000 connections": ("handshakes_refused", {"cause": ["incomplete"]}),
    "slow loris": ("http_requests_refused", {"cause": ["full", "timeout"]}),
    "wrong logins": ("http_requests_refused", {"cause": ["authentication", "throttled"]}),
    "garbage": ("handshakes_refused", {"cause": ["protocol"]}),
}
"""The counter that each attack moves, and its labels."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was measured in one.

    Attributes:
        kind: quiet, attacked, or the one attack.
        frames_per_s: verdicts that came.
        total_ms, round_trip_ms: p50 and p99.
        all_total_ms: of each frame.
        daemon_cores, attacker_cores: CPU time per second; the frames are as many in each round, so what the daemon
            takes more under attack is what the attack costs it.
        steps: of the attackers.
        counted: how much each attack's counter has moved.
        sample: of the daemon, at the end, still under attack.
    """

    kind: str
    frames_per_s: float
    total_ms: tuple[float, float]
    round_trip_ms: tuple[float, float]
    all_total_ms: list[float]
    daemon_cores: float
    attacker_cores: float
    steps: int
    counted: dict[str, float]
    sample: Sample


def count_refusals(rounds: list[Round]) -> Counter[str]:
    """What each attack's counter moved by in rounds with that attack."""
    counted: Counter[str] = Counter()
    for each in rounds:
        counted.update({name: int(n) for name, n in each.counted.items() if each.kind in (ALL, name)})
    return counted


def summarise(kinds: list[str], rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Of each kind of attack, its share of the quiet round in the same turn: the median over the turns."""
    by_kind = {kind: [each for each in rounds if each.kind == kind] for kind in kinds}
    measures = {
        "frames_per_s": lambda each: each.frames_per_s,
        "p50_ms": lambda each: each.total_ms[0],
        "p99_ms": lambda each: each.total_ms[1],
        "round_trip_p99_ms": lambda each: each.round_trip_ms[1],
        "daemon_cores": lambda each: each.daemon_cores,
    }
    p99 = {
        kind: float(np.quantile([ms for each in of for ms in each.all_total_ms], 0.99)) for kind, of in by_kind.items()
    }
    return {
        kind: {
            name: statistics.median(
                measure(loud) / measure(quiet) for loud, quiet in zip(by_kind[kind], by_kind[QUIET], strict=True)
            )
            for name, measure in measures.items()
        }
        | {"p99_ms_of_all_rounds": p99[kind] / p99[QUIET]}
        for kind in kinds
        if kind != QUIET
    }


def print_report(
    kinds: list[str], rounds: list[Round], summary: dict[str, dict[str, float]], before: Sample, after: Sample
) -> None:
    console = Console(width=160)
    table = Table("round", "frames/s", "total p50 ms", "p99 ms", "round trip p50 ms", "p99 ms", "daemon's cores",
                  "attackers'", "steps", "memory MB", "descriptors", "threads")  # fmt: skip
    for kind in kinds:
        for each in (each for each in rounds if each.kind == kind):
            numbers = [f"{each.frames_per_s:.2f}", *(f"{ms:.1f}" for ms in each.total_ms + each.round_trip_ms)]
            numbers += [f"{cores:.3f}" for cores in (each.daemon_cores, each.attacker_cores)]
            taken = (each.sample.descriptors, each.sample.threads)
            table.add_row(kind, *numbers, str(each.steps), f"{each.sample.memory_mb:.1f}", *map(str, taken))
    console.print(table)
    columns = ("frames/s", "p50", "p99", "round trip p99", "daemon's cores", "p99 of all rounds")
    ratios = Table("median", *columns, title="attacked / quiet")
    for kind, of in summary.items():
        ratios.add_row(kind, *(f"{ratio:.2f}" for ratio in of.values()))
    console.print(ratios)
    counted = Table("attack", "counted", "by", title="refusals in attacked rounds")
    for name, count in count_refusals(rounds).items():
        metric, labels = COUNTED_BY[name]
        counted.add_row(name, str(count), f"{metric}_total {' '.join('|'.join(values) for values in labels.values())}")
    console.print(counted)
    for name in ("memory_mb", "descriptors", "threads"):
        print(f"{name}: {getattr(before, name):g} before, {getattr(after, name):g} after")
