"""Whether attackers disturb the flow: a real daemon with keys, TLS and login, quiet and attacked by turns.

    python benchmarks/attacks.py --rounds 5 --seconds 18 --json attacks.json
    python benchmarks/attacks.py --each --rounds 2 --seconds 5

The recipe is the small random one of the tests. The daemon's capacity is measured, then a sender with a key sends
`--load` of it, one frame in five bad, and a subscriber with a key reads the verdicts. In every other round strangers,
clients whose key is revoked or for something else, and one with another camera's stolen key attack all sockets and
HTTP; with `--each` one kind of attack after the other. p50 and p99 are of `latency_ms.total`, the daemon's own account
from reading a frame off its socket to publishing, and of the round trip from the sender to the subscriber.

The attackers are a process of their own on the same machine, at nice 19. So that the daemon is measured and not the
machine they share, they are paced: at an `--intensity` of 1 they take about a tenth of a core together, which the table
shows. The exit status is 1 where a frame has no verdict, two, or a wrong one, where an attack was not counted by
/metrics, or where the daemon holds more descriptors or threads afterwards. Each of the two commands takes less than
five minutes; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _attack_report import ALL, COUNTED_BY, QUIET, Round, count_refusals, print_report, summarise
from _attackers import Attackers
from _attacks import ATTACKS
from _guarded import MAX_MESSAGE, OTHER_CAMERA, build_config, write_keys
from _traffic import CAMERA, LEAST_HW, Account, Traffic, fit_recipe
from _watch import Sample, take_sample
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from inspector.client.keys import load_key
from inspector.testing.station_process import RunningStation, write_recipe

_ONSET_S, _END_S = 1.0, 2.0
_LAST_END_S = 12.0
"""Longer than the daemon leaves any connection open that says nothing."""


def main(argv: list[str] | None = None) -> int:
    """Run and print; the exit status."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="attacks-") as temporary:
        folder = Path(temporary)
        recipe = fit_recipe(write_recipe(folder / "recipe", frame_hw=None), tuple(arguments.frame_hw))
        keys = write_keys(folder)
        station = RunningStation(folder, build_config(folder, recipe))
        attackers = Attackers(_build_plan(arguments, station, keys), folder / "plan.json")
        try:
            station.wait_ready()
            broken = _measure(arguments, station, attackers, keys)
        finally:
            log = station.log_text()
            attackers.close()
            station.close()
    if broken:
        sys.stderr.write(log[-4000:])
        Console().print("broken: " + "; ".join(broken))
    return 1 if broken else 0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--seconds", type=float, default=18.0, help="of each round")
    parser.add_argument("--each", action="store_true", help="one kind of attack after the other, not all at once")
    parser.add_argument("--only", choices=ATTACKS, nargs="+", help="with --each: these kinds", metavar="ATTACK")
    parser.add_argument("--intensity", type=float, default=1.0, help="times each attack's rate")
    parser.add_argument("--load", type=float, default=0.5, help="share of the capacity")
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[256, 256], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args(argv)
    for name in ("rounds", "seconds", "intensity", "load"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name}: must be above 0, got {getattr(arguments, name)}")
    if any(side < least for side, least in zip(arguments.frame_hw, LEAST_HW, strict=True)):
        parser.error(f"--frame-hw: must be at least {LEAST_HW[0]} {LEAST_HW[1]}, got {arguments.frame_hw}")
    return arguments


def _build_plan(arguments: argparse.Namespace, station: RunningStation, keys: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "sockets": {name: value for name, value in station.config["sockets"].items() if isinstance(value, str)},
        "http_port": station.config["http"]["port"],
        "keys": {name: str(path) for name, path in keys.items()},
        "camera": OTHER_CAMERA,
        "others_camera": CAMERA,
        "max_message": MAX_MESSAGE,
        "intensity": arguments.intensity,
    }


# ---------------------------------------------------------------- the rounds


