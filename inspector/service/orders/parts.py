"""Parts: what several cameras see of one thing. Which views of a part came, and what they decide together.

A part is opened by its first view, and decided once: when all its views are answered, at its first flaw, or at the end
of its window. Only what is on record decides: a view counts with the result that left, never with one on its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from inspector.types import PART_PREFIX, Frame, Reason, Result, Verdict, View

REMEMBERED_S = 600.0
"""How long after its verdict a part's id is known as answered."""
MAX_REMEMBERED = 10_000
"""Ids of answered parts of a group; beyond them the oldest is forgotten."""
MAX_OPEN = 1000
"""Parts of a group; one more is answered ERROR at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """A kind of part: the cameras that see it, each in one group at most, and the id that their frames share."""

    name: str
    cameras: tuple[str, ...]
    by: Literal["part_id", "trigger_id"]


class Refusal(NamedTuple):
    """Why a frame is not judged."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The one decision on a part.

    Attributes:
        number: the part's own.
        lead: of a PASS or FAIL the result with the highest score for its threshold.
        views: of each camera of the group, what is known.
        frames: the views that came, without pixels.
        is_simulated: one of them shows no real part.
        warns: one of them is in its recipe's warn band.
    """

    number: int
    verdict: Verdict
    reason: Reason
    message: str | None
    lead: Result | None
    views: tuple[View, ...]
    frames: tuple[Frame, ...]
    is_simulated: bool
    warns: bool


_Key = tuple[str, str]
"""Name of the group, and the part's id."""


@dataclass(slots=True)
class _View:
    number: int
    frame: Frame
    awaits_frame: bool
    result: Result | None = None


@dataclass(slots=True)
class _Part:
    key: _Key
    number: int
    group: Group
    views: dict[str, _View] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    refusal: Refusal | None = None


