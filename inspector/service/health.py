"""State of the station and progress of its threads. /live, /ready, the status topic and the watchdog read it."""

from __future__ import annotations

import threading
import time
from enum import StrEnum


class State(StrEnum):
    """What the station as a whole is doing."""

    STARTING = "STARTING"
    READY = "READY"
    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    FAULT = "FAULT"
    STOPPING = "STOPPING"


class Health:
    """Threads beat while they make progress or wait for work; a beat that stays away is a stall."""

    def __init__(self, stall_after_s: float = 20.0) -> None:
        self._stall_after_s = stall_after_s
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._phase = State.STARTING
        self.last_error: str | None = None
        self.lifebit = 0

    @property
    def state(self) -> State:
        """FAULT and STOPPING stay; problems make a running station DEGRADED."""
        with self._lock:
            if self._phase in {State.READY, State.RUNNING} and self._problems:
                return State.DEGRADED
            return self._phase

    def enter(self, state: State) -> None:
        """Go on to `state`; FAULT is never left, STOPPING only for FAULT."""
        with self._lock:
            if self._phase is State.FAULT or (self._phase is State.STOPPING and state is not State.FAULT):
                return
            self._phase = state

    def fault(self, component: str, message: str) -> None:
        """A fault only a restart mends."""
        self.report(component, message)
        self.enter(State.FAULT)

    def report(self, component: str, problem: str | None) -> None:
        """A component's problem, or None where it is well again."""
        with self._lock:
            if problem is None:
                self._problems.pop(component, None)
            else:
                self._problems[component] = problem
                self.last_error = f"{component}: {problem}"

    def beat(self, component: str) -> None:
        """The component made progress, or is idle with nothing to do."""
        self._beats[component] = time.monotonic()

    def forget(self, component: str) -> None:
        """The component ended as it should."""
        self._beats.pop(component, None)

    def stalled(self) -> list[str]:
        """Components whose last beat is too old."""
        oldest = time.monotonic() - self._stall_after_s
        return [name for name, beat in list(self._beats.items()) if beat < oldest]

    def tick(self) -> bool:
        """Move the lifebit if all is moving; False where something stalls or is at fault."""
        if self.stalled() or self.state is State.FAULT:
            return False
        self.lifebit += 1
        return True

    def live(self) -> tuple[bool, str]:
        """Whether the process is worth keeping, and why not."""
        stalled = self.stalled()
        if stalled:
            return False, f"no progress: {', '.join(stalled)}"
        return self.state is not State.FAULT, self._explain()

    def ready(self) -> tuple[bool, str]:
        """Whether a frame sent now would be judged, and which component is at fault if not."""
        stalled = self.stalled()
        if stalled:
            return False, f"no progress: {', '.join(stalled)}"
        return self.state in {State.READY, State.RUNNING}, self._explain()

    def _explain(self) -> str:
        with self._lock:
            problems = "; ".join(f"{name}: {problem}" for name, problem in sorted(self._problems.items()))
        return f"{self.state.value}{': ' if problems else ''}{problems}"
