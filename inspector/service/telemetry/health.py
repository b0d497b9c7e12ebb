"""State of the station and progress of its threads. /live, /ready, the status topic and the watchdog read it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from inspector.service.telemetry.rate_limit import RateLimitedLog

logger = logging.getLogger(__name__)


class State(StrEnum):
    """What the station as a whole is doing."""

    STARTING = "STARTING"
    READY = "READY"
    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    FAULT = "FAULT"
    STOPPING = "STOPPING"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.FAULT, State.STOPPING}),
    State.READY: frozenset({State.RUNNING, State.DEGRADED, State.FAULT, State.STOPPING}),
    State.RUNNING: frozenset({State.DEGRADED, State.FAULT, State.STOPPING}),
    State.DEGRADED: frozenset({State.READY, State.RUNNING, State.FAULT, State.STOPPING}),
    State.STOPPING: frozenset({State.FAULT}),
    State.FAULT: frozenset(),  # only a restart mends it, so that no one can talk it away
}
"""From each state, where it may go. READY: no frame yet; idle is healthy in READY and RUNNING alike."""

_LEVELS = {State.DEGRADED: logging.WARNING, State.FAULT: logging.ERROR}
_BURST = 10
"""Changes of state that are logged within a period; a connection that comes and goes must not fill the log."""
_FROZEN_S = 2.0
"""Ticks this far apart: the process itself stood still (stopped, starved), not its threads."""


class Health:
    """Threads beat while they make progress or wait for work; a beat that stays away is a stall."""

    def __init__(self, stall_after_s: float = 20.0) -> None:
        self._stall_after_s = stall_after_s
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}  # component → the instant by which its next beat is due
        self._problems: dict[str, str] = {}
        self._minor: set[str] = set()  # components whose stall costs pictures, no verdicts
        self._blocking: set[str] = set()  # components whose problem keeps frames from being judged
        self._state = State.STARTING
        self._well = State.READY  # where DEGRADED returns to
        self._ticked: float | None = None
        self._untold: deque[tuple[State, State, str]] = deque()  # changes not logged yet: from, to, why
        self._telling = threading.Lock()  # guards the log, which may be slow; never taken together with the other
        self._log = RateLimitedLog(logger, burst=_BURST)
        self.last_error: str | None = None
        self.lifebit = 0

    @property
    def state(self) -> State:
        """Where the station is in `TRANSITIONS`."""
        return self._state

    def enter(self, state: State, why: str = "") -> bool:
        """Go on to `state` if that is allowed; False where it is not, and nothing happens. `why` is for the log."""
        with self._lock:
            entered = self._enter(state, why)
        self._tell()
        return entered

    def _enter(self, state: State, why: str) -> bool:
        if state is self._state:
            return True
        if state in {State.READY, State.RUNNING} and self._state in {State.STARTING, State.READY, State.DEGRADED}:
            self._well = state
            if self._problems and self._state is State.DEGRADED:
                return True  # once the problems are gone
        if state not in TRANSITIONS[self._state]:
            return False
        self._move(state, why)
        self._settle("")
        return True

    def _settle(self, why: str) -> None:
        """DEGRADED exactly while there are problems; other states do not depend on them."""
        if self._problems and self._state in {State.READY, State.RUNNING}:
            self._move(State.DEGRADED, why or self._list_problems())
        elif not self._problems and self._state is State.DEGRADED:
            self._move(self._well, why)

    def _move(self, state: State, why: str) -> None:
        self._untold.append((self._state, state, why))
        self._state = state

    def _tell(self) -> None:
        """Log each change of state once, in order; by whoever comes first, none waits for the log with the lock."""
        if not self._untold:
            return
        with self._telling:
            while self._untold:
                before, after, why = self._untold.popleft()
                message = f"state {before.value} → {after.value}{f': {why}' if why else ''}"
                fields: dict[str, Any] = {"from": before.value, "to": after.value, "why": why}
                self._log.log(_LEVELS.get(after, logging.INFO), "state", message, **fields)
                if after in {State.STOPPING, State.FAULT}:
                    self._log.flush()

    def fault(self, component: str, message: str) -> None:
        """Report a fault that only a restart clears."""
        with self._lock:
            self._note(component, message, blocks=True)
            self._enter(State.FAULT, f"{component}: {message}")
        self._tell()

    def report(self, component: str, problem: str | None, *, blocks: bool = True) -> None:
        """A component's problem, or None where it is well again; frames are judged all the same unless it `blocks`."""
        with self._lock:
            self._note(component, problem, blocks=blocks)
            self._settle(f"{component}: {problem or 'recovered'}")
        self._tell()

    def _note(self, component: str, problem: str | None, *, blocks: bool) -> None:
        self._blocking.discard(component)
        if problem is None:
            self._problems.pop(component, None)
            return
        self._problems[component] = problem
        if blocks:
            self._blocking.add(component)
        self.last_error = f"{component}: {problem}"

    def problem(self, component: str) -> str | None:
        """The component's current problem, or None."""
        return self._problems.get(component)

    def beat(self, component: str, within_s: float = 0.0, *, vital: bool = True) -> None:
        """The component made progress, or is idle with nothing to do; the next beat may take `within_s` longer.

        A stall of one that is not `vital` makes the station DEGRADED, and no more.
        """
        if not vital:
            self._minor.add(component)
        self._beats[component] = time.monotonic() + self._stall_after_s + within_s

    def forget(self, component: str) -> None:
        """Stop watching a component that has finished normally."""
        self._beats.pop(component, None)

    def stalled(self) -> list[str]:
        """Vital components whose next beat is overdue."""
        return [name for name in self._overdue() if name not in self._minor]

    def _overdue(self) -> list[str]:
        now = time.monotonic()
        return [name for name, due in list(self._beats.items()) if due < now]

    def tick(self) -> bool:
        """Move the lifebit if all is moving; False where something stalls or is at fault. Called by one thread."""
        now = time.monotonic()
        before, self._ticked = self._ticked, now
        if before is not None and now - before > _FROZEN_S:
            for name, due in list(self._beats.items()):
                self._beats[name] = due + (now - before)
        for name in list(self._minor):
            self.report(f"{name} thread", "no progress" if name in self._overdue() else None, blocks=False)
        with self._telling:
            self._log.flush_due()
        if self.stalled() or self._state is State.FAULT:
            return False
        self.lifebit += 1
        return True

    def live(self) -> tuple[bool, str]:
        """Whether the process is worth keeping, and why not."""
        stalled = self.stalled()
        if stalled:
            return False, f"no progress: {', '.join(stalled)}"
        return self._state is not State.FAULT, self._explain()

    def ready(self) -> tuple[bool, str]:
        """Whether a frame sent now would be judged, and which component is at fault if not."""
        stalled = self.stalled()
        if stalled:
            return False, f"no progress: {', '.join(stalled)}"
        well = self._state in {State.READY, State.RUNNING}
        return well or (self._state is State.DEGRADED and not self._blocking), self._explain()

    def _explain(self) -> str:
        with self._lock:
            problems = self._list_problems()
        return f"{self._state.value}{': ' if problems else ''}{problems}"

    def _list_problems(self) -> str:
        return "; ".join(f"{name}: {problem}" for name, problem in sorted(self._problems.items()))
