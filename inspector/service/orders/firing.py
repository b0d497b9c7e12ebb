"""What the program of a camera that is fired is told; and pictures of one that is offline, for people who adjust it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from inspector.config import Camera, Station
from inspector.service.orders.offline import Offline
from inspector.sources.base import RUN
from inspector.types import SCHEMA, Frame

Fire = Callable[[str, Mapping[str, Any], int], None]
"""Has a camera take a frame, as a message for its program says, but not after an instant (monotonic, ns)."""
PICTURE_PREFIX = "picture-"
"""Begins the ids that the station fires an offline camera with."""
_SOON_NS = 200_000_000
"""How long a camera may be busy before it is not fired for a picture: none shall wait when it is back online."""


def build_message(
    station: str, camera: str, trigger_id: str, part_id: str | None, *, timeout_ms: int, told_utc_ns: int
) -> dict[str, Any]:
    """What goes out under `trigger/CAMERA`."""
    return {
        "schema": SCHEMA,
        "station": station,
        "camera": camera,
        "trigger_id": trigger_id,
        "part_id": part_id,
        "timeout_ms": timeout_ms,
        "told_utc_ns": told_utc_ns,
    }


_LONGEST_NS = 10_000_000_000
"""How long a camera program may take for a picture; `deadline_ms` is the time that judging may take."""


class OfflinePictures:
    """Fires cameras that take no frame by themselves, and no trigger of anyone's while they are offline.

    The id that it fires with is no trigger's: it is never opened. So the frame is a frame more, with one verdict of its
    own and without an id: OFFLINE; TRIGGER_MISMATCH where it is captured after the camera is back online. It is never
    judged.
    """

    def __init__(self, cameras: Mapping[str, Camera], offline: Offline, fire: Fire, *, station: str) -> None:
        """`cameras` of the station file, whose name `station` is; `fire` must not wait."""
        self._cameras = cameras
        self._offline = offline
        self._fire = fire
        self._station = station
        self._numbers = itertools.count(1)
        self._waits: dict[str, tuple[int, int]] = {}  # what was there when one was asked for, and until when (ns)

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force."""
        self._cameras = station.cameras

    def ask(self, camera: str, last: Frame | None) -> None:
        """Have the camera take a frame, from any thread; nothing where it is online, or not fired by the station.

        One at a time: while the frame asked for before may still come, which is when `last` is as it was, none is
        asked for. So a slow program has no more than one to do when its camera is back online.
        """
        settings = self._cameras.get(camera)
        if settings is None or settings.triggers != "software" or not self._offline.is_offline(camera):
            return
        came_ns, now_ns = 0 if last is None else last.received_monotonic_ns, time.monotonic_ns()
        asked_at_ns, until_ns = self._waits.get(camera, (-1, 0))
        if came_ns == asked_at_ns and now_ns < until_ns:
            return
        self._waits[camera] = came_ns, now_ns + max(settings.deadline_ms * 1_000_000, _LONGEST_NS)
        trigger_id = f"{PICTURE_PREFIX}{RUN}-{next(self._numbers)}"
        times = {"timeout_ms": settings.deadline_ms, "told_utc_ns": time.time_ns()}
        message = build_message(self._station, camera, trigger_id, None, **times)
        self._fire(camera, message, now_ns + _SOON_NS)
