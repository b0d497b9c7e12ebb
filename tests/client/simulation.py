"""Made-up histories of stations, links, clocks and users, on a clock of their own, and a judge of what passed in them.

A history is made by chance from a seed. `Follower` is the one the subscriber uses; sockets, thread and clock are not.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fake_station import make_result

from inspector.client.events import Verdict
from inspector.client.finals import Ids
from inspector.client.follower import Follower

HEARTBEAT_S = 2.0
SLACK_S = 0.3
"""What a link always takes, and what two offsets may differ by."""
STEP_SLACK_S = HEARTBEAT_S / 2
"""A clock that steps forward while a link stalls hides as much of the stall as no silence shows."""
TAIL_S = 2.5
"""At the end of a history all is well again."""
OURS = "press-3"
ID_KEYS = ("frame_id", "part_id", "trigger_id")
Window = tuple[float, float]


@dataclass(slots=True)
class Sent:
    """A message as it left, and what is true of it.

    Attributes:
        at: when it left. arrives: when the link hands it over.
        part: number of the part it is about.
        flaw: why its PASS must not let a part through.
    """

    at: float
    station: str
    boot_id: str
    topic: str
    body: dict[str, Any]
    arrives: float = 0.0
    is_sound: bool = True
    is_readable: bool = True
    flaw: str = ""

    @property
    def speaker(self) -> tuple[str, str]:
        return self.station, self.boot_id

    @property
    def parts(self) -> list[bytes]:
        return [self.topic.encode(), json.dumps(self.body).encode()[: None if self.is_readable else -1]]


@dataclass(slots=True)
class Clock:
    """A station's wall clock: it drifts, and steps."""

    base: float
    drift: float = 0.0
    steps: list[tuple[float, float]] = field(default_factory=list)

    def read_ns(self, now: float) -> int:
        stepped = sum(by for at, by in self.steps if at <= now)
        return int((self.base + now * (1 + self.drift) + stepped) * 1e9)


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


def is_within(windows: list[Window], at: float) -> bool:
    return any(start <= at < end for start, end in windows)


def find_end(windows: list[Window], at: float) -> float:
    """When the window that `at` lies in ends; `at` itself where it lies in none."""
    return max([at, *(end for start, end in windows if start <= at < end)])