def _measure(
    arguments: argparse.Namespace, station: RunningStation, attackers: Attackers, keys: Mapping[str, Path]
) -> list[str]:
    """Run all rounds and print them; what was broken."""
    kinds: list[str] = [QUIET, *(arguments.only or ATTACKS)] if arguments.each else [QUIET, ALL]
    rounds: list[Round] = []
    frame_hw = tuple(arguments.frame_hw)
    with Traffic(
        station.config["sockets"], frame_hw, 0, sender_key=load_key(keys["cam"]), subscriber_key=load_key(keys["plc"])
    ) as traffic:
        capacity = traffic.measure_capacity()
        rate = arguments.load * capacity
        Console().print(f"capacity {capacity:.1f} frames/s; {rate:.1f} are sent")
        traffic.flow(rate)
        time.sleep(_END_S)
        before = take_sample(station)
        for number in range(arguments.rounds):
            for kind in kinds if number % 2 == 0 else kinds[::-1]:  # what slows down with time slows all alike
                rounds.append(_run_round(kind, arguments.seconds, station, traffic.account, attackers))
                time.sleep(_END_S)
        time.sleep(_LAST_END_S)
        after = take_sample(station)
        traffic.pause()
        traffic.wait_settled()
        broken = _find_broken(rounds, traffic.account, before, after)
    status = station.stop()
    if status:
        broken.append(f"stopping: exit status {status}")
    summary = summarise(kinds, rounds)
    print_report(kinds, rounds, summary, before, after)
    kinds_of_answer = ", ".join(f"{n} {verdict} {reason}" for (verdict, reason), n in traffic.account.counts.items())
    print(f"{traffic.account.sent} frames sent, {len(traffic.account.verdicts)} answered: {kinds_of_answer}")
    if arguments.json:
        content = {"capacity": capacity, "sent_per_s": rate, "frames": traffic.account.sent, "broken": broken,
                   "median": summary, "rounds": rounds, "before": before, "after": after}  # fmt: skip
        arguments.json.write_text(json.dumps(content, indent=1, default=dataclasses.asdict), encoding="utf-8")
    return broken


def _run_round(kind: str, seconds: float, station: RunningStation, account: Account, attackers: Attackers) -> Round:
    counters = _read_counters(station)
    _, cpu_s = attackers.order(*({QUIET: (), ALL: tuple(ATTACKS)}.get(kind, (kind,))))
    ordered_s = time.monotonic()
    time.sleep(_ONSET_S)
    started_s, first = time.monotonic(), (len(account.latencies), len(account.round_trips))
    daemon_s = _read_cpu(station)
    time.sleep(seconds)
    ended_s, daemon_s = time.monotonic(), _read_cpu(station) - daemon_s
    totals, round_trips = account.latencies[first[0] :], account.round_trips[first[1] :]
    sample, counters_after = take_sample(station), _read_counters(station)
    steps, cpu_after_s = attackers.order()
    return Round(
        kind=kind,
        frames_per_s=len(totals) / (ended_s - started_s),
        total_ms=_quantiles([value for _, value in totals]),
        round_trip_ms=_quantiles([value for _, value in round_trips]),
        all_total_ms=[value for _, value in totals],
        daemon_cores=daemon_s / (ended_s - started_s),
        attacker_cores=(cpu_after_s - cpu_s) / (time.monotonic() - ordered_s),
        steps=sum(steps.values()),
        counted={name: counters_after[name] - counters[name] for name in COUNTED_BY},
        sample=sample,
    )


def _read_cpu(station: RunningStation) -> float:
    """CPU time of the daemon (s)."""
    fields = Path(f"/proc/{station.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _quantiles(values: list[float]) -> tuple[float, float]:
    if not values:
        raise SystemExit("no verdict came in a whole round")
    return float(np.quantile(values, 0.5)), float(np.quantile(values, 0.99))


def _read_counters(station: RunningStation) -> dict[str, float]:
    """Each attack's counter."""
    families = list(text_string_to_metric_families(station.get("/metrics")[1]))
    samples = [sample for family in families for sample in family.samples]
    return {
        attack: sum(
            sample.value
            for sample in samples
            if sample.name == f"inspector_{name}_total"
            and all(sample.labels[label] in values for label, values in labels.items())
        )
        for attack, (name, labels) in COUNTED_BY.items()
    }


def _find_broken(rounds: list[Round], account: Account, before: Sample, after: Sample) -> list[str]:
    wrong = [f for f, verdict in account.verdicts.items() if verdict != ("FAIL" if f.startswith("bad") else "PASS")]
    named = {"without verdict": [*account.waiting], "with two verdicts": account.twice, "with a wrong verdict": wrong}
    broken = [f"{len(frames)} {what}: {', '.join(frames[:5])}" for what, frames in named.items() if frames]
    if account.others:
        broken.append(f"{account.others} verdicts for frames of {CAMERA} that nobody sent")
    counted = count_refusals(rounds)
    attacked = {name for each in rounds for name in (COUNTED_BY if each.kind == ALL else [each.kind])} - {QUIET}
    broken += [f"{name}: not counted" for name in COUNTED_BY if name in attacked and not counted[name]]
    for name in ("descriptors", "threads"):
        if getattr(after, name) > getattr(before, name):
            broken.append(f"{name}: {getattr(before, name)} before, {getattr(after, name)} after")
    return broken


if __name__ == "__main__":
    sys.exit(main())
