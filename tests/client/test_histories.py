"""Made-up histories: no part passes on a verdict that was not live, ours and sound; and each rule is needed for that.

Thousands of them in the long form (`make chaos`), some hundreds otherwise; each is made again from its seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from inspector.client import Verdict, follower, inbox, messages, pulse
from inspector.client.finals import Finals
from inspector.client.follower import Follower
from inspector.client.pulse import Pulse
from inspector.client.speakers import Speakers
from tests.client.history_faults import CONTRADICTIONS, OURS, Faults, Maker, make_faults
from tests.client.simulation import Run
from tests.system.chaos import scaled, tell, timeout

Patch = pytest.MonkeyPatch

HISTORIES = scaled(300, 20_000)


def is_well_at_the_end(faults: Faults) -> bool:
    """Whether nothing is left that doubts must outlast: see `Pulse` about a clock that steps while nobody is heard."""
    silences = faults.stalls or faults.pauses or faults.frozen or faults.standing or len(faults.lives) > 1
    dies = faults.lives[-1][1] < faults.duration
    return not (
        dies or faults.late or faults.twice or (faults.steps and silences) or (faults.rival and not faults.named)
    )


@timeout(300, 7200)
def test_nothing_passes_but_what_is_live_ours_and_sound_whatever_happens() -> None:
    passed = shown = well = 0
    for seed in range(HISTORIES):
        faults = make_faults(random.Random(seed))
        run = Run(faults, seed).play()
        assert run.judge.wrong == [], (seed, faults)
        passed += len(run.judge.passed)
        shown += sum(each.topic != "status" for each in run.world.sent)
        if is_well_at_the_end(faults):
            well += 1
            assert run.unheard == [], (seed, faults)
    tell(f"{HISTORIES} histories: {passed} of {shown} verdicts passed, 0 wrongly; {well} had to end well, and did")
    assert passed > shown * 0.3
    assert well > HISTORIES * 0.2


@pytest.mark.parametrize("user", ["receive", "wait_for", "both"])
def test_every_sound_part_of_a_quiet_line_passes(user: str) -> None:
    for seed in range(20):
        run = Run(Faults(user=user), seed).play()
        assert run.judge.wrong == []
        sound = [sent for sent in run.world.sent if sent.topic != "status" and not sent.flaw and sent.at > 1.5]
        assert [sent for sent in sound if sent not in run.judge.passed] == []


# ---------------------------------------------------------------- each rule by itself


def make_detour(chance: random.Random) -> Faults:
    """Each message takes seconds longer from some moment on, one after the other as they were sent."""
    return Faults(detour=(chance.uniform(3, 6), chance.uniform(2.6, 6.0)), user="receive")


def make_block(chance: random.Random) -> Faults:
    start = chance.uniform(2, 6)
    return Faults(blocks=[(start, start + chance.uniform(3, 6))], user="receive")


def make_block_and_step_back(chance: random.Random) -> Faults:
    start = chance.uniform(2, 6)
    return Faults(blocks=[(start, start + 4.0)], steps=[(start + 0.5, -chance.uniform(3.0, 4.0))], user="receive")


def make_stalled_join(chance: random.Random) -> Faults:
    return Faults(stalls=[(0.0, chance.uniform(3.0, 6.0))], joins_at=chance.uniform(0.1, 2.0), user="receive")


def make_stall_in_pieces(chance: random.Random) -> Faults:
    """A backlog comes in two pieces, half a second or more apart, as if its statuses had just been sent."""
    end, cut = chance.uniform(5.0, 7.0), chance.uniform(1.0, 1.6)
    return Faults(stalls=[(0.5, end), (cut, end + chance.uniform(0.6, 1.0))], drained_at=20.0, user="receive")


def make_stall_and_equal_step(chance: random.Random) -> Faults:
    start, length = chance.uniform(2, 6), chance.uniform(4.0, 6.0)
    step = (start + chance.uniform(0.1, 0.4), length - chance.uniform(0.0, 0.4))
    return Faults(stalls=[(start, start + length)], steps=[step], user="receive")


def make_slow_reader(chance: random.Random) -> Faults:
    """A backlog stands in our own queue from the beginning: it is read as fast as it grows."""
    return Faults(
        pauses=[(0.05, chance.uniform(4.0, 6.0))], burst=1, reading_s=chance.uniform(0.19, 0.22), user="receive"
    )


def make_standing(chance: random.Random) -> Faults:
    start = chance.uniform(2, 6)
    return Faults(standing=[(start, start + 7.0)])


def make_two_processes(chance: random.Random) -> Faults:
    """The line's own process stands still, and another one of its name is well."""
    return Faults(standing=[(3.0, 18.0)], rival=(OURS, "rival", (chance.uniform(3.0, 3.3), 18.0)))


