"""The status: who speaks, how the station is, and each camera's last result for those who join late."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inspector.service.telemetry.health import Health
from inspector.types import SCHEMA, Result


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks."""

    station: str
    boot_id: str


class StatusBoard:
    """What the status message says. Results are noted by one thread; any may have it built."""

    def __init__(
        self,
        identity: Identity,
        cameras: Iterable[str],
        *,
        last_seqs: Mapping[str, int],
        last_results: Mapping[str, Mapping[str, Any]],
        queue_depth: Callable[[], int],
        more: Callable[[], Mapping[str, Any]],
        health: Health,
    ) -> None:
        """Make it.

        Args:
            identity: who speaks.
            cameras: those of the station; others may have results from before.
            last_seqs, last_results: each camera's on record, as on the wire.
            queue_depth: frames that wait for the device.
            more: what others add.
            health: of the station.
        """
        self._identity = identity
        # A counter: a frame left open may be of a camera that this station no longer has.
        self._sent = Counter(dict.fromkeys(cameras, 0) | dict(last_seqs))
        self._last = {camera: _compact(result) for camera, result in last_results.items()}
        self._queue_depth = queue_depth
        self._more = more
        self._health = health

    def note(self, result: Result, wire: Mapping[str, Any]) -> None:
        """A result was sent; one answered at its deadline may have overtaken another."""
        if result.seq > self._sent[result.camera]:
            self._sent[result.camera] = result.seq
            self._last[result.camera] = _compact(wire)

    def build(self) -> dict[str, Any]:
        """The message, with each camera's last result less its regions."""
        return {
            "schema": SCHEMA,
            "station": self._identity.station,
            "boot_id": self._identity.boot_id,
            "state": self._health.state.value,
            "lifebit": self._health.lifebit,
            "last_seq": dict(self._sent),
            "last_result": dict(self._last),
            "queue_depth": self._queue_depth(),
            "last_error": self._health.last_error,
            "published_utc_ns": time.time_ns(),
            **self._more(),
        }


def _compact(wire: Mapping[str, Any]) -> dict[str, Any]:
    return {**wire, "regions": [], "replay": True}
