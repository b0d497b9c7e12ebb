"""The last frames that came without an id, by when they were captured: a late announcement finds its own, or none."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inspector.types import Frame

_KEPT = 1000
"""Of a camera."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that came without an id.

    Attributes:
        number: of its ticket.
    """

    number: int
    frame_id: str
    part_id: str | None
    captured_utc_ns: int


@dataclass(frozen=True, slots=True)
class Attached:
    """A frame that has its trigger now.

    Attributes:
        recorded: set once that is on record.
        judge: has it judged; does not wait.
    """

    recorded: threading.Event
    judge: Callable[[], None]


class Arrivals:
    """Used under the lock of `Triggers`."""

    def __init__(self) -> None:
        self._of: dict[str, deque[Arrival]] = {}

    def note(self, frame: Frame, number: int) -> None:
        """One came, and was accepted under this number; one that does not say when it was captured is nobody's."""
        if frame.trigger_id is None and frame.captured_utc_ns:
            arrival = Arrival(number, frame.frame_id, frame.part_id, frame.captured_utc_ns)
            self._of.setdefault(frame.camera, deque(maxlen=_KEPT)).append(arrival)

    def find(self, camera: str, given_utc_ns: int, within_ms: int, waits: Callable[[int], bool]) -> Arrival | None:
        """The one frame that was captured so soon after a signal and waits; None: none was captured then.

        Raises:
            ValueError: several were, or the one was answered without this trigger.
        """
        last_utc_ns = given_utc_ns + within_ms * 1_000_000
        found = [each for each in self._of.get(camera, ()) if given_utc_ns <= each.captured_utc_ns <= last_utc_ns]
        if len(found) > 1:
            names = ", ".join(each.frame_id for each in found[:3])
            raise ValueError(
                f"camera {camera}: {len(found)} frames were captured within {within_ms} ms of given_utc_ns, "
                f"{names:.99}: which is meant? timeout_ms must be less than the time between two signals"
            )
        if found and not waits(found[0].number):
            raise ValueError(
                f"camera {camera}: frame {found[0].frame_id:.80} was captured then, and is answered already or has its "
                "trigger: announce sooner, or set announce_within_ms"
            )
        return found[0] if found else None
