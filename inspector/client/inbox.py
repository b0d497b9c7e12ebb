"""Events that wait for the user, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inspector.client.events import Event, Verdict
from inspector.client.finals import Ids
from inspector.client.pulse import Pulse

_MAX_EVENTS = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A verdict that waits for the user.

    Attributes:
        verdict: its `doubt` is what spoke against it when it came.
        pulse: of the process that it is from.
        alive_at: that pulse's newest sign of life when it came: it left after that.
    """

    verdict: Verdict
    pulse: Pulse
    alive_at: float

    @property
    def ids(self) -> Ids:
        """The frame's id, part id and trigger id."""
        return self.verdict.frame_id, self.verdict.part_id, self.verdict.trigger_id

    def is_of(self, camera: str, ids: Ids) -> bool:
        """Whether it is about the frame that has all ids given."""
        return self.verdict.camera == camera and all(
            wanted in {None, given} for wanted, given in zip(ids, self.ids, strict=True)
        )


Item = Event | Arrival
"""Every verdict is in an `Arrival`."""


class Inbox:
    """First in, first out; where it is full the oldest item is dropped.

    Attributes:
        dropped: items that nobody fetched in time.
    """

    def __init__(self, on_drop: Callable[[Item], None]) -> None:
        """Start empty; `on_drop` is handed what is dropped."""
        self._items: deque[Item] = deque()
        self._on_drop = on_drop
        self.dropped = 0

    @property
    def has_room(self) -> bool:
        """Whether it is less than half full."""
        return len(self._items) < _MAX_EVENTS // 2

    def put(self, item: Item) -> None:
        """Add an item; if the inbox is full, the oldest one is dropped."""
        if len(self._items) >= _MAX_EVENTS:
            self.dropped += 1
            self._on_drop(self._items.popleft())
        self._items.append(item)

    def take_next(self) -> Item | None:
        """Remove and return the oldest item; None if there is none."""
        return self._items.popleft() if self._items else None

    def take_of(self, camera: str, ids: Ids) -> list[Arrival]:
        """All verdicts on the frame that has all ids given."""
        found = [item for item in self._items if isinstance(item, Arrival) and item.is_of(camera, ids)]
        for arrival in found:
            self._items.remove(arrival)
        return found