class World:
    """All that was sent, with its times."""

    def __init__(self, faults: Faults, chance: random.Random) -> None:
        self.faults = faults
        self._chance = chance
        self._clock = Clock(chance.uniform(-1e5, 1.8e9), chance.uniform(-1e-4, 1e-4), faults.steps)
        self.parts: list[tuple[float, int]] = []  # when each part comes to the gate
        sent: list[Sent] = []
        for number, life in enumerate(faults.lives):
            sent += self._speak(OURS, f"b{number}", life)
        if faults.rival:
            station, boot_id, life = faults.rival
            sent += self._speak(station, boot_id, life)
        self.sent = self._deliver(sorted(sent, key=lambda each: each.at))

    def _speak(self, station: str, boot_id: str, life: Window) -> list[Sent]:
        start, end = life[0], min(life[1], self.faults.duration)
        first_seq = 1 + round(start * 100)
        sent = self._send_results(station, boot_id, (start, end), first_seq)
        seqs = [(each.at, each.body["seq"]) for each in sent if each.is_readable]
        at = start
        while at < end:
            last_seq = max([0, *(seq for when, seq in seqs if when <= at)])
            sent.append(self._send_status(station, boot_id, at, start, last_seq))
            at += 0.4 + self._chance.uniform(0.0, 0.02)
        return [each for each in sent if not is_within(self.faults.frozen, each.at)]

    def _send_status(self, station: str, boot_id: str, at: float, start: float, last_seq: int) -> Sent:
        body = {
            "schema": 1, "station": station, "boot_id": boot_id, "state": self.find_state(at),
            "lifebit": self._find_lifebit(boot_id, at - start, start), "last_seq": {"top": last_seq}, "last_result": {},
            "published_utc_ns": self._clock.read_ns(at),
        }  # fmt: skip
        return Sent(at, station, boot_id, "status", body)

    def _find_lifebit(self, boot_id: str, age: float, start: float) -> int:
        """It stands still where the line's own process does."""
        stood = [since - start for since, end in self.faults.standing if since <= age + start < end]
        return int((age if boot_id == "rival" else min([age, *stood])) / 0.2)

    def find_state(self, at: float) -> str:
        return [state for since, state in self.faults.states if since <= at][-1]

    def _send_results(self, station: str, boot_id: str, life: Window, seq: int) -> list[Sent]:
        sent, chance, faults = [], self._chance, self.faults
        at = life[0] + chance.uniform(0.1, 0.5)
        while at < life[1]:
            number = seq if station == OURS else seq + 100_000
            if station == OURS and boot_id != "rival":
                self.parts.append((at, number))
            judged_at = at + (chance.uniform(0.3, 3.0) if chance.random() < faults.late else chance.uniform(0.02, 0.2))
            for trigger in [f"t{number}"] + [f"t{number}-2"] * (chance.random() < faults.twice):
                sent.append(self._send_result(station, boot_id, judged_at, seq, trigger, number))
                seq, judged_at = seq + 1, judged_at + chance.uniform(0.0, 1.0)
            if chance.random() < faults.garbage:
                sent.append(Sent(judged_at, station, boot_id, "result/top", {}, is_sound=False, is_readable=False))
            at += chance.uniform(0.2, 0.7)
        return [each for each in sent if each.at < life[1]]

    def _send_result(self, station: str, boot_id: str, at: float, seq: int, trigger: str, number: int) -> Sent:
        chance = self._chance
        changes: dict[str, Any] = {}
        flaw = ""
        if chance.random() < self.faults.contradictions:
            flaw = chance.choice(self.faults.contradictory_in or list(CONTRADICTIONS))
            changes = CONTRADICTIONS[flaw]
        elif chance.random() < self.faults.simulated:
            flaw, changes = "simulated", {"simulated": True}
        elif chance.random() < 0.1:
            flaw, changes = "FAIL", {"verdict": "FAIL", "reason": "DEFECT", "reason_code": 1, "score": 2.0}
        body = make_result(seq, station=station, boot_id=boot_id, trigger_id=trigger, part_id=f"p{number}", **changes)
        body["frame_id"] = f"f{station}{boot_id}{seq}"
        body["published_utc_ns"] = self._clock.read_ns(at)
        return Sent(at, station, boot_id, "result/top", body, flaw=flaw, is_sound=flaw not in CONTRADICTIONS)

    def _deliver(self, sent: list[Sent]) -> list[Sent]:
        """Through the link, in order."""
        faults, arrived, left = self.faults, 0.0, 0.0
        for each in sent:
            takes = self._chance.uniform(0.0005, 0.01) + (0.05 if self._chance.random() < 0.05 else 0.0)
            takes += faults.detour[1] if faults.detour and each.at >= faults.detour[0] else 0.0
            arrives = find_end(faults.stalls, each.at + takes)
            arrived, left = max(arrives, arrived + (each.at - left) / faults.drained_at), each.at
            each.arrives = arrived
        self._hold_up(sent)
        return [each for each in sent if each.arrives >= faults.joins_at]

    def _hold_up(self, sent: list[Sent]) -> None:
        """Where the subscriber's process was stopped; its socket's thread may wake up after the one that reads."""
        for start, end in self.faults.pauses:
            lag = self._chance.choice([0.0, 0.002])
            for each in sent:
                if start <= each.arrives < end + lag:
                    each.arrives = end + lag


@dataclass(slots=True)
class Life:
    """What the statuses of a process said that were read: when it last had made progress, and its state."""

    at: float = -1e9
    lifebit: int = -1
    state: str = ""


