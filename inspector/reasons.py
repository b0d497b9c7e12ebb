"""Verdicts, and the reasons they have: the integers that go to PLCs, and what each means."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """Only PASS means "let the part through"."""

    PASS = "PASS"  # noqa: S105 (a verdict, not a password)
    FAIL = "FAIL"
    ERROR = "ERROR"


class Reason(IntEnum):
    """Why a verdict is what it is. The integers go to PLCs and never change their meaning."""

    OK = 0
    DEFECT = 1
    OVERLOAD = 10
    DEADLINE = 11
    STALE = 12
    NO_FRAME = 13
    VIEW_MISSING = 14
    VIEW_LATE = 15
    LINES_MISSING = 16
    NOT_LOCATED = 17
    BAD_FRAME = 20
    FRAME_MISMATCH = 21
    REPEATED_FRAME = 22
    IMAGE_HEALTH = 23
    UNLIKE_GOOD = 24
    TRIGGER_MISMATCH = 25
    VIEW_DOUBLED = 26
    VIEW_MISMATCH = 27
    NO_PART_ID = 28
    VIEW_ERROR = 29
    INFERENCE_FAULT = 30
    NOT_FINITE = 31
    OUT_OF_MEMORY = 32
    NOT_READY = 40
    NO_RECIPE = 41
    OFFLINE = 42
    SHUTDOWN = 50
    RESTART = 51


class Meaning(NamedTuple):
    """What a reason says to people.

    Attributes:
        verdict: the one it goes with.
        text: when it is given.
        fix: what to do about it; empty where nothing is wrong.
    """

    verdict: Verdict
    text: str
    fix: str = ""


MEANINGS: Mapping[Reason, Meaning] = {
    Reason.OK: Meaning(Verdict.PASS, "The frame was judged, and its score is not above the threshold."),
    Reason.DEFECT: Meaning(Verdict.FAIL, "The frame was judged, and its score is above the threshold."),
    Reason.OVERLOAD: Meaning(
        Verdict.ERROR,
        "The frame buffer was full, or too many frames wait for the disk.",
        "Send fewer frames than `inspector bench` says the device can judge, or raise `buffer.max_bytes` for bursts.",
    ),
    Reason.DEADLINE: Meaning(
        Verdict.ERROR,
        "There was no verdict, or none on record, within the camera's `deadline_ms`, or the part's `window_ms`.",
        "See which stage takes the time (`inspector_stage_duration_seconds`); send fewer frames or raise the deadline.",
    ),
    Reason.STALE: Meaning(
        Verdict.ERROR,
        "The frame was captured longer ago than the camera's `max_age_ms`, or later than now by as much; or it does "
        "not say when, where `max_age_ms` is a number.",
        "Synchronise the sender's clock with the station's; see what holds frames back on the way.",
    ),
    Reason.NO_FRAME: Meaning(
        Verdict.ERROR,
        "A trigger was told, and no frame of it came within its `timeout_ms`.",
        "Look at camera, cable and lamp, and whether the camera program runs and answers `trigger/<camera>`.",
    ),
    Reason.VIEW_MISSING: Meaning(
        Verdict.ERROR,
        "A part's `window_ms` is over, and no frame of one of its cameras came.",
        "The message names the cameras. Look at their triggers and cables, and at the ids that their frames carry.",
    ),
    Reason.VIEW_LATE: Meaning(
        Verdict.ERROR,
        "Of a part: one of its views had no verdict by the end of `window_ms`. Of a frame: it is a view of a part that "
        "has its verdict.",
        "See which camera comes late; raise `window_ms`. Give each part an id that no other has within 10 minutes.",
    ),
    Reason.LINES_MISSING: Meaning(
        Verdict.ERROR,
        "Lines of a web were lost, damaged or too few for a frame, and lines before them were not judged. Only cameras "
        "with `line_scan` have it.",
        "The result's `message` says why, its `web` which lines: look at the camera, its cable, the network and the "
        "encoder. Inspect that stretch again.",
    ),
    Reason.NOT_LOCATED: Meaning(
        Verdict.ERROR,
        "The part does not fit the recipe's reference picture well enough, is turned further than it may be, or part "
        "of the region of interest lies outside the frame. Only recipes with a `fixture` have it.",
        "Look at the frame in the evidence: correct the part's position or the trigger, or the camera's recipe.",
    ),
    Reason.BAD_FRAME: Meaning(
        Verdict.ERROR,
        "The pixels do not decode, do not fit their header, or claim more than `sockets.max_message`.",
        "The result's `message` says what is wrong; correct the sender.",
    ),
    Reason.FRAME_MISMATCH: Meaning(
        Verdict.ERROR,
        "The frame has another size or pixel format than the recipe's.",
        "Set the camera as it was when the good frames were taken, or train a recipe for what it sends now.",
    ),
    Reason.REPEATED_FRAME: Meaning(
        Verdict.ERROR,
        "The pixels are, byte for byte, those of the camera's last frame.",
        "The camera or its driver hangs: start it again. A sender that sends a frame again gives the same `frame_id`, "
        "part, trigger and time of capture.",
    ),
    Reason.IMAGE_HEALTH: Meaning(
        Verdict.ERROR,
        "Light, contrast, focus or colour is not that of good frames, or pixels carry nothing.",
        "Look at lamp, lens and exposure. If it is meant to be so, run `inspector calibrate` with new good frames.",
    ),
    Reason.UNLIKE_GOOD: Meaning(
        Verdict.ERROR,
        "The frame as a whole looks like no good one: no part, another one, moved, turned or cut off; or it differs by "
        "as much as a large defect would, and the network finds none.",
        "Look at the frame in the evidence: correct the part's position or the trigger, or the camera's recipe.",
    ),
    Reason.TRIGGER_MISMATCH: Meaning(
        Verdict.ERROR,
        "The frame's trigger is not open (never told, answered already, or it has its frame), cannot be told, or is "
        "for another part. Only cameras with `triggers` have it.",
        "The result's `message` says which. Give each trigger an id of its own, and a `timeout_ms` the camera keeps.",
    ),
    Reason.VIEW_DOUBLED: Meaning(
        Verdict.ERROR,
        "A camera gave two views of one part: the second one, and the part, are answered so.",
        "Look for triggers that come twice, for senders that repeat frames, and for ids that are given twice.",
    ),
    Reason.VIEW_MISMATCH: Meaning(
        Verdict.ERROR,
        "The views of one trigger carry different part ids: the frame that differs, and the part, are answered so.",
        "The message names both ids and cameras. Look where the line counts a part too many or too few.",
    ),
    Reason.NO_PART_ID: Meaning(
        Verdict.ERROR,
        "The frame is of a camera of a part, and does not say of which one: it has no `part_id`, or no `trigger_id` "
        "where the part goes `by` that.",
        "Have the sender give the id; a trigger's `part_id` is its frame's.",
    ),
    Reason.VIEW_ERROR: Meaning(
        Verdict.ERROR,
        "All views of the part came, none of them is FAIL, and at least one was answered ERROR.",
        "The message names the views and their reasons: see those.",
    ),
    Reason.INFERENCE_FAULT: Meaning(
        Verdict.ERROR,
        "The device or the network failed.",
        "The station starts again by itself. If it comes back, look at driver, temperature and memory of the GPU.",
    ),
    Reason.NOT_FINITE: Meaning(
        Verdict.ERROR,
        "The anomaly map holds a value that is not a number.",
        "Run `inspector calibrate --precision fp32`; if it stays, train the recipe again.",
    ),
    Reason.OUT_OF_MEMORY: Meaning(
        Verdict.ERROR,
        "The device had no memory left, at half the tiles at once either.",
        "Lower `tile_batch`, or end what else uses the GPU.",
    ),
    Reason.NOT_READY: Meaning(
        Verdict.ERROR,
        "Recipes are being loaded, or the journal cannot be written.",
        "Wait until `/ready` answers 200. If it does not, it names what is in the way.",
    ),
    Reason.NO_RECIPE: Meaning(
        Verdict.ERROR,
        "The camera has no recipe.",
        "Name one in the station file (`cameras.NAME.recipe`) and reload, or run `inspector recipe`.",
    ),
    Reason.OFFLINE: Meaning(
        Verdict.ERROR,
        "Somebody took the camera offline, or the frame was captured or received before it was back online.",
        "Ask for `online`, or run `inspector online`, when nobody works at the camera any more.",
    ),
    Reason.SHUTDOWN: Meaning(
        Verdict.ERROR,
        "The station stopped before the frame was judged.",
        "Inspect the part again once the station runs.",
    ),
    Reason.RESTART: Meaning(
        Verdict.ERROR,
        "The station was killed before the frame was judged, and is back.",
        "Inspect the part again; see with `inspector journal events` why the station ended.",
    ),
}
"""Of each reason. docs/reference/reasons.md is written from this."""
