"""What a station file says of a camera's source: what every kind has, beside the fields of its own.

A kind of source is one file here: its settings, what they build, and a line in `registry`. A field with an example is
written with it by `inspector init`; each one that has no default needs one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, Self

from inspector.sources.base import Source
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.strict.base import Strict
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
