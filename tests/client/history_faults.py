"""What goes wrong in a made-up history, by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

OURS = "press-3"
Window = tuple[float, float]


@dataclass(slots=True)
class Faults:
    """What goes wrong in a history; all times from its start."""

    duration: float = 18.0
    stalls: list[Window] = field(default_factory=list)  # of the link: it hands over at the end what came in
    drained_at: float = 1000.0  # how many times as fast as it was sent
    detour: tuple[float, float] | None = None  # from when on each message takes how much longer
    pauses: list[Window] = field(default_factory=list)  # of the subscriber's process
    burst: int = 100  # messages that the subscriber reads at once
    reading_s: float = 5e-5  # how long one takes
    blocks: list[Window] = field(default_factory=list)  # of its user alone
    steps: list[tuple[float, float]] = field(default_factory=list)
    lives: list[Window] = field(default_factory=lambda: [(0.0, 1e9)])  # of the station's processes, one after another
    frozen: list[Window] = field(default_factory=list)  # the process says nothing
    standing: list[Window] = field(default_factory=list)  # its lifebit stands still
    states: list[tuple[float, str]] = field(default_factory=lambda: [(0.0, "RUNNING")])
    contradictions: float = 0.0  # share of results
    contradictory_in: tuple[str, ...] = ()  # any, by default
    garbage: float = 0.0
    late: float = 0.0  # share of parts whose verdict takes longer than is waited for
    twice: float = 0.0  # share of parts that get a second PASS, under another trigger
    simulated: float = 0.0
    rival: tuple[str, str, Window] | None = None  # station, boot_id and life of somebody else at this address
    named: bool = True
    user: str = "both"  # receive | wait_for | both
    joins_at: float = 0.0


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "recorded": {"recorded": False}, "score": {"score": 2.0, "margin": 1.0}, "threshold": {"threshold": None},
    "margin": {"margin": 0.25}, "regions": {"regions": [{"xyxy": [0, 0, 9, 9], "peak": 3.0, "area": 81}]},
    "reason": {"reason": "DEFECT"}, "reason_code": {"reason_code": 1}, "recipe_id": {"recipe_id": None},
    "recipe_sha256": {"recipe_sha256": None}, "model_sha256": {"model_sha256": None},
}  # fmt: skip


Maker = Callable[[random.Random], Faults]


def make_window(chance: random.Random, low: float = 0.3, high: float = 5.0) -> Window:
    start = chance.uniform(0.0, 7.0)
    return start, start + chance.uniform(low, high)


def make_faults(chance: random.Random) -> Faults:
    """Anything at once."""
    faults = Faults(named=chance.random() < 0.7, user=chance.choice(["receive", "wait_for", "both"]))
    names = ["stall", "pause", "block", "step", "death", "restart", "frozen", "standing", "state", "rival", "join"]
    for name in chance.sample(names, chance.choice([0, 1, 2, 3, 5])):
        faults = FAULTS[name](chance, faults)
    for share in ("contradictions", "garbage", "late", "twice", "simulated"):
        if chance.random() < 0.3:
            setattr(faults, share, chance.uniform(0.0, 0.3))
    return faults


def _add_stall(chance: random.Random, faults: Faults) -> Faults:
    drained_at = chance.choice([1000.0, 20.0, 3.0])
    stalls = [make_window(chance) for _ in range(chance.choice([1, 1, 2]))]
    return replace(faults, stalls=stalls, drained_at=drained_at)


def _add_pause(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, pauses=[make_window(chance)])


def _add_block(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, blocks=[make_window(chance)])


def _add_step(chance: random.Random, faults: Faults) -> Faults:
    steps = [(chance.uniform(1.5, 10.0), chance.choice([-1, 1]) * chance.uniform(0.1, 20.0)) for _ in range(2)]
    return replace(faults, steps=steps[: chance.choice([1, 2])])


def _add_death(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, lives=[(0.0, chance.uniform(2.0, 10.0))])


def _add_restart(chance: random.Random, faults: Faults) -> Faults:
    dies = chance.uniform(2.0, 6.0)
    again = dies + chance.uniform(0.5, 4.0)
    return replace(faults, lives=[(0.0, dies), (again, 1e9)])


def _add_frozen(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, frozen=[make_window(chance)])


def _add_standing(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, standing=[make_window(chance)])


def _add_state(chance: random.Random, faults: Faults) -> Faults:
    state = chance.choice(["STOPPING", "FAULT", "STARTING", "WHATEVER"])
    return replace(faults, states=[(0.0, "READY"), (chance.uniform(1.0, 8.0), state), (10.0, "RUNNING")])


def _add_rival(chance: random.Random, faults: Faults) -> Faults:
    station, boot_id = chance.choice([("press-4", "c0"), (OURS, "rival")])
    return replace(faults, rival=(station, boot_id, make_window(chance)))


def _add_join(chance: random.Random, faults: Faults) -> Faults:
    return replace(faults, joins_at=chance.uniform(0.0, 4.0))


FAULTS: dict[str, Callable[[random.Random, Faults], Faults]] = {
    "stall": _add_stall, "pause": _add_pause, "block": _add_block, "step": _add_step, "death": _add_death,
    "restart": _add_restart, "frozen": _add_frozen, "standing": _add_standing, "state": _add_state,
    "rival": _add_rival, "join": _add_join,
}  # fmt: skip
