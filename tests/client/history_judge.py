"""Knows what is true in a made-up history, and so which parts should not have passed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from inspector.client.events import Verdict
from inspector.client.finals import Ids
from tests.client.history_faults import OURS, Faults

HEARTBEAT_S = 2.0
SLACK_S = 0.3
"""What a link always takes, and what two offsets may differ by."""
STEP_SLACK_S = HEARTBEAT_S / 2
"""A clock that steps forward while a link stalls hides as much of the stall as no silence shows."""
ID_KEYS = ("frame_id", "part_id", "trigger_id")


@dataclass(slots=True)
class Sent:
    """A message as it left, and what is true of it.

    Attributes:
        at: when it left. arrives: when the link hands it over.
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
        self._heard_first = ""
        self._clouded: set[int] = set()  # results that came after a malformed message and before a sound status
        self.wrong: list[str] = []
        self.passed: list[Sent] = []

    def note_read(self, each: Sent, now: float) -> None:
        """The subscriber reads a message now."""
        if each.is_sound:
            self._heard_first = self._heard_first or each.station
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
            "station": sent.station != (OURS if self._faults.named else self._heard_first),
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
