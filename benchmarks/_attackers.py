"""Attackers in a process of their own, at the lowest priority.

    python benchmarks/_attackers.py PLAN.json

Reads lines of JSON, each a list of the attacks to make from then on, and answers each with one: how many steps each
attack has made since the line before, and the CPU time of this process (s). Each attack has a thread and a rate; what
it cannot do in time is left out, not made up for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import zmq
from _attacks import ATTACKS, Attack, Plan

from inspector.security.sockets import raise_descriptor_limit

_NICENESS = 19


class _Attacker(threading.Thread):
    """Repeats one attack while it is wanted."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(daemon=True)
        self.attack = attack
        self.wanted = threading.Event()

    def run(self) -> None:
        period_s = 1 / (self.attack.rate * self.attack.plan.intensity)
        due = time.monotonic()
        while True:
            if not self.wanted.is_set():
                self.attack.close()
                self.wanted.wait()
                due = time.monotonic()
            try:
                self.attack.step()
            except OSError as error:  # ZMQError is none
                print(f"{type(self.attack).__name__}: {error}", file=sys.stderr, flush=True)
            self.attack.count += 1
            due = max(due + period_s, time.monotonic() - period_s)
            time.sleep(max(0.0, due - time.monotonic()))


class Attackers:
    """The process, seen from the one that measures."""

    def __init__(self, plan: dict[str, Any], path: Path) -> None:
        """Start it; attacks nobody yet."""
        path.write_text(json.dumps(plan), encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.order()

    def order(self, *attacks: str) -> tuple[dict[str, int], float]:
        """Make these attacks from now on; the steps of those until now, since the last order, and all CPU time (s)."""
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        print(json.dumps(attacks), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return answer["steps"], answer["cpu_s"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def _main() -> None:
    os.nice(_NICENESS)
    raise_descriptor_limit()
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    attackers = {name: _Attacker(build(plan, context)) for name, build in ATTACKS.items()}
    for attacker in attackers.values():
        attacker.start()
    counted: dict[str, int] = {}
    for line in sys.stdin:
        for name, attacker in attackers.items():
            (attacker.wanted.set if name in json.loads(line) else attacker.wanted.clear)()
        counts = {name: attacker.attack.count for name, attacker in attackers.items()}
        steps = {name: count - counted.get(name, 0) for name, count in counts.items()}
        counted = counts
        print(json.dumps({"steps": steps, "cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    _main()
