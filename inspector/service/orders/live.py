"""Live pictures of a camera for a while, for people who adjust a lamp or a lens: in any state, never a verdict.

They are made from the last frame of each camera by the thread that draws overlays, when one is due. Nothing waits for
them and nothing is kept for them: a frame that comes between two pictures is not shown. Where a camera that is offline
must be fired, it is fired for the next picture when one is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inspector.config import Station
from inspector.journal.events import Kind
from inspector.service.orders.snapshots import WIDTHS, Snapshots, encode_jpeg
from inspector.types import SCHEMA, Frame

MAX_RATE_HZ, MAX_SECONDS = 5.0, 600.0
_RATE_HZ, _SECONDS, _WIDTH = 2.0, 60.0, 640
_IDLE_S = 0.2


@dataclass(frozen=True, slots=True)
class _Stream:
    """What somebody asked for; times on the monotonic clock."""

    period_s: float
    width: int
    ends: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One to send: what is said of it, and the JPEG."""

    camera: str
    message: dict[str, Any]
    jpeg: bytes


class Live:
    """Asked by the requests thread, looked at by the overlay thread."""

    def __init__(
        self, cameras: Mapping[str, Any], snapshots: Snapshots, *, station: str, note: Callable[..., None]
    ) -> None:
        """`note` puts an event on record, as `Audit.note`."""
        self._cameras = list(cameras)
        self._snapshots = snapshots
        self._station = station
        self._note = note
        self._streams: dict[str, _Stream] = {}
        self._next: dict[str, float] = {}  # when a picture of the camera is due
        self._shown: dict[str, tuple[str, int]] = {}

    def answer(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Show a camera from now on, `rate_hz` times a second at most, for `seconds`; the last request counts.

        Raises:
            ValueError: a field that breaks its rule.
        """
        camera, width = request.get("camera"), request.get("width", _WIDTH)
        if camera not in self._cameras:
            raise ValueError(f"camera: must be one of {self._cameras}, got {camera!r:.80}")
        if type(width) is not int or width not in WIDTHS:
            raise ValueError(f"width: must be a whole number from {WIDTHS[0]} to {WIDTHS[-1]}, got {width!r:.80}")
        rate_hz = _read_number(request, "rate_hz", _RATE_HZ, MAX_RATE_HZ)
        seconds = _read_number(request, "seconds", _SECONDS, MAX_SECONDS)
        name = str(camera)
        self._streams = self._streams | {name: _Stream(1 / rate_hz, width, time.monotonic() + seconds)}
        self._note(Kind.CAMERA, "live", who, name, rate_hz=rate_hz, seconds=seconds)
        return {"camera": name, "rate_hz": rate_hz, "seconds": seconds, "width": width}

    def choose_wait_s(self) -> float:
        """How long nothing is due, a fifth of a second at most."""
        now = time.monotonic()
        due = [self._next.get(name, now) - now for name, stream in self._streams.items() if stream.ends > now]
        return min(_IDLE_S, max(0.01, min(due, default=_IDLE_S)))

    def take_due(self) -> Picture | None:
        """The picture that is due longest, if its camera has a frame that was not shown.

        Raises:
            ValueError: the frame cannot be shown.
        """
        now = time.monotonic()
        due = [
            (self._next.get(name, 0.0), name)
            for name, stream in self._streams.items()
            if stream.ends > now >= self._next.get(name, 0.0)
        ]
        if not due:
            return None
        _, camera = min(due)
        stream = self._streams[camera]
        self._next[camera] = now + stream.period_s
        frame = self._snapshots.last(camera)
        self._snapshots.renew(camera, frame)
        if frame is None or self._shown.get(camera) == (shown := (frame.frame_id, frame.received_monotonic_ns)):
            return None
        self._shown[camera] = shown
        return Picture(camera, self._describe(frame, stream.ends - now), encode_jpeg(frame, stream.width))

    def _describe(self, frame: Frame, left_s: float) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "station": self._station,
            "camera": frame.camera,
            "frame_id": frame.frame_id,
            "captured_utc_ns": frame.captured_utc_ns,
            "received_utc_ns": frame.received_utc_ns,
            "left_s": round(left_s, 1),
        }

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force."""
        self._cameras = list(station.cameras)


def _read_number(request: Mapping[str, Any], key: str, default: float, most: float) -> float:
    value = request.get(key, default)
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= most:
        raise ValueError(f"{key}: must be a number above 0, up to {most:g}, got {value!r:.80}")
    return float(value)
