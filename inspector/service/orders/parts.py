"""Parts: what several cameras see of one thing. Which views of a part came, and what they decide together.

A part is opened by its first view, and decided once: when all its views are answered, at its first flaw, or at the end
of its window. Only what is on record decides: a view counts with the result that left, never with one on its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from inspector.types import Frame, Reason, Result, Verdict

REMEMBERED_S = 600.0
"""How long after its verdict a part's id is known as answered."""
MAX_REMEMBERED = 10_000
"""Ids of answered parts of a group; beyond them the oldest is forgotten."""
MAX_OPEN = 1000
"""Parts of a group; one more is answered ERROR at once."""


class Flaw(StrEnum):
    """Why a part is answered ERROR, or a frame cannot be a view of one."""

    NO_ID = "NO_ID"
    MISSING = "MISSING"
    LATE = "LATE"
    DOUBLED = "DOUBLED"
    MISMATCH = "MISMATCH"
    NOT_JUDGED = "NOT_JUDGED"
    TOO_MANY = "TOO_MANY"


@dataclass(frozen=True, slots=True)
class Group:
    """A kind of part: the cameras that see it, each in one group at most, and the id that their frames share."""

    name: str
    cameras: tuple[str, ...]
    by: Literal["part_id", "trigger_id"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame is not judged."""

    flaw: Flaw
    why: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The one decision on a part.

    Attributes:
        number: the part's own.
        flaw: why it is ERROR; None: it is PASS or FAIL.
        lead: of a PASS or FAIL the result with the highest score for its threshold.
        views: of each camera of the group the result that left; None: there is none.
        frames: the views that came, without pixels.
    """

    number: int
    verdict: Verdict
    flaw: Flaw | None
    message: str | None
    lead: Result | None
    views: Mapping[str, Result | None]
    frames: tuple[Frame, ...]


@dataclass(slots=True)
class _View:
    number: int
    frame: Frame
    result: Result | None = None


@dataclass(slots=True)
class _Part:
    number: int
    group: Group
    views: dict[str, _View] = field(default_factory=dict)
    refusal: Refusal | None = None


_Key = tuple[str, str]
"""Name of the group, and the part's id."""


class Parts:
    """Frames are admitted by the ingest threads; results are noted, and windows end, in the publisher's thread."""

    def __init__(self, groups: Iterable[Group], clock: Callable[[], float] = time.monotonic) -> None:
        """Know no part yet; `clock` gives seconds that never step back."""
        self._group_of = {camera: group for group in groups for camera in group.cameras}
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._open: dict[_Key, _Part] = {}
        self._keys: dict[int, _Key] = {}  # by the number of a frame or part that is open
        self._answered: dict[str, dict[str, float]] = {}  # by group: id → when; the oldest first

    def remember(self, group: str, ids: Iterable[str]) -> None:
        """Parts of an earlier run, the oldest first: no frame opens one of them again."""
        with self._lock:
            for each in ids:
                self._remember((group, each))

    def admit(self, number: int, frame: Frame, open_part: Callable[[Group, Frame], int]) -> Refusal | None:
        """A frame came, or its trigger, under the same number. None: it may be judged.

        Args:
            number: of its ticket.
            frame: with the ids it is answered with.
            open_part: has a part owed a verdict whose first view this is; its number. Called with the lock held.
        """
        group = self._group_of.get(frame.camera)
        if group is None:
            return None
        id_: str | None = getattr(frame, group.by)
        if id_ is None:
            return Refusal(Flaw.NO_ID, f"{group.by}: required of camera {frame.camera}, a view of part {group.name}")
        key = group.name, id_
        with self._lock:
            if key not in self._open:
                if self._is_answered(key):
                    return Refusal(Flaw.LATE, f"part {group.name} {id_!r:.80} is answered already")
                self._begin(key, group, open_part(group, frame))
            self._keys[number] = key
            return _see(self._open[key], number, replace(frame, pixels=None))

    def note(self, number: int, result: Result) -> Decided | None:
        """A frame's result left; what its part is with it, where that decides it."""
        with self._lock:
            key = self._keys.pop(number, None)
            part = None if key is None else self._open.get(key)
            if key is None or part is None:
                return None
            view = part.views.get(result.camera)
            if view is not None and view.number == number:
                view.result = result
            if part.refusal is None and not _is_complete(part):
                return None
            return self._close(key, part)

    def expire(self, number: int) -> Decided | None:
        """A part's window is over; None where it is decided."""
        with self._lock:
            key = self._keys.get(number)
            part = None if key is None else self._open.get(key)
            return None if key is None or part is None else self._close(key, part)

    def _begin(self, key: _Key, group: Group, number: int) -> None:
        part = self._open[key] = _Part(number, group)
        self._keys[number] = key
        count = sum(each.group is group for each in self._open.values())
        if count > MAX_OPEN:
            part.refusal = Refusal(Flaw.TOO_MANY, f"at most {MAX_OPEN} parts {group.name} may be open")

    def _close(self, key: _Key, part: _Part) -> Decided:
        del self._open[key]
        for number in (part.number, *(view.number for view in part.views.values())):
            self._keys.pop(number, None)
        self._remember(key)
        return _decide(part)

    def _remember(self, key: _Key) -> None:
        answered = self._answered.setdefault(key[0], {})
        answered.pop(key[1], None)
        answered[key[1]] = self._clock()
        while len(answered) > MAX_REMEMBERED:
            del answered[next(iter(answered))]

    def _is_answered(self, key: _Key) -> bool:
        at = self._answered.get(key[0], {}).get(key[1])
        return at is not None and self._clock() - at <= REMEMBERED_S


def _see(part: _Part, number: int, frame: Frame) -> Refusal | None:
    """Take a frame for a view of an open part; what is wrong with that, which is then wrong with the part too."""
    view = part.views.get(frame.camera)
    refusal = _find_flaw(part, view, number, frame)
    if view is None:
        part.views[frame.camera] = _View(number, frame)
    elif view.number == number:  # its trigger was there before
        view.frame = frame
    part.refusal = part.refusal or refusal
    return part.refusal if part.refusal and part.refusal.flaw is Flaw.TOO_MANY else refusal


def _find_flaw(part: _Part, view: _View | None, number: int, frame: Frame) -> Refusal | None:
    if view is not None and view.number != number:
        return Refusal(Flaw.DOUBLED, f"camera {frame.camera} gave two views: {view.frame.frame_id!r:.80} and "
                                     f"{frame.frame_id!r:.80}")  # fmt: skip
    for camera, other in part.views.items():
        if camera != frame.camera and None not in (ids := (frame.part_id, other.frame.part_id)) and ids[0] != ids[1]:
            why = f"{other.frame.part_id!r:.80} from camera {camera}, {frame.part_id!r:.80} from {frame.camera}"
            return Refusal(Flaw.MISMATCH, f"part_id: must be the same in all views, got {why}")
    return None


def _is_complete(part: _Part) -> bool:
    views = part.views
    return all(camera in views and views[camera].result is not None for camera in part.group.cameras)


def _decide(part: _Part) -> Decided:
    """Doubt about which part it is outweighs all; then a defect that was seen; then a view that says nothing."""
    views = {camera: part.views[camera].result if camera in part.views else None for camera in part.group.cameras}
    frames = tuple(view.frame for view in part.views.values())
    results = [result for result in views.values() if result is not None]
    failed = [result for result in results if result.verdict is Verdict.FAIL]
    flaw = part.refusal or (None if failed else _find_gap(part))
    if flaw is not None:
        return Decided(part.number, Verdict.ERROR, flaw.flaw, flaw.why, None, views, frames)
    verdict = Verdict.FAIL if failed else Verdict.PASS
    return Decided(part.number, verdict, None, None, max(failed or results, key=_compute_share), views, frames)


def _find_gap(part: _Part) -> Refusal | None:
    """What keeps the views from saying that the part is good: any that is not a PASS on record."""
    views = part.views
    answers = {camera: views[camera].result if camera in views else None for camera in part.group.cameras}
    no_frame = [name for name, each in answers.items() if each is not None and each.reason is Reason.NO_FRAME]
    if missing := [name for name in part.group.cameras if name not in views or name in no_frame]:
        return Refusal(Flaw.MISSING, f"no view of camera {', '.join(missing)}")
    if late := [name for name, each in answers.items() if each is None]:
        return Refusal(Flaw.LATE, f"no verdict within the window on the view of camera {', '.join(late)}")
    bad = [f"{name} {each.reason.name}" for name, each in answers.items() if each and each.verdict is not Verdict.PASS]
    return Refusal(Flaw.NOT_JUDGED, f"views answered ERROR: {', '.join(bad)}") if bad else None


def _compute_share(result: Result) -> float:
    return result.score / result.threshold if result.score is not None and result.threshold else 0.0
