"""Triggers that were told to the station: each camera's is owed one verdict, that of its frame, or ERROR NO_FRAME.

A frame is its trigger's by the id it carries; where the hardware gives none, by the one announcement that is open and
the time of capture. Whatever cannot be told is refused, never guessed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from inspector.config import Camera, Station
from inspector.service.orders.asked import MAX_TIMEOUT_MS, Asked, read_asked
from inspector.service.orders.offline import Offline
from inspector.sources.base import build_frame
from inspector.types import SCHEMA, Frame, PixelFormat

_MAX_OPEN = 1000
"""Of a camera; more are refused."""
_MAX_KNOWN = 10_000
"""Ids that are remembered, those of answered triggers included."""
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
    """One that was told, of one camera.

    Attributes:
        timeout_ms: how long its frame may take to come.
        number: of its ticket.
        is_reused: its id is one that a trigger had before: a frame of that one may still come.
    """

    camera: str
    trigger_id: str
    part_id: str | None
    timeout_ms: int
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
        """Open a trigger of one camera, or of each of a group, and fire them: all, or none.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        opened = self._open(request, "software")
        for trigger in opened:
            self._fire(f"trigger/{trigger.camera}", self._build_message(trigger))
        return _describe(request, opened)

    def answer_announce(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Open a trigger that the hardware is about to give, to one camera or to each of a group.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        return _describe(request, self._open(request, "hardware"))

    def close(self) -> None:
        """Open no more: the station stops."""
        with self._lock:
            self._is_closed = True

    def _open(self, request: Mapping[str, Any], kind: str) -> list[Trigger]:
        """Open one for each camera, once none of them is refused; all are on record when this returns."""
        asked = read_asked(request, list(self._cameras))
        recorded: list[threading.Event] = []
        with self._lock:
            for camera in asked.cameras:
                self._refuse_camera(camera, kind)
                self._refuse_open(camera, asked.trigger_id, kind)
            opened = [self._open_one(camera, asked, recorded) for camera in asked.cameras]
        deadline = time.monotonic() + _RECORD_S
        if not all(event.wait(max(0.0, deadline - time.monotonic())) for event in recorded):
            raise ValueError("not on record: the journal could not be written in time; the trigger is answered ERROR")
        return opened

    def _open_one(self, camera: str, asked: Asked, recorded: list[threading.Event]) -> Trigger:
        timeout_ms = asked.timeout_ms or min(self._cameras[camera].deadline_ms, MAX_TIMEOUT_MS)
        placeholder = build_frame(
            camera, f"trigger-{asked.trigger_id}", None, PixelFormat.MONO8,
            part_id=asked.part_id, trigger_id=asked.trigger_id, simulated=self._cameras[camera].simulated,
        )  # fmt: skip
        number, event = self._open_ticket(placeholder, timeout_ms)
        recorded.append(event)
        key = camera, asked.trigger_id
        is_reused = self._known.pop(key, None) is not None
        trigger = Trigger(
            camera, asked.trigger_id, asked.part_id, timeout_ms, placeholder.received_utc_ns, number, is_reused
        )
        self._known[key] = self._last[camera] = trigger
        self._forget_oldest()
        return trigger

    def _build_message(self, trigger: Trigger) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "station": self._station,
            "camera": trigger.camera,
            "trigger_id": trigger.trigger_id,
            "part_id": trigger.part_id,
            "timeout_ms": trigger.timeout_ms,
            "told_utc_ns": trigger.told_utc_ns,
        }

    def _refuse_camera(self, camera: str, kind: str) -> None:
        if self._cameras[camera].triggers != kind:
            raise ValueError(
                f"camera {camera}: cameras.{camera}.triggers must be {kind} in the station file, "
                f"is {self._cameras[camera].triggers or 'null'}"
            )
        if self._offline.is_offline(camera):
            raise ValueError(f"camera {camera}: offline, takes no triggers")

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


def _describe(request: Mapping[str, Any], opened: list[Trigger]) -> dict[str, Any]:
    """The answer: the camera or list as it was asked for, and the longest timeout."""
    timeout_ms = max(trigger.timeout_ms for trigger in opened)
    return {"camera": request["camera"], "trigger_id": opened[0].trigger_id, "timeout_ms": timeout_ms}
