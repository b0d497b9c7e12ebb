"""Triggers that were told to the station: each camera's is owed one verdict, that of its frame, or ERROR NO_FRAME.

A frame is its trigger's by the id it carries; where the hardware gives none, by the one announcement that is open and
the time of capture. An announcement may come after its frame where it says when the signal was given, and the frame
waits. Whatever cannot be told is refused, never guessed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from inspector.config import Camera, Station
from inspector.service.orders.arrivals import Arrivals, Attached
from inspector.service.orders.asked import MAX_TIMEOUT_MS, Asked, read_asked
from inspector.service.orders.firing import Fire, build_message
from inspector.service.orders.known import KnownTriggers
from inspector.service.orders.matching import Match, Trigger, match_frame, refuse_frame
from inspector.service.orders.offline import Offline
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat

_MAX_OPEN = 1000
"""Of a camera; more are refused."""
_RECORD_S = 1.0
"""How long who asks waits for the disk at most."""


class Tickets(Protocol):
    """What is open, by number: see `Ledger`."""

    def is_open_number(self, number: int) -> bool:
        """Whether a verdict is owed, by this run or the one before."""

    def awaits_frame(self, number: int) -> bool:
        """Whether it is a trigger, open, whose frame has not come."""

    def can_fill(self, number: int, frame: Frame) -> bool:
        """Whether it is such a trigger, and the frame came in time."""

    def awaits_trigger(self, number: int) -> bool:
        """Whether it is an open frame's whose trigger has not been announced."""

    def find_deadline_ns(self, number: int) -> int:
        """When (monotonic) its verdict is due; 0: it is answered."""

    def count_triggers(self, camera: str) -> int:
        """How many triggers of a camera are open."""


