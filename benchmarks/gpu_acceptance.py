"""All that a GPU must show, in one command: phases with timeouts of their own, JSON and a table.

    python benchmarks/gpu_acceptance.py --json gpu.json
    python benchmarks/gpu_acceptance.py --dry        # on a CPU: each phase's logic, on a simulated device

Each phase is a process of its own: one that hangs, or whose GPU is lost, costs its own time and not the others'. Needs
torch and this package only, neither OpenVINO nor anomalib; the peer is Reverse Distillation written as anomalib runs
it, float32 with all tiles of a frame at once. A dry run is no measurement: each of its figures says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _acceptance_phases as phases
from rich.console import Console
from rich.table import Table

NOT_A_GPU = "not a GPU"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all phases, or the one that `--only` names, in this process; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="on the CPU with a simulated device: no measurement")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--phases", nargs="+", choices=list(phases.PHASES), default=list(phases.PHASES))
    parser.add_argument("--only", choices=list(phases.PHASES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        print(json.dumps(phases.PHASES[options.only].run(phases.choose_setting(dry=options.dry))))
        return 0
    if not options.dry and not phases.find_gpu():
        print("no GPU of CUDA here: --dry runs each phase's logic on a simulated device", file=sys.stderr)
        return 1
    results = {name: run_phase(name, dry=options.dry) for name in options.phases}
    content = {"device": NOT_A_GPU if options.dry else phases.find_gpu(), "phases": results}
    print_table(content, Console(width=150))
    if options.json:
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0 if all(result["state"] == "done" for result in results.values()) else 1


def run_phase(name: str, *, dry: bool) -> dict[str, Any]:
    """A phase in a process of its own: its state (done, failed, timeout), its seconds and its figures."""
    command = [sys.executable, __file__, "--only", name, *(["--dry"] if dry else [])]
    limit_s = phases.PHASES[name].limit_s
    started = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 (this script)
            command, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"state": "timeout", "seconds": limit_s, "figures": [], "error": f"more than {limit_s:.0f} s"}
    result: dict[str, Any] = {"state": "done", "seconds": time.monotonic() - started, "figures": [], "error": ""}
    if done.returncode:
        return result | {"state": "failed", "error": done.stderr.strip()[-2000:]}
    figures = json.loads(done.stdout.splitlines()[-1])
    return result | {"figures": [mark(figure) for figure in figures] if dry else figures}


def mark(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure of a dry run, which says that it is none."""
    return figure | {"of": NOT_A_GPU}


def print_table(content: dict[str, Any], console: Console) -> None:
    """A row per figure, and one per phase that has none."""
    table = Table(title=f"acceptance: {content['device']}")
    for heading in ("phase", "figure", "value", "must be", "of"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for name, result in content["phases"].items():
        for figure in result["figures"]:
            table.add_row(name, figure["name"], _format(figure["value"]), figure["must"], figure["of"])
        if result["state"] != "done":
            table.add_row(name, result["state"], "–", "", result["error"].splitlines()[-1] if result["error"] else "")
    console.print(table)


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
