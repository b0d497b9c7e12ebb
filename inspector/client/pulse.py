"""Whether one process of a station lives, and how old its messages are. No clock: each call is told the time.

The clocks of station and subscriber are never compared. A message's *offset* is its arrival here, on the monotonic
clock, minus its `published_utc_ns`. The lowest offset seen lately, the *reference*, is taken for "no delay"; what a
message exceeds it by is its delay. A reference is believed only where statuses show it that arrived spaced as they were
sent, on an empty queue: what a stalled link hands over all at once shows none.

The station's wall clock may step. Forward, offsets fall, and a new reference has to be shown. Backward, all looks late.
But a message left after the one before it, so its delay is at most the time since then: the rest is the clock's step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_JITTER_S = 0.1
"""Offsets this close to each other are the same."""
_SPAN_S = 0.5
"""For so long statuses must arrive spaced as they were sent before their offset is believed."""
_SETTLE_S = 60.0
"""For so long before a higher offset, which a delay explains as well as a clock, is believed."""
_PROMPT_S = 0.25
"""What can have lain in our own queue for longer shows nothing."""
_QUIET_S = 0.75
"""At least; a status comes every 0.4 s. After a longer silence what was believed has to be shown anew."""


@dataclass(slots=True)
class Level:
    """Statuses with about the same offset, one after the other.

    Attributes:
        first, lowest: their offsets, in seconds.
        since, held_at: when the first and the last of them arrived.
        late_s: the longest that the first can have been under way: it left after the last sign of life before it.
    """

    first: float
    lowest: float
    since: float
    held_at: float
    late_s: float

    @property
    def held_s(self) -> float:
        """For how long it has been shown."""
        return self.held_at - self.since


class Pulse:
    """The signs of life of one process. All times are in seconds, on the local monotonic clock.

    Attributes:
        alive_at: when the newest sign of life was published, or before; minus infinity where there is none.
    """

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._quiet_s = max(heartbeat_s / 2, _QUIET_S)
        self._lifebit: int | None = None
        self._heard_at = self._moved_at = self._shown_at = self.alive_at = -math.inf
        self._offset = -math.inf  # of the status before
        self._reference: float | None = None
        self._level: Level | None = None
        self._rising: Level | None = None  # statuses that come later than the level says, none in time between them

    def is_alive(self, now: float) -> bool:
        """Whether a sign of life was published within the last `heartbeat_s`."""
        return now - self.alive_at <= self._heartbeat_s

    def explain_silence(self, now: float) -> str:
        """Why the station is not considered alive."""
        if now - self._heard_at > self._heartbeat_s:
            return "no status"
        if now - self._moved_at > self._heartbeat_s:
            return "the lifebit does not change"
        return "its status messages arrive too late, or have not been on time for long enough yet"

    def compute_age(self, published_utc_s: float, now: float) -> float:
        """How long ago a message was published; infinite where that cannot be told."""
        return math.inf if self._reference is None else max(0.0, now - published_utc_s - self._reference)

    def take_status(self, published_utc_s: float, lifebit: int, now: float, queued_s: float) -> bool:
        """A status was read; False where it is out of order, an old one.

        Args:
            published_utc_s: the station's wall clock when it left.
            lifebit: the station's; it moves while the station makes progress.
            now: when it was read.
            queued_s: the longest it can have waited in our queue: since that was last seen empty.
        """
        self._heard_at = now
        if self._lifebit is not None and lifebit < self._lifebit:
            return False
        has_moved = self._has_moved(lifebit)
        self._lifebit = lifebit
        if has_moved:
            self._moved_at = now
        if queued_s <= _PROMPT_S:
            self._take_prompt(published_utc_s, now, has_moved=has_moved)
        return True

    def _has_moved(self, lifebit: int) -> bool:
        return lifebit != self._lifebit

    def _take_prompt(self, published_utc_s: float, now: float, *, has_moved: bool) -> None:
        offset = now - published_utc_s
        shown_s = self._follow(offset, now)
        is_shown = shown_s >= _SPAN_S or now - self._shown_at <= self._quiet_s
        if has_moved and is_shown and self._reference is not None and offset >= self._reference - _JITTER_S:
            self._shown_at = now
            self.alive_at = max(self.alive_at, now - self.compute_age(published_utc_s, now))

    def _follow(self, offset: float, now: float) -> float:
        """Note an offset; for how long it has been shown."""
        is_draining = self._is_draining(offset)
        self._offset = offset
        level = next((each for each in (self._level, self._rising) if self._fits(each, offset, now)), None)
        if level is None:
            level = Level(offset, offset, now, now, now - self.alive_at)
        elif is_draining:
            return 0.0
        level.held_at, level.lowest = now, min(level.lowest, offset)
        if level is not self._level and level.held_s < _SPAN_S and self._is_late(offset, now):
            self._rising = level
            return 0.0
        self._level, self._rising = level, None
        self._believe(level)
        return level.held_s

    def _is_draining(self, offset: float) -> bool:
        """Whether the status before came late: a backlog may be handed over, a piece at a time."""
        return offset < self._offset - _JITTER_S

    def _fits(self, level: Level | None, offset: float, now: float) -> bool:
        return level is not None and now - level.held_at <= self._quiet_s and abs(offset - level.first) <= _JITTER_S

    def _is_late(self, offset: float, now: float) -> bool:
        """Whether it comes later than the level says, which was held not long ago: one that lags, or a new level."""
        level = self._level
        return level is not None and now - level.held_at <= self._quiet_s and offset > level.first

    def _believe(self, level: Level) -> None:
        """Take a level's offset for the reference; one that is higher only as far as no delay can explain it."""
        if level.held_s < _SPAN_S:
            return
        if self._reference is None or level.lowest < self._reference or level.held_s >= _SETTLE_S:
            self._reference = level.lowest
        else:
            self._reference = max(self._reference, level.lowest - level.late_s)
