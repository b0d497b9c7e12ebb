"""Triggers that were told to the station: each is owed one verdict, that of its frame, or ERROR NO_FRAME.

A frame is its trigger's by the id it carries; where the hardware gives none, by the one announcement that is open and
the time of capture. Whatever cannot be told is refused, never guessed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from inspector.config import Camera, Station
from inspector.service.orders.offline import Offline
from inspector.sources.base import build_frame
from inspector.sources.wire import MAX_TEXT, read_text
from inspector.types import SCHEMA, Frame, PixelFormat

_MAX_OPEN = 1000
"""Of a camera; more are refused."""
_MAX_KNOWN = 10_000
"""Ids that are remembered, those of answered triggers included."""
_MAX_TIMEOUT_MS = 600_000
_RECORD_S = 1.0
"""How long who asks waits for the disk at most."""


class Tickets(Protocol):
    """What is open, by number: see `Ledger`."""

    def is_open_number(self, number: int) -> bool:
        """Whether a verdict is owed."""

    def awaits_frame(self, number: int) -> bool:
        """Whether it is a trigger, open, whose frame has not come."""

    def count_triggers(self, camera: str) -> int:
        """How many triggers of a camera are open."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One that was told.

    Attributes:
        number: of its ticket.
        is_reused: its id is one that a trigger had before: a frame of that one may still come.
    """

    camera: str
    trigger_id: str
    part_id: str | None
    told_utc_ns: int
    number: int
    is_reused: bool


@dataclass(frozen=True, slots=True)
class Match:
    """Whose a frame is.

    Attributes:
        frame: with the ids it is answered with.
        number: of the trigger's ticket; None: it is no trigger's.
        refusal: why it is not judged; None: it is.
    """

    frame: Frame
    number: int | None = None
    refusal: str | None = None


class Triggers:
    """Opened by the requests thread, matched by the ingest threads."""

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        tickets: Tickets,
        *,
        station: str,
        offline: Offline,
        open_ticket: Callable[[Frame, int], tuple[int, threading.Event]],
        fire: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """Make it.

        Args:
            cameras: of the station file.
            tickets: what is open.
            station: its name.
            offline: whose cameras take no triggers.
            open_ticket: has a trigger owed a verdict, within so many milliseconds; its number, and what is set once
                that is on record.
            fire: sends a message to camera programs, under a topic; must not wait.
        """
        self._cameras = cameras
        self._tickets = tickets
        self._station = station
        self._offline = offline
        self._open_ticket = open_ticket
        self._fire = fire
        self._lock = threading.Lock()  # guards all below
        self._known: dict[tuple[str, str], Trigger] = {}  # the oldest first
        self._last: dict[str, Trigger] = {}
        self._is_closed = False

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force."""
        self._cameras = station.cameras

    # ------------------------------------------------------------ requests

    def answer_trigger(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Open a trigger and fire its camera.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        trigger, timeout_ms = self._open(request, "software")
        message = {
            "schema": SCHEMA,
            "station": self._station,
            "camera": trigger.camera,
            "trigger_id": trigger.trigger_id,
            "part_id": trigger.part_id,
            "timeout_ms": timeout_ms,
            "told_utc_ns": trigger.told_utc_ns,
        }
        self._fire(f"trigger/{trigger.camera}", message)
        return _describe(trigger, timeout_ms)

    def answer_announce(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Open a trigger that the hardware is about to give.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        return _describe(*self._open(request, "hardware"))

    def close(self) -> None:
        """Open no more: the station stops."""
        with self._lock:
            self._is_closed = True

    def _open(self, request: Mapping[str, Any], kind: str) -> tuple[Trigger, int]:
        camera = self._read_camera(request.get("camera"), kind)
        trigger_id = _read_id(request, "trigger_id")
        part_id = None if request.get("part_id") is None else _read_id(request, "part_id")
        by_default = min(self._cameras[camera].deadline_ms, _MAX_TIMEOUT_MS)
        timeout_ms = request.get("timeout_ms", by_default)
        if type(timeout_ms) is not int or not 1 <= timeout_ms <= _MAX_TIMEOUT_MS:
            raise ValueError(f"timeout_ms: must be a whole number from 1 to {_MAX_TIMEOUT_MS}, got {timeout_ms!r:.80}")
        placeholder = build_frame(
            camera, f"trigger-{trigger_id}", None, PixelFormat.MONO8,
            part_id=part_id, trigger_id=trigger_id, simulated=self._cameras[camera].simulated,
        )  # fmt: skip
        with self._lock:
            self._refuse_open(camera, trigger_id, kind)
            number, recorded = self._open_ticket(placeholder, timeout_ms)
            key = camera, trigger_id
            is_reused = self._known.pop(key, None) is not None
            trigger = Trigger(camera, trigger_id, part_id, placeholder.received_utc_ns, number, is_reused)
            self._known[key] = self._last[camera] = trigger
            self._forget_oldest()
        if not recorded.wait(_RECORD_S):
            raise ValueError("not on record: the journal could not be written in time; the trigger is answered ERROR")
        return trigger, timeout_ms

    def _read_camera(self, camera: object, kind: str) -> str:
        if camera not in list(self._cameras):  # a list: others also ask for what cannot be hashed
            raise ValueError(f"camera: must be one of {list(self._cameras)}, got {camera!r:.80}")
        name = str(camera)
        if self._cameras[name].triggers != kind:
            raise ValueError(
                f"camera {name}: cameras.{name}.triggers must be {kind} in the station file, "
                f"is {self._cameras[name].triggers or 'null'}"
            )
        if self._offline.is_offline(name):
            raise ValueError(f"camera {name}: offline, takes no triggers")
        return name

    def _refuse_open(self, camera: str, trigger_id: str, kind: str) -> None:
        if self._is_closed:
            raise ValueError("SHUTDOWN: the station stops")
        known, last = self._known.get((camera, trigger_id)), self._last.get(camera)
        if known is not None and self._tickets.is_open_number(known.number):
            raise ValueError(f"trigger_id: {trigger_id!r:.80} of camera {camera} is open already")
        if kind == "hardware" and last is not None and self._tickets.awaits_frame(last.number):
            raise ValueError(f"camera {camera}: trigger {last.trigger_id!r:.80} still waits for its frame")
        if self._tickets.count_triggers(camera) >= _MAX_OPEN:
            raise ValueError(f"camera {camera}: at most {_MAX_OPEN} triggers may be open")

    def _forget_oldest(self) -> None:
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]  # no open one: there are far fewer

    # ------------------------------------------------------------ frames

    def match(self, frame: Frame) -> Match:
        """Whose a frame is that has just come; of a camera without `triggers` it is its own, whatever it says."""
        kind = self._cameras[frame.camera].triggers if frame.camera in self._cameras else None
        if kind is None:
            return Match(frame)
        with self._lock:
            if frame.trigger_id is not None:
                trigger = self._known.get((frame.camera, frame.trigger_id))
            elif kind == "hardware":
                trigger = self._last.get(frame.camera)
            else:
                return Match(frame)
        if trigger is None or not self._tickets.awaits_frame(trigger.number):
            return self.refuse(frame)
        return _match(frame, trigger)

    def refuse(self, frame: Frame) -> Match:
        """A frame of a trigger that is not open: answered without the id, whose one verdict is another."""
        if frame.trigger_id is None:
            return Match(frame, refusal="no trigger is announced that waits for a frame")
        why = f"trigger {frame.trigger_id!r:.80} is not open: never told, answered already, or it has its frame"
        return Match(replace(frame, trigger_id=None), refusal=why)


def _match(frame: Frame, trigger: Trigger) -> Match:
    is_by_order = frame.trigger_id is None
    if is_by_order and not frame.captured_utc_ns:
        return Match(frame, refusal="whose trigger it is cannot be told: no trigger_id, and no captured_utc_ns")
    if (is_by_order or trigger.is_reused) and frame.captured_utc_ns and frame.captured_utc_ns < trigger.told_utc_ns:
        why = f"captured before trigger {trigger.trigger_id!r:.80} was told"
        return Match(replace(frame, trigger_id=None), refusal=why)
    ours = replace(frame, trigger_id=trigger.trigger_id, part_id=trigger.part_id or frame.part_id)
    if trigger.part_id is not None and frame.part_id not in (None, trigger.part_id):
        why = f"part_id: must be the trigger's, {trigger.part_id!r:.80}, got {frame.part_id!r:.80}"
        return Match(ours, trigger.number, why)
    return Match(ours, trigger.number)


def _read_id(request: Mapping[str, Any], key: str) -> str:
    text = read_text(request.get(key))
    if text is None:
        raise ValueError(f"{key}: must be text of 1 to {MAX_TEXT} characters, or a whole number, "
                         f"got {request.get(key)!r:.80}")  # fmt: skip
    return text


def _describe(trigger: Trigger, timeout_ms: int) -> dict[str, Any]:
    return {"camera": trigger.camera, "trigger_id": trigger.trigger_id, "timeout_ms": timeout_ms}