class Judge:
    """Knows what is true, and notes every part that should not have passed."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._sent: dict[tuple[str, int], Sent] = {}
        self._lives: dict[tuple[str, str], Life] = {}
        self._first_read: dict[tuple[str, str], float] = {}
        self._last_read: dict[tuple[str, str], float] = {}
        self._ids: list[Ids] = []
        self._final: set[tuple[int, str]] = set()
        self._unclear = False
        self._clouded: set[int] = set()  # results that came after a malformed message and before a sound status
        self.wrong: list[str] = []
        self.passed: list[Sent] = []

    def note_read(self, each: Sent, now: float) -> None:
        """The subscriber reads a message now."""
        if each.is_readable:
            self._first_read.setdefault(each.speaker, now)
            self._last_read[each.speaker] = now
        is_ours = each.station == OURS
        if not each.is_sound:
            self._unclear |= is_ours or not each.is_readable
        elif each.topic == "status":
            self._unclear &= not is_ours
            life = self._lives.setdefault(each.speaker, Life())
            life.state = each.body["state"]
            if each.body["lifebit"] > life.lifebit:
                life.at, life.lifebit = each.at, each.body["lifebit"]
        else:
            self._sent[each.boot_id, each.body["seq"]] = each
            if self._unclear:
                self._clouded.add(id(each))
            if is_ours:
                self._note_ids(tuple(each.body[key] for key in ID_KEYS))

    def _note_ids(self, ids: Ids) -> None:
        self._ids.append(ids)
        if self._is_final(ids):
            self._final |= _list_keys(ids)

    def _is_final(self, ids: Ids) -> bool:
        return not self._final.isdisjoint(_list_keys(ids))

    def should_pass(self, verdict: Verdict, since: float) -> bool:
        """Whether a PASS came that left since then, and nothing was wrong with it."""
        if verdict.raw.get("verdict") != "PASS":
            return False
        sent = self._sent.get((verdict.raw["boot_id"], verdict.raw["seq"]))
        if sent is None or sent.station != OURS or sent.flaw or id(sent) in self._clouded:
            return False
        return sent.at > since and not self._is_final(tuple(sent.body[key] for key in ID_KEYS))

    def note_no_answer(self, ids: Ids) -> None:
        """The user was told NO_ANSWER."""
        self._final |= _list_keys(ids)
        before = 0
        while len(self._final) > before:
            before = len(self._final)
            self._final.update(*(_list_keys(other) for other in self._ids if self._is_final(other)))

    def note_verdict(self, verdict: Verdict, now: float, deadline: float = 1e9) -> None:
        """The user has a verdict in hand now."""
        if verdict.reason == "NO_ANSWER":
            self.note_no_answer((verdict.frame_id or None, verdict.part_id, verdict.trigger_id))
        if not verdict.passed:
            return
        sent = self._sent.get((verdict.boot_id, verdict.seq))
        if sent is None:
            self.wrong.append(f"{now:.2f} s: seq {verdict.seq} of {verdict.boot_id} was never read")
            return
        self.passed.append(sent)
        for rule, is_broken in self._find_broken(sent, verdict, now, deadline).items():
            if is_broken:
                self.wrong.append(f"{rule}: {now:.2f} s: seq {verdict.seq} of {verdict.boot_id}, sent {sent.at:.2f} s")

    def _find_broken(self, sent: Sent, verdict: Verdict, now: float, deadline: float) -> dict[str, bool]:
        ids = (verdict.frame_id, verdict.part_id, verdict.trigger_id)
        bound = HEARTBEAT_S + SLACK_S + (STEP_SLACK_S if self._faults.steps and self._faults.stalls else 0.0)
        life = self._lives.get(sent.speaker, Life())
        return {
            "age": now - sent.at > bound,
            "life": now - life.at > bound,
            "station": sent.station != OURS,
            "state": life.state not in {"READY", "RUNNING", "DEGRADED"},
            "flaw": sent.flaw != "",
            "cloud": id(sent) in self._clouded,
            "final": self._is_final(ids),
            "late": now > deadline,
            "rival": self._has_rival(sent, now),
        }

    def _has_rival(self, sent: Sent, now: float) -> bool:
        """Whether somebody else was heard lately, after this process was heard first."""
        since = max(self._first_read[sent.speaker], now - HEARTBEAT_S)
        return any(
            at > since and speaker != sent.speaker and (speaker[0] == sent.station or not self._faults.named)
            for speaker, at in self._last_read.items()
        )


def _list_keys(ids: Ids) -> set[tuple[int, str]]:
    return {(kind, each) for kind, each in enumerate(ids) if each is not None}


class Run:
    """One history, from its first message to its end."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._chance = random.Random(seed)
        self._faults = faults
        self.world = World(faults, self._chance)
        self.judge = Judge(faults)
        self._now = faults.joins_at
        self._follower = Follower(
            station=OURS if faults.named else None, cameras=None, heartbeat_s=HEARTBEAT_S, from_seq={},
            accept_simulated=False, ask=None, now=self._now,
        )  # fmt: skip
        self._empty_at = self._now
        self._waiting: tuple[Ids, float] | None = None
        self._user_at = self._now
        self.events: Counter[str] = Counter()
        self.unheard: list[str] = []  # sound parts of the last seconds, when all is well again, that did not pass

    def play(self) -> Run:
        """To the end."""
        sent, at = self.world.sent, 0
        end = self._faults.duration + 3.0
        look_at = self._now
        while self._now < end:
            next_message = sent[at].arrives if at < len(sent) else end
            self._now = self._wake(min(look_at, next_message, max(self._user_at, self._now)))
            if min(look_at, next_message) <= self._now:
                at = self._turn(at)
                look_at = self._now + 0.05
            self._use()
        return self

    def _turn(self, at: int) -> int:
        """As `Pump` does: a burst, and a look at the clock; what is to be read next."""
        sent = self.world.sent
        for _ in range(self._faults.burst):
            if at == len(sent) or sent[at].arrives > self._now:
                self._empty_at = self._now
                break
            self._now += self._faults.reading_s
            self.judge.note_read(sent[at], self._now)
            self._follower.take_message(sent[at].parts, self._now, self._now - self._empty_at)
            at += 1
        self._follower.look(self._now)
        return at

    def _wake(self, at: float) -> float:
        return find_end(self._faults.pauses, max(at, self._now))

    def _use(self) -> None:
        if is_within(self._faults.blocks, self._now):
            self._user_at = find_end(self._faults.blocks, self._now)
            return
        if self._waiting:
            self._look_for_answer(*self._waiting)
        elif self._now >= self._user_at:
            self._go_on()

    def _go_on(self) -> None:
        """The user's next step: the next event, or a part at the gate."""
        parts = self.world.parts
        if self._faults.user != "receive" and parts and parts[0][0] <= self._now:
            _, number = parts.pop(0)
            kind = self._chance.choice(["part", "trigger", "both"])
            ids = (None, None if kind == "trigger" else f"p{number}", None if kind == "part" else f"t{number}")
            self._waiting = ids, self._now + self._chance.choice([0.4, 1.0])
            self._look_for_answer(*self._waiting)
        elif self._faults.user != "wait_for":
            self._receive()
        else:
            self._user_at = parts[0][0] if parts else 1e9

    def _receive(self) -> None:
        event = self._follower.next_event(self._now)
        self._user_at = self._now + (self._chance.uniform(0.01, 0.1) if event is None else 1e-4)
        if event is not None:
            self.events[type(event).__name__] += 1
            if isinstance(event, Verdict):
                self._hand_out(event)

    def _look_for_answer(self, ids: Ids, deadline: float) -> None:
        answer = self._follower.find_answer("top", ids, self._now, deadline)
        self._user_at = deadline
        if answer is not None:
            self._waiting, self._user_at = None, self._now + 1e-4
            self._hand_out(answer, deadline)

    def _hand_out(self, verdict: Verdict, deadline: float = 1e9) -> None:
        if self._now > self._faults.duration - TAIL_S + 0.5 and self.judge.should_pass(verdict, self._now - 0.5):
            self.unheard += [] if verdict.passed else [f"{self._now:.2f} s: {verdict.raw['seq']}: {verdict.doubt}"]
        self.judge.note_verdict(verdict, self._now, deadline)


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
    return replace(faults, steps=[(chance.uniform(1.5, 10.0), chance.choice([-1, 1]) * chance.uniform(0.1, 20.0))])


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
