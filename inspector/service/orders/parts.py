"""Parts: what several cameras see of one thing. Which views of a part came, and what they decide together.

A part is opened by its first view, and decided once: when all its views are answered, at its first flaw, or at the end
of its window. Only what is on record decides: a view counts with the result that left, never with one on its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from inspector.service.orders.deciding import Decided, Group, OpenPart, PartView, Refusal, decide, is_complete
from inspector.types import PART_PREFIX, Frame, Reason, Result

REMEMBERED_S = 600.0
"""How long after its verdict a part's id is known as answered."""
MAX_REMEMBERED = 10_000
"""Ids of answered parts of a group; beyond them the oldest is forgotten."""
MAX_OPEN = 1000
"""Parts of a group; one more is answered ERROR at once."""


_Key = tuple[str, str]
"""Name of the group, and the part's id."""


class Parts:
    """Frames are admitted by the ingest threads; results are noted, and windows end, in the publisher's thread."""

    def __init__(
        self,
        groups: Iterable[Group],
        open_part: Callable[[Group, Frame], int],
        clock: Callable[[], float] = time.monotonic,
        is_offline: Callable[[str], bool] = lambda camera: False,
    ) -> None:
        """Know no part yet.

        Args:
            groups: of the station file.
            open_part: has a part owed a verdict whose first view this is; its number. Called with a lock held.
            clock: gives seconds that never step back.
            is_offline: whether people took a camera offline.
        """
        self._group_of = {camera: group for group in groups for camera in group.cameras}
        self._open_part = open_part
        self._clock = clock
        self._is_offline = is_offline
        self._lock = threading.Lock()  # guards all below
        self._open: dict[_Key, OpenPart] = {}
        self._by_number: dict[int, OpenPart] = {}  # its own, or of a frame that came, or is awaited, for it
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
            return self._admit(PartView(number, replace(frame, pixels=None), awaits_frame=False))

    def admit_trigger(self, number: int, frame: Frame, *, awaits_frame: bool) -> Refusal | None:
        """As `admit`, where a trigger was told. None: it is owed a verdict; else it is not opened, and is no view.

        `awaits_frame`: the frame is a stand-in; else it came before, and waited for its trigger.
        """
        with self._lock:
            return self._admit(PartView(number, replace(frame, pixels=None), awaits_frame), is_trigger=True)

    def note_surplus(self, number: int, own_number: int, frame: Frame) -> None:
        """A frame is answered by itself, of a trigger that had its frame: the part of that one has a view too many.

        `number` is the trigger's, `own_number` the frame's, whose result ends the part.
        """
        with self._lock:
            part = self._by_number.get(number)
            view = None if part is None else part.views.get(frame.camera)
            if part is not None and view is not None and view.number == number and not view.awaits_frame:
                part.refusal = part.refusal or _describe_double(view.frame, frame)
                self._know(part, own_number)

    def note(self, number: int, result: Result) -> Decided | None:
        """A frame's result left; what its part is with it, where that decides it."""
        with self._lock:
            part = self._by_number.get(number)
            if part is None:
                return None
            view = part.views.get(result.camera)
            if view is not None and view.number == number:
                view.result = result
            return self._close(part) if part.refusal or is_complete(part) else None

    def expire(self, number: int) -> Decided | None:
        """A part's window is over; None where it is decided, of an earlier run, or this is the number of no part."""
        with self._lock:
            part = self._by_number.get(number)
            return None if part is None or part.number != number else self._close(part)

    def _admit(self, view: PartView, *, is_trigger: bool = False) -> Refusal | None:
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
            part = self._open[key] = OpenPart(key, self._open_part(group, view.frame), group, refusal=overload)
            self._know(part, part.number)
        part = self._open[key]
        refusal = _note_flaw(part, view)
        if refusal is None or not is_trigger:
            self._know(part, view.number)
            _see(part, view)
        return refusal

    def _know(self, part: OpenPart, number: int) -> None:
        self._by_number[number] = part
        part.numbers.append(number)

    def _find_overload(self, group: Group) -> Refusal | None:
        is_full = sum(each.group is group for each in self._open.values()) >= MAX_OPEN
        return Refusal(Reason.OVERLOAD, f"at most {MAX_OPEN} parts {group.name} may be open") if is_full else None

    def _close(self, part: OpenPart) -> Decided:
        del self._open[part.key]
        for number in part.numbers:
            if self._by_number.get(number) is part:  # one that waited may have been told another part since
                del self._by_number[number]
        self._remember(part.key)
        return decide(part, self._is_offline)

    def _remember(self, key: _Key) -> None:
        answered = self._answered.setdefault(key[0], {})
        answered.pop(key[1], None)
        answered[key[1]] = self._clock()
        while len(answered) > MAX_REMEMBERED:
            del answered[next(iter(answered))]

    def _is_answered(self, key: _Key) -> bool:
        at = self._answered.get(key[0], {}).get(key[1])
        return at is not None and self._clock() - at <= REMEMBERED_S


def _see(part: OpenPart, view: PartView) -> None:
    known = part.views.get(view.frame.camera)
    if known is None or known.number == view.number or _is_vain(known):  # the same: its trigger was there before
        part.views[view.frame.camera] = view


def _is_vain(view: PartView) -> bool:
    """Whether its trigger was answered without a frame, so that another may be told."""
    return view.awaits_frame and view.result is not None


def _note_flaw(part: OpenPart, view: PartView) -> Refusal | None:
    """Why a frame is no view of an open part; what is wrong with it is wrong with the part too."""
    flaw = _find_flaw(part, view)
    part.refusal = part.refusal or flaw
    return part.refusal if part.refusal and part.refusal.reason is Reason.OVERLOAD else flaw


def _find_flaw(part: OpenPart, new: PartView) -> Refusal | None:
    frame, view = new.frame, part.views.get(new.frame.camera)
    if view is not None and view.number != new.number and not _is_vain(view):
        return _describe_double(view.frame, frame)
    for camera, other in part.views.items():
        if camera != frame.camera and None not in (ids := (frame.part_id, other.frame.part_id)) and ids[0] != ids[1]:
            why = f"{other.frame.part_id!r:.80} from camera {camera}, {frame.part_id!r:.80} from {frame.camera}"
            return Refusal(Reason.VIEW_MISMATCH, f"part_id: must be the same in all views, got {why}")
    return None


def _describe_double(first: Frame, second: Frame) -> Refusal:
    names = f"{first.frame_id!r:.80} and {second.frame_id!r:.80}"
    return Refusal(Reason.VIEW_DOUBLED, f"camera {first.camera} gave two views: {names}")


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