def make_foreign(chance: random.Random) -> Faults:
    return Faults(rival=("press-4", "c0", (chance.uniform(1, 4), 12.0)), named=False)


def make_takeover(chance: random.Random) -> Faults:
    """The station dies, and another one takes over its address."""
    return Faults(lives=[(0.0, 4.0)], rival=("press-4", "c0", (chance.uniform(4.1, 6.0), 18.0)))


def make_state(chance: random.Random) -> Faults:
    state = chance.choice(["STARTING", "STOPPING", "FAULT", "WHATEVER"])
    return Faults(states=[(0.0, "RUNNING"), (3.0, state), (10.0, "RUNNING")])


def make_late_wake(chance: random.Random) -> Faults:
    start = chance.uniform(2, 6)
    return Faults(pauses=[(start, start + chance.uniform(0.3, 0.9))], user="wait_for")


def make_late_verdicts(chance: random.Random) -> Faults:
    return Faults(late=0.5, twice=0.5)


def make_step(sign: int) -> Maker:
    return lambda chance: Faults(steps=[(chance.uniform(3, 9), sign * chance.uniform(0.6, 30.0))])


def make_step_in_silence(chance: random.Random) -> Faults:
    return Faults(duration=90.0, frozen=[(3.0, 8.0)], steps=[(5.0, -3.0)])


def with_(**shares: float) -> Maker:
    return lambda chance: Faults(**shares)  # type: ignore[arg-type]


def never(*_: object) -> bool:
    return False


