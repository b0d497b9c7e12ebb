"""What a station file says of a part that several cameras see."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, field_validator

from inspector.strict.base import Name, Strict


class Part(Strict):
    """A kind of part that several cameras see: their views together get one verdict, on the topic `part/NAME`."""

    cameras: Annotated[tuple[Name, ...], Field(min_length=2)]
    """The cameras that see it, each once: a PASS needs a PASS of all of them. A camera is of one part at most."""
    by: Literal["part_id", "trigger_id"] = "part_id"
    """What views of one part have in common: the id that their frames, or the triggers of these, carry. A frame
    without it is answered ERROR NO_PART_ID.
    """
    window_ms: Annotated[int, Field(ge=1)]
    """From the reception of the first view to the part's verdict; at least the `deadline_ms` of each of its cameras.
    What has no verdict by then makes the part ERROR VIEW_MISSING or VIEW_LATE.
    """

    @field_validator("cameras")
    @classmethod
    def _once(cls, cameras: tuple[str, ...]) -> tuple[str, ...]:
        doubled = [camera for camera, count in Counter(cameras).items() if count > 1]
        if doubled:
            raise ValueError(f"must name each camera once, got {', '.join(doubled)} more than once")
        return cameras
