"""Whose word counts: one station's, and of its processes one at a time."""

from __future__ import annotations

import math
from collections import deque

_MAX_KNOWN = 100
"""Processes; one that was forgotten counts as new, and has to establish its heartbeat anew."""


class Speakers:
    """Tells the station's own messages from those of others at the same address.

    Attributes:
        station: whose word counts; the first that speaks where none was named. None: none spoke yet.
        boot_id: of the process whose word counts.
        refused: messages of others.
    """

    def __init__(self, station: str | None, heartbeat_s: float) -> None:
        self.station = station
        self.boot_id: str | None = None
        self.refused = 0
        self._is_named = station is not None
        self._heartbeat_s = heartbeat_s
        self._former: deque[str] = deque(maxlen=_MAX_KNOWN)
        self._told: deque[tuple[str, str]] = deque(maxlen=_MAX_KNOWN)
        self._heard_at = self._disturbed_at = -math.inf
        self._disturbance = ""

    def refuses(self, station: str, boot_id: str, now: float) -> bool:
        """Whether a message does not count, whatever it says.

        A former process is refused, since its messages may be left over, while the present one is heard.
        """
        if self.station not in {None, station}:
            if not self._is_named:
                self._disturb(f"another station also publishes here, {station!r:.80}: name yours with station=", now)
        elif boot_id in self._former and now - self._heard_at <= self._heartbeat_s:
            self._disturb(f"two processes publish as {station!r:.80}", now)
        else:
            return False
        self.refused += 1
        return True

    def accept(self, station: str, boot_id: str, now: float) -> None:
        """A sound message counts: its process takes the place of the one before."""
        self.station, self._heard_at = station, now
        if boot_id == self.boot_id:
            return
        if boot_id in self._former:
            self._former.remove(boot_id)
        if self.boot_id is not None:
            self._former.append(self.boot_id)
        self.boot_id = boot_id

    def _disturb(self, disturbance: str, now: float) -> None:
        self._disturbed_at, self._disturbance = now, disturbance

    def is_told(self, station: str, boot_id: str) -> bool:
        """Whether that this one speaks was told before; from now on it was."""
        if (station, boot_id) in self._told:
            return True
        self._told.append((station, boot_id))
        return False

    def find_doubt(self, now: float) -> str | None:
        """Who else spoke within the last `heartbeat_s`."""
        return self._disturbance if now - self._disturbed_at <= self._heartbeat_s else None
