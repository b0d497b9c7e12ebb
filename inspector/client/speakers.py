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

    def admit(self, station: str, boot_id: str, now: float) -> bool:
        """Whether a message's word counts. A process never heard before takes the place of the former."""
        self.station = self.station or station
        if station != self.station:
            self.refused += 1
            if not self._is_named:
                self._disturb(f"another station speaks here, {station!r:.80}: name yours by station=", now)
            return False
        if boot_id != self.boot_id and not self._takes_over(boot_id, now):
            self.refused += 1
            self._disturb(f"two processes speak as {station!r:.80}", now)
            return False
        self._heard_at = now
        return True

    def _takes_over(self, boot_id: str, now: float) -> bool:
        """A former process, whose messages may be left over, does so only where the present one is silent."""
        if boot_id in self._former:
            if now - self._heard_at <= self._heartbeat_s:
                return False
            self._former.remove(boot_id)
        if self.boot_id is not None:
            self._former.append(self.boot_id)
        self.boot_id = boot_id
        return True

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
