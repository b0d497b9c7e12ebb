"""The threads that decode compressed frames of all cameras that send to the station."""

from __future__ import annotations

import os

from inspector.config import Station
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.part import Part
from inspector.sources.decoding import Decoding

_FEWEST, _MOST = 2, 4
"""Two even on one core: so one camera's large picture never keeps another's from being begun."""
_IDLE_S = 0.2


class DecoderThread(Part):
    """One of them. A picture that cannot be decoded is a frame without pixels; a fault of this program is a FAULT."""

    def __init__(self, number: int, decoding: Decoding, *, health: Health) -> None:
        super().__init__(f"decoder-{number}", health=health)
        self._decoding = decoding

    def reconfigure(self, station: Station) -> None:
        self._decoding.max_bytes = station.buffer.max_bytes

    def step(self) -> None:
        """Decode one message."""
        self._decoding.work(_IDLE_S)


def build_decoders(max_bytes: int, health: Health) -> tuple[Decoding, list[DecoderThread]]:
    """What they share, and one for each core, within bounds: each may hold a picture; the network needs cores as well.

    Args:
        max_bytes: of what is decoded and not yet accepted.
        health: told of their life and faults.
    """
    decoding = Decoding(min(_MOST, max(_FEWEST, len(os.sched_getaffinity(0)))), max_bytes)
    return decoding, [DecoderThread(number, decoding, health=health) for number in range(1, 1 + decoding.threads)]
