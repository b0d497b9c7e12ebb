"""Whether a station holds for long what it promises: a real daemon near its capacity, with one fault after another.

    python benchmarks/soak.py --minutes 20 --json soak.json

The recipe is the small random one of the tests. The daemon's capacity is measured, then it is sent `--load` of that,
one frame in five bad, while messages are malformed, subscribers stand still, disk and device falter, and so on: all
that a healthy station survives without a restart. Quotas are small, so that evidence is evicted and the journal
pruned. Counted from the end of the warm-up, a quarter of the time but from two to five minutes. The exit status is 1
where a promise is broken: a frame without its one verdict, a PASS that none deserved, memory, descriptors or threads
that grow, a quota exceeded, a journal that does not verify.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _faults import Faults
from _soak_report import SHORTEST_WINDOW_S, Run, compute_slope_of, compute_window_s, count_samples, report
from _traffic import CAMERA, DEADLINE_MS, LEAST_HW, Traffic, fit_recipe
from _watch import Watcher, compute_warm_up, has_grown, take_sample
from rich.console import Console

from inspector.journal.verification import verify
from inspector.testing.account import read_journal
from inspector.testing.malformed import MAX_MESSAGE
from inspector.testing.station_process import RunningStation, base_config, write_recipe

_EVIDENCE_BYTES = 4 * 1024**2
_JOURNAL_BYTES = 2 * 1024**2
"""Both are full, even at ten frames per second, before the warm-up of a soak of twenty minutes ends."""
FAULTY_DAEMON = Path(__file__).resolve().parents[1] / "tests" / "system" / "faulty_daemon.py"
_BUFFERED_FRAMES = 16
_MAX_SLOPE_MB = 1.0
"""Per ten minutes."""


def main(argv: list[str] | None = None) -> int:
    """Run and print; the exit status."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = Path(temporary)
        program = [str(FAULTY_DAEMON)] if arguments.faults else ["-m", "inspector"]
        station = RunningStation(folder, _build_config(arguments, folder), program)
        try:
            station.wait_ready()
            run = _soak(arguments, station)
        finally:
            log = station.log_text()
            station.close()
    if run.broken:
        sys.stderr.write(log[-4000:])
    summary = report(run)
    if arguments.json:
        samples = [dataclasses.asdict(sample) for sample in run.samples]
        arguments.json.write_text(json.dumps(summary | {"samples": samples}, indent=1), encoding="utf-8")
    return 1 if run.broken else 0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="more than 2, of which the first do not count")
    parser.add_argument("--load", type=float, default=0.9, help="share of the capacity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[256, 320], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--no-faults", dest="faults", action="store_false", help="a steady flow, and nothing else")
    parser.add_argument("--reload", action="store_true", help="among the faults: SIGHUP, the station file unchanged")
    parser.add_argument("--json", type=Path, help="also write the results here, with all samples")
    arguments = parser.parse_args(argv)
    if not arguments.minutes * 60 > compute_warm_up(arguments.minutes * 60):
        parser.error(f"--minutes: must be more than 2, got {arguments.minutes}")
    if not 0 < arguments.load <= 2:
        parser.error(f"--load: must be above 0 and at most 2, got {arguments.load}")
    if any(side < least for side, least in zip(arguments.frame_hw, LEAST_HW, strict=True)):
        parser.error(f"--frame-hw: must be at least {LEAST_HW[0]} {LEAST_HW[1]}, got {arguments.frame_hw}")
    return arguments