class Triggers:
    """Opened by the requests thread, matched by the ingest threads.

    Attributes:
        lock: held from the look at what is there until a frame or trigger is entered.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        tickets: Tickets,
        *,
        station: str,
        offline: Offline,
        open_ticket: Callable[[Frame, int], tuple[int, threading.Event]],
        attach: Callable[[int, str, str | None], Attached | None],
        fire: Fire,
        is_connected: Callable[[str], bool],
    ) -> None:
        """Make it.

        Args:
            cameras: of the station file.
            tickets: what is open.
            station: its name.
            offline: whose cameras take no triggers.
            open_ticket: has a trigger owed a verdict, within so many milliseconds; its number, and what is set once
                that is on record.
            attach: gives a frame that waits, by its number, the ids of its trigger; None: it waits no more.
            fire: must not wait.
            is_connected: whether frames of a camera can come.
        """
        self._cameras = cameras
        self._tickets = tickets
        self._station = station
        self._offline = offline
        self._open_ticket = open_ticket
        self._attach = attach
        self._fire = fire
        self._is_connected = is_connected
        self.lock = threading.Lock()  # guards all below
        self._arrivals = Arrivals()
        self._known = KnownTriggers(tickets.is_open_number)
        self._last: dict[str, Trigger] = {}  # that was told before its frame came
        self._attached: dict[str, Trigger] = {}  # the last that was told after it
        self._is_closed = False

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force."""
        self._cameras = station.cameras

    def remember(self, camera: str, triggers: Iterable[tuple[str, int, bool]]) -> None:
        """Those of an earlier run, see `KnownTriggers`: no frame of then is taken for a later trigger's."""
        with self.lock:
            self._known.remember(camera, triggers)

    # ------------------------------------------------------------ requests

    def answer_trigger(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Open a trigger of one camera, or of each of a group, and fire them: all, or none.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        opened = self._open(request, "software")
        for trigger in opened:
            self._fire(trigger.camera, self._build_message(trigger), self._tickets.find_deadline_ns(trigger.number))
        return _describe(request, opened)

    def answer_announce(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Open a trigger that the hardware is about to give, or gave at `given_utc_ns`, to a camera or to a group.

        Raises:
            ValueError: it cannot be, and why.
        """
        del who
        return _describe(request, self._open(request, "hardware"))

    def close(self) -> None:
        """Open no more: the station stops."""
        with self.lock:
            self._is_closed = True

    def _open(self, request: Mapping[str, Any], kind: str) -> list[Trigger]:
        """Open one for each camera, once none of them is refused; all are on record when this returns."""
        asked = read_asked(request, list(self._cameras))
        with self.lock:
            for camera in asked.cameras:
                self._refuse_camera(camera, kind)
                self._refuse_open(camera, asked.trigger_id)
            attached = None if asked.given_utc_ns is None else self._find_given(asked, asked.given_utc_ns)
            if attached is not None:
                opened, recorded = [attached[0]], [attached[1].recorded]
            else:
                for camera in asked.cameras if kind == "hardware" else ():
                    self._refuse_second(camera)
                entered = self._open_each(asked)
                opened, recorded = [each[0] for each in entered], [each[1] for each in entered]
        deadline = time.monotonic() + _RECORD_S
        if not all(event.wait(max(0.0, deadline - time.monotonic())) for event in recorded):
            with self.lock:
                self._give_up(opened)
            raise ValueError("not on record: the journal could not be written in time; the trigger takes no frame now")
        if attached is not None:
            attached[1].judge()
        return opened

    def _give_up(self, opened: list[Trigger]) -> None:
        """Let no frame be theirs: who told them was refused, and the next signal's must not be taken for it."""
        for trigger in opened:
            vain = replace(trigger, takes_frame=False)
            self._known.note(vain)
            if self._last.get(trigger.camera) is trigger:
                self._last[trigger.camera] = vain

    def _open_each(self, asked: Asked) -> list[tuple[Trigger, threading.Event]]:
        entered: list[tuple[Trigger, threading.Event]] = []
        for camera in asked.cameras:
            try:
                entered.append(self._open_one(camera, asked))
            except ValueError as error:  # its part refused the view
                if not entered:
                    raise
                self._give_up([trigger for trigger, _ in entered])
                names = ", ".join(trigger.camera for trigger, _ in entered)
                raise ValueError(f"camera {camera}: {error}; no camera is fired, {names}: NO_FRAME follows") from error
        return entered

    def _find_given(self, asked: Asked, given_utc_ns: int) -> tuple[Trigger, Attached] | None:
        """The frame of a signal that was given, where it waits; None: it may still come."""
        (camera,) = asked.cameras
        if given_utc_ns > (now_utc_ns := time.time_ns()):
            raise ValueError(
                f"given_utc_ns: must be past, got {given_utc_ns - now_utc_ns} ns to come: the clocks differ"
            )
        timeout_ms = self._choose_timeout_ms(camera, asked)
        arrival = self._arrivals.find(camera, given_utc_ns, timeout_ms, self._tickets.awaits_trigger)
        if arrival is None:
            return None
        if asked.part_id is not None and arrival.part_id not in (None, asked.part_id):
            raise ValueError(f"part_id: must be the frame's, {arrival.part_id!r:.80}, got {asked.part_id!r:.80}")
        attached = self._attach(arrival.number, asked.trigger_id, asked.part_id)
        if attached is None:
            raise ValueError(f"camera {camera}: frame {arrival.frame_id:.80} was answered just now: announce sooner")
        trigger = Trigger(
            camera, asked.trigger_id, asked.part_id, timeout_ms, given_utc_ns, given_utc_ns + timeout_ms * 1_000_000,
            arrival.number, has_frame=True,
        )  # fmt: skip
        self._known.note(trigger)
        self._attached[camera] = trigger  # not the last that waits: it must hide no other
        return trigger, attached

    def _open_one(self, camera: str, asked: Asked) -> tuple[Trigger, threading.Event]:
        placeholder = build_frame(
            camera, f"trigger-{asked.trigger_id}", None, PixelFormat.MONO8,
            part_id=asked.part_id, trigger_id=asked.trigger_id, simulated=self._cameras[camera].simulated,
        )  # fmt: skip
        told_utc_ns = asked.given_utc_ns or placeholder.received_utc_ns
        timeout_ms = self._choose_timeout_ms(camera, asked)
        left_ms = timeout_ms - (placeholder.received_utc_ns - told_utc_ns) // 1_000_000
        if left_ms < 1:
            raise ValueError("given_utc_ns: no frame was captured within timeout_ms of it: announce sooner")
        number, recorded = self._open_ticket(placeholder, left_ms)
        before = self._known.find(camera, asked.trigger_id)
        trigger = Trigger(
            camera, asked.trigger_id, asked.part_id, left_ms, told_utc_ns, told_utc_ns + timeout_ms * 1_000_000, number,
            is_reused=before is not None, is_after_lost=before is not None and not before.has_frame,
        )  # fmt: skip
        self._known.note(trigger)
        self._last[camera] = trigger
        return trigger, recorded

    def _choose_timeout_ms(self, camera: str, asked: Asked) -> int:
        return asked.timeout_ms or min(self._cameras[camera].deadline_ms, MAX_TIMEOUT_MS)

    def _build_message(self, trigger: Trigger) -> dict[str, Any]:
        times = {"timeout_ms": trigger.timeout_ms, "told_utc_ns": trigger.told_utc_ns}
        return build_message(self._station, trigger.camera, trigger.trigger_id, trigger.part_id, **times)

    def _refuse_camera(self, camera: str, kind: str) -> None:
        if self._cameras[camera].triggers != kind:
            raise ValueError(
                f"camera {camera}: cameras.{camera}.triggers must be {kind} in the station file, "
                f"is {self._cameras[camera].triggers or 'null'}"
            )
        if self._offline.is_offline(camera):
            raise ValueError(f"camera {camera}: offline, takes no triggers")
        if not self._is_connected(camera):
            raise ValueError(f"camera {camera}: its source is not connected, see inspector_source_up")

    def _refuse_open(self, camera: str, trigger_id: str) -> None:
        if self._is_closed:
            raise ValueError("SHUTDOWN: the station stops")
        if self._known.is_open(camera, trigger_id):
            raise ValueError(f"trigger_id: {trigger_id!r:.80} of camera {camera} is open already")
        if self._tickets.count_triggers(camera) >= _MAX_OPEN:
            raise ValueError(f"camera {camera}: at most {_MAX_OPEN} triggers may be open")

    def _refuse_second(self, camera: str) -> None:
        """Of announcements only one may wait for its frame, which is told by order."""
        last = self._last.get(camera)
        if last is not None and self._tickets.awaits_frame(last.number):
            raise ValueError(f"camera {camera}: trigger {last.trigger_id!r:.80} still waits for its frame")

    # ------------------------------------------------------------ frames

    def match(self, frame: Frame, *, may_wait: bool = True) -> Match:
        """Whose a frame is that has just come; of a camera without `triggers` it is its own, whatever it says.

        One that may wait is judged once it is announced.
        """
        camera = self._cameras.get(frame.camera)
        if camera is None or camera.triggers is None:
            return Match(frame)
        if frame.trigger_id is not None:
            trigger = self._known.find(frame.camera, frame.trigger_id)
        elif camera.triggers == "hardware":
            trigger = self._last.get(frame.camera)
        else:
            return Match(frame)
        if trigger is not None and trigger.takes_frame and self._tickets.can_fill(trigger.number, frame):
            match = match_frame(frame, trigger)
        else:
            attached = None if frame.trigger_id is not None else self._attached.get(frame.camera)
            match = refuse_frame(frame, (trigger, attached))
        if not may_wait or match.number is not None or frame.trigger_id is not None or not frame.captured_utc_ns:
            return match
        return replace(match, waits_ms=camera.announce_within_ms)

    def note(self, frame: Frame, number: int) -> None:
        """A frame was accepted under this number."""
        camera = self._cameras.get(frame.camera)
        named = self._last.get(frame.camera)
        if frame.trigger_id is not None:
            named = self._known.find(frame.camera, frame.trigger_id)
        if named is not None and named.number == number:
            self._known.note(replace(named, has_frame=True))
        if camera is not None and camera.triggers == "hardware":
            self._arrivals.note(frame, number)


def _describe(request: Mapping[str, Any], opened: list[Trigger]) -> dict[str, Any]:
    """The answer: the camera or list as it was asked for, and the longest timeout."""
    timeout_ms = max(trigger.timeout_ms for trigger in opened)
    return {"camera": request["camera"], "trigger_id": opened[0].trigger_id, "timeout_ms": timeout_ms}
