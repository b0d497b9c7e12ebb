"""Made-up histories of stations, links, clocks and users, on a clock of their own.

A history is made by chance from a seed. `Follower` is the one the subscriber uses; sockets, thread and clock are not.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from inspector.client.events import Verdict
from inspector.client.finals import Ids
from inspector.client.follower import Follower
from inspector.testing.fake_station import make_result
from tests.client.history_faults import CONTRADICTIONS, OURS, Faults, Window
from tests.client.history_judge import HEARTBEAT_S, Judge, Sent

TAIL_S = 2.5
"""At the end of a history all is well again."""


@dataclass(slots=True)
class Clock:
    """A station's wall clock: it drifts, and steps."""

    base: float
    drift: float = 0.0
    steps: list[tuple[float, float]] = field(default_factory=list)

    def read_ns(self, now: float) -> int:
        stepped = sum(by for at, by in self.steps if at <= now)
        return int((self.base + now * (1 + self.drift) + stepped) * 1e9)


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
