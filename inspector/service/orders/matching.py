"""A trigger that was told, and whose a frame is that came."""

from __future__ import annotations

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
        is_reused: its id is one that a trigger had before: a frame of that one may still come.
    """

    camera: str
    trigger_id: str
    part_id: str | None
    timeout_ms: int
    told_utc_ns: int
    last_utc_ns: int
    number: int
    is_reused: bool


@dataclass(frozen=True, slots=True)
class Match:
    """Whose a frame is.

    Attributes:
        frame: with the ids it is answered with.
        number: of the trigger's ticket; None: it is no trigger's.
        refusal: why it is not judged; None: it is.
        waits_ms: how long it waits for its announcement; None: it does not.
    """

    frame: Frame
    number: int | None = None
    refusal: str | None = None
    waits_ms: int | None = None


def match_frame(frame: Frame, trigger: Trigger) -> Match:
    """A frame and the open trigger that it may be of: by its id, or, where it has none, by order and time."""
    is_by_order = frame.trigger_id is None
    if is_by_order and not frame.captured_utc_ns:
        return Match(frame, refusal="whose trigger it is cannot be told: no trigger_id, and no captured_utc_ns")
    if (is_by_order or trigger.is_reused) and frame.captured_utc_ns and frame.captured_utc_ns < trigger.told_utc_ns:
        why = f"captured before trigger {trigger.trigger_id!r:.80} was told"
        return Match(replace(frame, trigger_id=None), refusal=why)
    if is_by_order and frame.captured_utc_ns > trigger.last_utc_ns:
        return Match(frame, refusal=f"captured after the time of trigger {trigger.trigger_id!r:.80} was over")
    ours = replace(frame, trigger_id=trigger.trigger_id, part_id=trigger.part_id or frame.part_id)
    if trigger.part_id is not None and frame.part_id not in (None, trigger.part_id):
        why = f"part_id: must be the trigger's, {trigger.part_id!r:.80}, got {frame.part_id!r:.80}"
        return Match(ours, trigger.number, why)
    return Match(ours, trigger.number)
