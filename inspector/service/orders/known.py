"""Triggers by their ids: those that are open, and those that were answered, in this run or in the ones before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inspector.service.orders.matching import Trigger

MAX_KNOWN = 10_000
"""Of all cameras. Beyond them the oldest that is answered is forgotten: its frame is refused, its id is new again."""


class KnownTriggers:
    """Used under the lock of `Triggers`."""

    def __init__(self, is_open: Callable[[int], bool]) -> None:
        """Know none yet; `is_open` says whether the ticket of a number owes its verdict."""
        self._is_open = is_open
        self._by_id: dict[tuple[str, str], Trigger] = {}  # the oldest first

    def remember(self, camera: str, triggers: Iterable[tuple[str, int, bool]]) -> None:
        """Of earlier runs, the oldest first: id, number of the ticket (0: answered), and whether the frame came."""
        for trigger_id, number, has_frame in triggers:
            self.note(Trigger(camera, trigger_id, None, 0, 0, 0, number, has_frame=has_frame, takes_frame=False))

    def note(self, trigger: Trigger) -> None:
        """One is told, or what is known of it is changed."""
        key = trigger.camera, trigger.trigger_id
        self._by_id.pop(key, None)  # the oldest stay first
        self._by_id[key] = trigger
        if len(self._by_id) > MAX_KNOWN:
            oldest = self._by_id.pop(next(iter(self._by_id)))
            if self._is_open(oldest.number):
                self._by_id[oldest.camera, oldest.trigger_id] = oldest

    def find(self, camera: str, trigger_id: str) -> Trigger | None:
        """The last one of this id."""
        return self._by_id.get((camera, trigger_id))

    def is_open(self, camera: str, trigger_id: str) -> bool:
        """Whether the id is one of an open trigger."""
        known = self.find(camera, trigger_id)
        return known is not None and self._is_open(known.number)
