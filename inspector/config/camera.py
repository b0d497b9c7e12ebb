"""What a station file says of a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from inspector.config.devices import NumberedDevice
from inspector.sources.registry import AnySource
from inspector.sources.settings import LineScan
from inspector.sources.zmq import ZmqSettings
from inspector.strict.base import Strict


def _refuse_other_ages(value: object) -> object:
    if value is None or value == "deadline" or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be a whole number of milliseconds from 1, or deadline, or null")


class Camera(Strict):
    """One camera: where its frames come from, what judges them, and by when."""

    recipe: Path | None = None
    """Folder of the recipe, made by `inspector train`. null: each frame is answered ERROR NO_RECIPE."""
    source: AnySource = ZmqSettings()
    """Where its frames come from. No two cameras may be fed by one sender, folder or device."""
    device: NumberedDevice | None = None
    """Which of the station's devices judges it. null: of several, the one with the fewest cameras."""
    deadline_ms: Annotated[int, Field(ge=1)] = 2000
    """From reception to the published verdict. A frame without one by then is answered ERROR DEADLINE."""
    max_age_ms: Annotated[
        Annotated[int, Field(ge=1)] | Literal["deadline"] | None, BeforeValidator(_refuse_other_ages)
    ] = "deadline"
    """How old a frame may be when it comes, from capture to reception by both clocks; an older one is answered ERROR
    STALE. A number holds for all frames: those that do not say when they were captured are STALE too. `deadline`: as
    `deadline_ms`, for frames that say when; others are judged. null: a frame of any age is judged.
    """
    expected_fps: Annotated[float, Field(gt=0)] | None = None
    """Frames per second that the line should send. It is told to the metrics, for alerts, and judges nothing."""
    triggers: Annotated[Literal["software", "hardware"] | None, Field(validate_default=True)] = None
    """Triggers that are told to the station, each of which gets one verdict. `software`: the request `trigger` fires
    the camera; its source must be `zmq` or `imagezmq`, whose program is told over the results socket, or a GenICam
    camera with `trigger: request`. `hardware`: `announce` tells one that comes. A frame whose trigger is not open is
    answered ERROR TRIGGER_MISMATCH. null: the trigger ids of frames are handed on, whatever they are.
    """
    announce_within_ms: Annotated[int, Field(ge=1)] | None = None
    """Of a camera with `triggers: hardware`: how long a frame without an id waits for its announcement, which then says
    when the signal was given. Only then it is judged. null: a trigger must be announced before its signal.
    """
    line_scan: LineScan | None = None
    """Its pictures are strips of a web, of any number of lines, and are put together to frames that overlap. null: they
    are frames."""
    simulated: bool = False
    """true: its frames show no real parts. Results say so, and `inspector.client` lets no part through for them."""

    @field_validator("triggers")
    @classmethod
    def _can_be_fired(cls, triggers: str | None, info: ValidationInfo) -> str | None:
        source = info.data.get("source")  # missing where it is at fault
        if triggers == "software" and source is not None and not source.can_be_fired:
            raise ValueError(
                "software needs a source of type zmq or imagezmq, whose program is told, or a GenICam camera with "
                f"trigger: request, got {source.type}"
            )
        if triggers != "software" and source is not None and source.must_be_fired:
            raise ValueError(f"must be software where source.trigger is request, got {triggers or 'null'}")
        return triggers

    @field_validator("announce_within_ms")
    @classmethod
    def _leaves_time(cls, within_ms: int | None, info: ValidationInfo) -> int | None:
        deadline_ms = info.data.get("deadline_ms")  # missing where it is at fault
        if within_ms is None or deadline_ms is None or "triggers" not in info.data:
            return within_ms
        if info.data["triggers"] != "hardware":
            raise ValueError(f"must be left out unless triggers is hardware, got {within_ms}")
        if within_ms >= deadline_ms:
            raise ValueError(f"must be less than deadline_ms, {deadline_ms}: no time is left to judge, got {within_ms}")
        return within_ms

    @property
    def gives_ids(self) -> bool:
        """Whether its frames can carry a part's or trigger's id: the sender's, or that of a trigger."""
        return self.line_scan is None and (self.triggers is not None or self.source.carries_ids)

    @field_validator("line_scan")
    @classmethod
    def _fits_source(cls, line_scan: LineScan | None, info: ValidationInfo) -> LineScan | None:
        if line_scan is None:
            return None
        if info.data.get("triggers") is not None:
            raise ValueError("must be null where triggers is set: frames of a web have no trigger")
        source = info.data.get("source")  # missing where it is at fault
        if line_scan.numbered and source is not None and not source.numbers_frames:
            raise ValueError(
                f"numbered must be false with a source of type {source.type}, which does not tell lost frames"
            )
        return line_scan

    @property
    def age_limit_ms(self) -> int | None:
        """How old a frame may be that says when it was captured; None: any."""
        return self.deadline_ms if self.max_age_ms == "deadline" else self.max_age_ms

    def anchor(self, folder: Path) -> Camera:
        """With its relative paths made `folder`'s."""
        recipe = None if self.recipe is None else folder / self.recipe
        return self.model_copy(update={"recipe": recipe, "source": self.source.anchor(folder)})

    def explain_age(self, captured_utc_ns: int, received_utc_ns: int) -> str | None:
        """Why a frame may not be judged for its age, by the sender's clock (0: unknown) and ours; None: it may."""
        limit_ms = self.age_limit_ms
        if limit_ms is None:
            return None
        if not captured_utc_ns:
            required = f"captured_utc_ns: required, since max_age_ms is {limit_ms}; got none"
            return None if self.max_age_ms == "deadline" else required
        age_ms = (received_utc_ns - captured_utc_ns) / 1e6
        if abs(age_ms) <= limit_ms:
            return None
        limit = f"{limit_ms} (as deadline_ms)" if self.max_age_ms == "deadline" else f"{limit_ms}"
        clocks = f"the clocks differ by more than max_age_ms, {limit}"
        advice = "synchronise them (NTP, PTP), or set max_age_ms"
        if age_ms > 0:
            why = "it was delayed on the way, or the clocks differ"
            return f"captured {age_ms:.0f} ms before it arrived; max_age_ms is {limit}: {why}: {advice}"
        return f"captured {-age_ms:.0f} ms after it arrived: {clocks}: {advice}"