def _build_config(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    frame_hw = (arguments.frame_hw[0], arguments.frame_hw[1])
    recipe = fit_recipe(write_recipe(folder / "recipe", frame_hw=None), frame_hw)
    config = base_config(recipe, **{CAMERA: {"recipe": str(recipe), "deadline_ms": DEADLINE_MS}})
    nbytes = 3 * math.prod(frame_hw)
    config["sockets"]["max_message"] = max(MAX_MESSAGE, 2 * nbytes)
    return config | {
        "buffer": {"max_bytes": _BUFFERED_FRAMES * nbytes, "when_full": "drop_oldest"},
        "evidence": {"max_bytes": _EVIDENCE_BYTES, "pass_every": 10, "min_free": 64 * 1024**2},
        "journal": {"max_bytes": _JOURNAL_BYTES},
        # Not wider than the frame: what a picture takes while it is drawn would hide what stays.
        "overlays": {"width": frame_hw[1]},
    }


# ---------------------------------------------------------------- the run


def _soak(arguments: argparse.Namespace, station: RunningStation) -> Run:
    with Traffic(station.config["sockets"], tuple(arguments.frame_hw), arguments.seed) as traffic:
        capacity = traffic.measure_capacity()
        Console().print(f"capacity {capacity:.1f} frames/s; {arguments.minutes:g} minutes at {arguments.load:.0%}")
        watcher = Watcher(station)
        faults = Faults(station, traffic, seed=arguments.seed, reload=arguments.reload)
        run = Run(capacity, time.monotonic(), watcher.samples, traffic.account, faults.injected)
        traffic.flow(arguments.load * capacity)
        watcher.start()
        if arguments.faults:
            faults.start()
        end = run.started_s + 60 * arguments.minutes
        while time.monotonic() < end and station.process.poll() is None and faults.failure is None:
            time.sleep(0.2)
        for thread in (faults, watcher):
            thread.stop()
        for thread in (faults, watcher) if arguments.faults else (watcher,):
            thread.join()
        run.missed = watcher.missed
        traffic.pause()
        traffic.wait_settled()
        run.broken += find_broken(run, faults.failure)
        run.broken += _end(run, station)
    return run


def _end(run: Run, station: RunningStation) -> list[str]:
    """Compare the daemon's account with ours, stop it, and look into its journal."""
    if station.process.poll() is not None:
        return [f"the daemon ended by itself, exit status {station.process.returncode}"]
    last = take_sample(station)
    broken = []
    if not last.received == last.answered == run.account.received:
        broken.append(f"the daemon counts {last.received} received and {last.answered} answered, "
                      f"and {run.account.received} verdicts came")  # fmt: skip
    if status := station.stop():
        broken.append(f"stopping: exit status {status}")
    return broken + _check_journal(run, station.journal)


def _check_journal(run: Run, path: Path) -> list[str]:
    """What is left of the journal must verify, and say what was received."""
    verification, account = verify(path), run.account
    run.journal_rows = verification.rows
    broken = [f"journal: {fault}" for fault in verification.faults]
    rows, waiting = read_journal(path)
    if waiting:
        broken.append(f"journal: {len(waiting)} frames are still open")
    other = [row.frame_id for row in rows if account.verdicts.get(row.frame_id, row.verdict) != row.verdict]
    return broken + _name("journal: has another verdict than was received", other)


def find_broken(run: Run, failure: str | None) -> list[str]:
    account = run.account
    broken = [f"a fault did not go as it must: {failure}"] if failure else []
    broken += _name("without verdict", sorted(account.waiting))
    broken += _name("with two verdicts", account.twice)
    broken += _name("with an undeserved PASS", account.undeserved)
    if account.others != account.owed_to_others:
        broken.append(f"{account.owed_to_others} malformed messages named a camera, {account.others} were answered")
    counted = count_samples(run)
    if max((sample.evidence_bytes for sample in run.samples), default=0) > _EVIDENCE_BYTES:
        broken.append("evidence exceeds its quota")
    for name in ("descriptors", "threads"):
        if has_grown([getattr(sample, name) for sample in counted]):
            broken.append(f"{name} grow")
    slope = compute_slope_of(counted, lambda sample: sample.memory_mb)
    if slope is not None and compute_window_s(counted) >= SHORTEST_WINDOW_S and slope >= _MAX_SLOPE_MB:
        broken.append(f"memory grows by {slope:.2f} MB in 10 minutes")
    return broken


def _name(what: str, frame_ids: list[str]) -> list[str]:
    return [f"{len(frame_ids)} {what}: {', '.join(frame_ids[:5])}"] if frame_ids else []


if __name__ == "__main__":
    sys.exit(main())
