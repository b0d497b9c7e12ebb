"""What a station file says of a camera's source: what every kind has, beside the fields of its own.

A kind of source is one file here: its settings, what they build, and a line in `registry`. A field with an example is
written with it by `inspector init`; each one that has no default needs one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Protocol, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from inspector.sources.base import Source
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.strict.base import Size, Strict
from inspector.strict.claims import Claim
from inspector.types import PixelFormat


class AgeDoubt(NamedTuple):
    """Why a frame may be older than its time of capture says.

    Attributes:
        problem: what is not known, and what follows.
        fix: what to do about it.
        never_dated: why none of its frames says when it was captured; empty where some do.
        by_default_only: a `max_age_ms` in numbers settles it.
    """

    problem: str
    fix: str
    never_dated: str = ""
    by_default_only: bool = False


class Device(NamedTuple):
    """A camera that a library sees.

    Attributes:
        address: what the station file calls it.
        name: what people call it: make, model, serial number.
    """

    address: int | str
    name: str


class LineScan(Strict):
    """How lines of a web (foil, steel, paper) become frames: see `sources.strips`."""

    frame_lines: Size
    """Lines of a frame. The recipe must be trained with frames of so many lines."""
    overlap_lines: Annotated[int, Field(ge=0)]
    """Lines that a frame has in common with the one before. A defect of up to so many lines is whole in one of them."""
    line_pitch_um: Annotated[float, Field(gt=0)] | None = None
    """From one line to the next, along the web, in micrometres. null: results say where a defect is in lines only."""
    numbered: bool = True
    """true: the strips' `frame_id` ends in a number that rises by one; where it does not, lines were lost. false: only
    the encoder tells; `encoder_divider` is required then."""
    encoder_divider: float | None = None
    """Encoder counts from one line to the next; below 0: it counts down. Each strip must have an `encoder_value` then,
    and where it does not fit the lines since the strip before, lines were lost. null: the encoder is not looked at."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """How long no line may come before those that wait for a full frame are judged, with lines of the frame before."""

    @field_validator("overlap_lines")
    @classmethod
    def _less_than_a_frame(cls, overlap_lines: int, info: ValidationInfo) -> int:
        frame_lines = info.data.get("frame_lines")  # missing where it is at fault
        if frame_lines is not None and overlap_lines >= frame_lines:
            raise ValueError(f"must be less than frame_lines, {frame_lines}")
        return overlap_lines

    @model_validator(mode="after")
    def _tells_gaps(self) -> Self:
        if self.encoder_divider is not None and not 0.001 <= abs(self.encoder_divider) <= 1_000_000:
            raise ValueError("encoder_divider: must be from 0.001 to 1000000 counts, up or down")
        if not self.numbered and self.encoder_divider is None:
            raise ValueError("encoder_divider: required where numbered is false: nothing else would tell lost lines")
        return self


class SourceSettings(Strict):
    """Settings of one kind, told apart by `type`.

    Attributes:
        is_exclusive: only one process can have it open: a check leaves it alone while a daemon runs.
        device_field: the field that names a device of `find_devices`; empty: it looks for none.
    """

    is_exclusive: ClassVar[bool] = False
    device_field: ClassVar[str] = ""

    type: str
    """The kind of source."""
    numbers_frames: ClassVar[bool] = True
    """Whether a frame that was lost is known by the numbers of the others, or is counted in `losses`."""

    @property
    def folder(self) -> Path | None:
        """What the daemon's user must be able to read; None: no files."""
        return None

    @property
    def can_be_fired(self) -> bool:
        """Whether a trigger that is told makes it take a frame."""
        return self.is_sent or self.must_be_fired

    @property
    def must_be_fired(self) -> bool:
        """Whether no frame comes without a trigger that is told."""
        return False

    @property
    def is_sent(self) -> bool:
        """Whether its frames are sent to the station's own sockets; else it has a source of its own."""
        return False

    @property
    def carries_ids(self) -> bool:
        """Whether its frames may say of which part or trigger they are."""
        return self.can_be_fired

    @property
    def age_doubt(self) -> AgeDoubt | None:
        """None: its frames say when they were captured, or that they do not."""
        return None

    def anchor(self, folder: Path) -> Self:
        """The same settings, with relative paths resolved against `folder`."""
        return self

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        """What no other camera may have; relative paths are `folder`'s."""
        yield from ()

    @classmethod
    def find_devices(cls) -> Iterator[Device]:
        """The cameras that there are, those in use too.

        Raises:
            ConfigError: the library that would see them is not installed.
            NotConnectedError: it cannot look for them.
        """
        yield from ()

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source | None:
        """The source; None: its frames come over the station's own sockets, see `ListeningSettings`.

        Args:
            camera: whose frames it delivers.
            simulated: they are no parts of the line.
            memory: of files that became frames before.
        """
        return None


class ListeningSettings(SourceSettings):
    """Of frames that others send to the station's sockets, which all such cameras share (`zmq.ZmqSource`)."""

    pixel_format: PixelFormat

    @property
    def is_sent(self) -> bool:
        return True

    def name_sender(self, camera: str) -> str | None:
        """The text by which its sender names itself instead of the camera; None: it names the camera."""
        return None


class Sourced(Protocol):
    """A camera, as far as its source is concerned (`config.Camera`, which is built upon this room)."""

    @property
    def source(self) -> SourceSettings:
        """Settings of the source that delivers the camera's frames."""

    @property
    def simulated(self) -> bool:
        """Whether its frames are no parts of the line."""

    @property
    def line_scan(self) -> LineScan | None:
        """How its pictures, which are strips of a web, become frames; None: they are frames."""