class Parts:
    """Frames are admitted by the ingest threads; results are noted, and windows end, in the publisher's thread."""

    def __init__(
        self,
        groups: Iterable[Group],
        open_part: Callable[[Group, Frame], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know no part yet.

        Args:
            groups: of the station file.
            open_part: has a part owed a verdict whose first view this is; its number. Called with a lock held.
            clock: gives seconds that never step back.
        """
        self._group_of = {camera: group for group in groups for camera in group.cameras}
        self._open_part = open_part
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._open: dict[_Key, _Part] = {}
        self._by_number: dict[int, _Part] = {}  # its own, or of a frame that came, or is awaited, for it
        self._answered: dict[str, dict[str, float]] = {}  # by group: id → when; the oldest first

    def remember(self, group: str, ids: Iterable[str]) -> None:
        """Parts of an earlier run, the oldest first: no frame opens one of them again."""
        with self._lock:
            for each in ids:
                self._remember((group, each))

    def has_id(self, frame: Frame) -> bool:
        """Whether a frame says of which part it is a view."""
        group = self._group_of.get(frame.camera)
        return group is not None and getattr(frame, group.by) is not None

    def admit(self, number: int, frame: Frame) -> Refusal | None:
        """A frame came. None: it may be judged; else it is owed its verdict all the same, and so is its part.

        Args:
            number: of its ticket; its trigger's, where it has one.
            frame: with the ids it is answered with.
        """
        with self._lock:
            return self._admit(_View(number, replace(frame, pixels=None), awaits_frame=False))

    def admit_trigger(self, number: int, frame: Frame, *, awaits_frame: bool) -> Refusal | None:
        """As `admit`, where a trigger was told. None: it is owed a verdict; else it is not opened, and is no view.

        `awaits_frame`: the frame is a stand-in; else it came before, and waited for its trigger.
        """
        with self._lock:
            return self._admit(_View(number, replace(frame, pixels=None), awaits_frame), is_trigger=True)

    def note_surplus(self, number: int, frame: Frame) -> None:
        """A frame is answered by itself, of a trigger that had its frame: the part of that one has a view too many."""
        with self._lock:
            part = self._by_number.get(number)
            view = None if part is None else part.views.get(frame.camera)
            if part is not None and view is not None and view.number == number and not view.awaits_frame:
                part.refusal = part.refusal or _describe_double(view.frame, frame)

    def note(self, number: int, result: Result) -> Decided | None:
        """A frame's result left; what its part is with it, where that decides it."""
        with self._lock:
            part = self._by_number.get(number)
            if part is None:
                return None
            view = part.views.get(result.camera)
            if view is not None and view.number == number:
                view.result = result
            return self._close(part) if part.refusal or _is_complete(part) else None

    def expire(self, number: int) -> Decided | None:
        """A part's window is over; None where it is decided, of an earlier run, or this is the number of no part."""
        with self._lock:
            part = self._by_number.get(number)
            return None if part is None or part.number != number else self._close(part)

    def _admit(self, view: _View, *, is_trigger: bool = False) -> Refusal | None:
        group = self._group_of.get(view.frame.camera)
        if group is None:
            return None
        id_: str | None = getattr(view.frame, group.by)
        if id_ is None and is_trigger and view.awaits_frame:
            return None  # its frame may say; see `admit`
        if id_ is None:
            why = f"{group.by}: required of camera {view.frame.camera}, a view of part {group.name}"
            return Refusal(Reason.NO_PART_ID, why)
        key = group.name, id_
        if key not in self._open:
            if self._is_answered(key):
                return Refusal(Reason.VIEW_LATE, f"part {group.name} {id_!r:.80} is answered already")
            overload = self._find_overload(group)
            if overload is not None and is_trigger:  # nothing would be answered that could end the part
                return overload
            part = self._open[key] = _Part(key, self._open_part(group, view.frame), group, refusal=overload)
            self._know(part, part.number)
        part = self._open[key]
        refusal = _note_flaw(part, view)
        if refusal is None or not is_trigger:
            self._know(part, view.number)
            _see(part, view)
        return refusal

    def _know(self, part: _Part, number: int) -> None:
        self._by_number[number] = part
        part.numbers.append(number)

    def _find_overload(self, group: Group) -> Refusal | None:
        is_full = sum(each.group is group for each in self._open.values()) >= MAX_OPEN
        return Refusal(Reason.OVERLOAD, f"at most {MAX_OPEN} parts {group.name} may be open") if is_full else None

    def _close(self, part: _Part) -> Decided:
        del self._open[part.key]
        for number in part.numbers:
            self._by_number.pop(number, None)
        self._remember(part.key)
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


def _see(part: _Part, view: _View) -> None:
    known = part.views.get(view.frame.camera)
    if known is None or known.number == view.number:  # its trigger was there before
        part.views[view.frame.camera] = view


def _note_flaw(part: _Part, view: _View) -> Refusal | None:
    """Why a frame is no view of an open part; what is wrong with it is wrong with the part too."""
    flaw = _find_flaw(part, view)
    part.refusal = part.refusal or flaw
    return part.refusal if part.refusal and part.refusal.reason is Reason.OVERLOAD else flaw


def _find_flaw(part: _Part, new: _View) -> Refusal | None:
    frame, view = new.frame, part.views.get(new.frame.camera)
    if view is not None and view.number != new.number:
        return _describe_double(view.frame, frame)
    for camera, other in part.views.items():
        if camera != frame.camera and None not in (ids := (frame.part_id, other.frame.part_id)) and ids[0] != ids[1]:
            why = f"{other.frame.part_id!r:.80} from camera {camera}, {frame.part_id!r:.80} from {frame.camera}"
            return Refusal(Reason.VIEW_MISMATCH, f"part_id: must be the same in all views, got {why}")
    return None


def _describe_double(first: Frame, second: Frame) -> Refusal:
    names = f"{first.frame_id!r:.80} and {second.frame_id!r:.80}"
    return Refusal(Reason.VIEW_DOUBLED, f"camera {first.camera} gave two views: {names}")


def _is_complete(part: _Part) -> bool:
    views = part.views
    return all(camera in views and views[camera].result is not None for camera in part.group.cameras)


def _decide(part: _Part) -> Decided:
    """Doubt about which part it is outweighs all; then a defect that was seen; then a view that says nothing."""
    seen = list(part.views.values())
    results = [view.result for view in seen if view.result is not None]
    failed = [result for result in results if result.verdict is Verdict.FAIL]
    verdict, reason = (Verdict.FAIL, Reason.DEFECT) if failed else (Verdict.PASS, Reason.OK)
    lead, message = max(failed or results, key=_compute_share, default=None), None
    if flaw := part.refusal or (None if failed else _find_gap(part)):
        verdict, reason, lead, message = Verdict.ERROR, flaw.reason, None, flaw.why
    return Decided(
        part.number,
        verdict,
        reason,
        message,
        lead,
        views=tuple(_describe(camera, part.views.get(camera)) for camera in part.group.cameras),
        frames=tuple(view.frame for view in seen),
        is_simulated=any(view.frame.simulated for view in seen),
        warns=verdict is Verdict.PASS and any(result.warn for result in results),
    )


def _describe(camera: str, view: _View | None) -> View:
    if view is None or view.result is None:
        came = view is not None and not view.awaits_frame
        return View(camera, view.frame.frame_id if came and view else None)
    result = view.result
    return View(camera, result.frame_id, result.seq, result.verdict, result.reason, result.score, result.threshold)


def _find_gap(part: _Part) -> Refusal | None:
    """What keeps the views from saying that the part is good: any that is not a PASS on record."""
    views = {camera: part.views.get(camera) for camera in part.group.cameras}
    if missing := [camera for camera, view in views.items() if _is_missing(view)]:
        return Refusal(Reason.VIEW_MISSING, f"no view of camera {', '.join(missing)}")
    answers = {camera: view.result if view else None for camera, view in views.items()}
    if late := [camera for camera, answer in answers.items() if answer is None]:
        return Refusal(Reason.VIEW_LATE, f"no verdict within the window on the view of camera {', '.join(late)}")
    bad = [f"{name} {each.reason.name}" for name, each in answers.items() if each and each.verdict is not Verdict.PASS]
    return Refusal(Reason.VIEW_ERROR, f"views answered ERROR: {', '.join(bad)}") if bad else None


def _is_missing(view: _View | None) -> bool:
    """Whether no frame came."""
    if view is None or view.result is None:
        return view is None or view.awaits_frame
    return view.result.reason is Reason.NO_FRAME


def _compute_share(result: Result) -> float:
    return result.score / result.threshold if result.score is not None and result.threshold else 0.0


def build_part_frame(group: Group, view: Frame) -> Frame:
    """What stands for a part in the ledger and the journal: received when its first view was, named by its id."""
    return replace(
        view,
        camera=f"{PART_PREFIX}{group.name}",
        frame_id=str(getattr(view, group.by)),
        # Of the other id, triggers of its other cameras may have others.
        trigger_id=view.trigger_id if group.by == "trigger_id" else None,
        pixels=None,
        error=None,
        decode_ms=0.0,
        files=(),
    )
