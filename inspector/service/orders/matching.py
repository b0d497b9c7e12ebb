"""A trigger that was told, and whose a frame is that came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from inspector.types import Frame


@dataclass(frozen=True, slots=True)
class Trigger:
    """One that was told, of one camera.

    Attributes:
        timeout_ms: how long its frame may take to come, from the request on.
        told_utc_ns: of the request, or of the signal where that was before it.
        last_utc_ns: when its frame may have been captured at the latest, where only order and time tell whose it is.
        number: of its ticket.
        is_reused: its id is one that a trigger had before.
        is_after_lost: and the frame of that one never came: it may come still.
        has_frame: its frame came.
        takes_frame: a frame may be its own; else who told it was refused after all, and its verdict is an ERROR.
    """

    camera: str
    trigger_id: str
    part_id: str | None
    timeout_ms: int
    told_utc_ns: int
    last_utc_ns: int
    number: int
    is_reused: bool = False
    is_after_lost: bool = False
    has_frame: bool = False
    takes_frame: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """Whose a frame is.

    Attributes:
        frame: with the ids it is answered with.
        number: of the trigger's ticket; None: it is no trigger's.
        refusal: why it is not judged; None: it is.
        waits_ms: how long it waits for its announcement; None: it does not.
        surplus_of: the number of the trigger that it may be of, and that had its frame; None: of none.
    """

    frame: Frame
    number: int | None = None
    refusal: str | None = None
    waits_ms: int | None = None
    surplus_of: int | None = None


def match_frame(frame: Frame, trigger: Trigger) -> Match:
    """A frame and the open trigger that it may be of: by its id, or, where it has none, by order and time."""
    is_by_order = frame.trigger_id is None
    if (is_by_order or trigger.is_after_lost) and not frame.captured_utc_ns:
        what = "no trigger_id" if is_by_order else f"another frame of trigger {trigger.trigger_id!r:.80} may still come"
        why = f"whose trigger it is cannot be told: {what}, and no captured_utc_ns"
        return Match(replace(frame, trigger_id=None), refusal=why)
    if (is_by_order or trigger.is_reused) and 0 < frame.captured_utc_ns < trigger.told_utc_ns:
        why = f"captured before trigger {trigger.trigger_id!r:.80} was told"
        return Match(replace(frame, trigger_id=None), refusal=why)
    if is_by_order and frame.captured_utc_ns > trigger.last_utc_ns:
        return Match(frame, refusal=f"captured after the time of trigger {trigger.trigger_id!r:.80} was over")
    ours = replace(frame, trigger_id=trigger.trigger_id, part_id=trigger.part_id or frame.part_id)
    if trigger.part_id is not None and frame.part_id not in (None, trigger.part_id):
        why = f"part_id: must be the trigger's, {trigger.part_id!r:.80}, got {frame.part_id!r:.80}"
        return Match(ours, trigger.number, why)
    return Match(ours, trigger.number)


def refuse_frame(frame: Frame, triggers: Iterable[Trigger | None]) -> Match:
    """A frame of a trigger that waits for none: answered without the id, whose one verdict is another.

    `triggers` are the one it names, or, where it names none, the camera's last.
    """
    surplus_of = next((each.number for each in triggers if each is not None and _may_be_of(frame, each)), None)
    if frame.trigger_id is None:
        return Match(frame, refusal="no trigger is announced that waits for a frame", surplus_of=surplus_of)
    why = f"trigger {frame.trigger_id!r:.80} is not open: never told, answered already, or it has its frame"
    return Match(replace(frame, trigger_id=None), refusal=why, surplus_of=surplus_of)


def _may_be_of(frame: Frame, trigger: Trigger) -> bool:
    """Whether the time of capture does not speak against it."""
    if not frame.captured_utc_ns:
        return True
    is_late = frame.trigger_id is None and frame.captured_utc_ns > trigger.last_utc_ns
    return trigger.told_utc_ns <= frame.captured_utc_ns and not is_late
