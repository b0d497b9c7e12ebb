"""Verdicts at half load, undisturbed and while another recipe is compiled and switched to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from inspector.client import Requester

_POLL_S = 0.2
_SLICE_MS = 20


class Line(Protocol):
    """A station, one camera of which is fed."""

    camera: str
    requests: str

    def send(self, frame_id: str, frame: Any) -> None:
        """Send it."""

    def receive(self, timeout_ms: int) -> dict[str, Any] | None:
        """The next result, if it comes in time."""


def pace(line: Line, frames: Sequence[Any], period_s: float, goes_on: Callable[[], bool]) -> list[float]:
    """A frame each `period_s` as long as it goes on; milliseconds from when each was due until its verdict came.

    From when it was due: a frame that could not be sent in time has waited as well.
    """
    due: dict[str, float] = {}
    waits: list[float] = []
    began = time.monotonic()
    while goes_on() or len(waits) < len(due):
        next_s = began + len(due) * period_s
        if goes_on() and time.monotonic() >= next_s:
            frame_id = f"{began:.6f}-{len(due)}"
            due[frame_id] = next_s
            line.send(frame_id, frames[len(due) % len(frames)])
        elif (result := line.receive(_SLICE_MS if not goes_on() else min(_SLICE_MS, _until_ms(next_s)))) is not None:
            waits.append((time.monotonic() - due[result["frame_id"]]) * 1e3)
    return waits


def _until_ms(instant_s: float) -> int:
    return max(0, int((instant_s - time.monotonic()) * 1e3))


class Switch(threading.Thread):
    """Has a recipe prepared, and switches to it; what went wrong is in `error`."""

    def __init__(self, line: Line, recipe: Path) -> None:
        super().__init__(name="switch", daemon=True)
        self._line = line
        self._recipe = recipe
        self.prepared_s = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        """Prepare, wait, switch."""
        try:
            with Requester(self._line.requests) as requester:
                self._switch(requester)
        except Exception as error:  # noqa: BLE001 (told by the main thread)
            self.error = error

    def _switch(self, requester: Requester) -> None:
        camera, began = self._line.camera, time.monotonic()
        asked = requester.ask("recipe", action="prepare", camera=camera, recipe=str(self._recipe))["id"]
        while (state := self._find_state(requester)) == "preparing":
            time.sleep(_POLL_S)
        if state != "prepared":
            raise RuntimeError(f"the recipe was {state}")
        self.prepared_s = time.monotonic() - began
        requester.ask("recipe", action="switch", camera=camera, id=asked)

    def _find_state(self, requester: Requester) -> str:
        status = requester.ask("recipe", action="status")
        return str(status["last_switch"][self._line.camera]["state"])


def compare_switch(line: Line, frames: Sequence[Any], period_s: float, recipe: Path, seconds: float) -> dict[str, Any]:
    """p50 and p99 (ms) undisturbed for so many seconds and then from the request until the switch, and their ratio."""
    end = time.monotonic() + seconds
    waits = {"undisturbed": pace(line, frames, period_s, lambda: time.monotonic() < end)}
    switch = Switch(line, recipe)
    switch.start()
    waits["switching"] = pace(line, frames, period_s, switch.is_alive)
    if switch.error is not None:
        raise SystemExit(f"the switch failed: {switch.error}")
    quantiles = {name: np.quantile(of, (0.5, 0.99)).tolist() for name, of in waits.items()}
    return {
        "period_ms": period_s * 1e3,
        "prepared_s": switch.prepared_s,
        "frames": {name: len(of) for name, of in waits.items()},
        "ms": quantiles,
        "p99_ratio": quantiles["switching"][1] / quantiles["undisturbed"][1],
    }