def ignore_process(patch: Patch) -> None:
    """As if `boot_id` were not looked at."""

    def parse(read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda message: (read(message)[0], "b0")

    patch.setattr(follower, "read_speaker", parse(messages.read_speaker))


def ignore_life_before(patch: Patch) -> None:
    """As if a verdict were not held to have left after the sign of life before it."""

    class Fresh(inbox.Arrival):
        def __init__(self, verdict: Verdict, pulse: Pulse, alive_at: float) -> None:
            super().__init__(verdict, pulse, math.inf)

    patch.setattr(follower, "Arrival", Fresh)


def ignore_heartbeat(patch: Patch) -> None:
    ignore_life_before(patch)
    patch.setattr(Pulse, "is_alive", lambda self, now: True)


def ignore_delay(patch: Patch) -> None:
    patch.setattr(Pulse, "compute_age", lambda self, published, now: 0.0 if self._reference is not None else math.inf)


def ignore_lateness(patch: Patch) -> None:
    choose = Follower._choose
    patch.setattr(Follower, "_choose", lambda *arguments, is_late: choose(*arguments, is_late=False))


def ignore_malformed(patch: Patch) -> None:
    patch.setattr(Follower, "_note_malformed", lambda self, error: None)


def ignore_simulated(patch: Patch) -> None:
    take = Follower._take_verdict

    def take_all(self: Follower, *arguments: Any) -> None:
        self._accept_simulated = True
        take(self, *arguments)

    patch.setattr(Follower, "_take_verdict", take_all)


def keep_reference(patch: Patch) -> None:
    """As if the reference never fell."""
    believe = Pulse._believe

    def believe_first(self: Pulse, level: pulse.Level) -> None:
        before = self._reference
        believe(self, level)
        if before is not None and self._reference is not None:
            self._reference = max(before, self._reference)

    patch.setattr(Pulse, "_believe", believe_first)


def trust_levels(late_s: float) -> Callable[[Patch], None]:
    """As if what was heard before did not say how late a level's first status may be."""
    make = pulse.Level

    def build(first: float, lowest: float, since: float, held_at: float, _: float) -> pulse.Level:
        return make(first, lowest, since, held_at, late_s)

    return lambda patch: patch.setattr(pulse, "Level", build)


def drop_contradiction(key: str) -> Callable[[Patch], None]:
    dropped = {"threshold", "score", "margin"} if key == "threshold" else {key}  # the others compare with it

    def drop(patch: Patch) -> None:
        for name in ("_ANY_RULES", "_PASS_RULES"):
            patch.setattr(messages, name, tuple(rule for rule in getattr(messages, name) if rule[0] not in dropped))

    return drop


def make_contradiction(key: str) -> Maker:
    return lambda chance: Faults(contradictions=0.3, contradictory_in=(key,))


Off = Callable[[Patch], None]
RULES: dict[str, tuple[Maker, Off]] = {
    "the delay counts": (make_detour, ignore_delay),
    "what lies unread grows old": (make_block, lambda patch: patch.setattr(Follower, "_find_age", lambda *_: None)),
    "a verdict left after the sign of life before it": (make_block_and_step_back, ignore_life_before),
    "no verdict without a heartbeat": (make_standing, ignore_heartbeat),
    "the lifebit must move": (make_standing, lambda patch: patch.setattr(Pulse, "_has_moved", lambda *_: True)),
    "statuses must come as they were sent": (make_stalled_join, lambda patch: patch.setattr(pulse, "_SPAN_S", 0.0)),
    "what drains shows nothing": (make_stall_in_pieces, lambda patch: patch.setattr(Pulse, "_is_draining", never)),
    "a silence ends what was shown": (
        make_stall_and_equal_step, lambda patch: patch.setattr(pulse, "_QUIET_S", math.inf)),
    "what lay in our queue shows nothing": (
        make_slow_reader, lambda patch: patch.setattr(pulse, "_PROMPT_S", math.inf)),
    "a delay is no step of the clock": (make_detour, trust_levels(0.0)),
    "a step back is no delay": (make_step(-1), trust_levels(math.inf)),
    "a step forward is followed": (make_step(+1), keep_reference),
    "doubt ends after a minute": (make_step_in_silence, lambda patch: patch.setattr(pulse, "_SETTLE_S", math.inf)),
    "one process for one heartbeat": (make_two_processes, ignore_process),
    "two processes are doubt": (make_two_processes, lambda patch: patch.setattr(Speakers, "find_doubt", never)),
    "another station does not count": (make_takeover, lambda patch: patch.setattr(Speakers, "refuses", never)),
    "two stations are doubt where none is named": (
        make_foreign, lambda patch: patch.setattr(Speakers, "find_doubt", never)),
    "the state must be one that judges": (
        make_state, lambda patch: patch.setattr(
            follower, "_PASSING_STATES", {"RUNNING", "STARTING", "STOPPING", "FAULT", "WHATEVER"})),
    "simulated parts do not pass": (with_(simulated=0.3), ignore_simulated),
    "a malformed message is doubt": (with_(garbage=0.3), ignore_malformed),
    "final is final": (make_late_verdicts, lambda patch: patch.setattr(Finals, "holds", never)),
    "ids that belong together are final together": (
        make_late_verdicts, lambda patch: patch.setattr(Finals, "tie", lambda *_: None)),
    "no PASS after the timeout": (make_late_wake, ignore_lateness),
    **{f"contradiction: {key}": (make_contradiction(key), drop_contradiction(key)) for key in CONTRADICTIONS},
}  # fmt: skip
TRIES = 60


def find_fault(make: Maker, seed: int) -> list[str]:
    faults = make(random.Random(seed))
    run = Run(faults, seed).play()
    return run.judge.wrong or (run.unheard if is_well_at_the_end(faults) or faults.duration > 60 else [])


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept_and_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, switch_off = RULES[rule]
    for seed in range(scaled(5, 200)):
        assert find_fault(make, seed) == [], seed
    switch_off(monkeypatch)
    needed_at = next((seed for seed in range(TRIES) if find_fault(make, seed)), None)
    assert needed_at is not None, "no history needs it"
