"""What a station file says of all that a station keeps and shows: overlays, evidence, journal, logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ByteSize, Field

from inspector.strict.base import Strict


class Overlays(Strict):
    """Pictures for people, on the overlays socket."""

    frames: Literal["fail", "all", "none"] = "fail"
    """Which frames are drawn: those that FAIL, all, or none."""
    width: Annotated[int, Field(ge=160, le=8192)] = 1280
    """Of the picture, in pixels; its height follows the frame's aspect."""
    quality: Annotated[int, Field(ge=1, le=100)] = 85
    """Of the JPEG."""


class Evidence(Strict):
    """Images of what was not passed, original pixels, each with its result beside it; oldest PASS evicted first."""

    frames: Literal["all", "none"] = "all"
    """`all`: every FAIL and ERROR but OFFLINE, each PASS with a warning, and one PASS in `pass_every`."""
    pass_every: Annotated[int, Field(ge=0)] = 100
    """One PASS in so many is kept, counted for each camera. 0: only those with a warning."""
    format: Literal["png", "jpeg"] = "png"
    """`png` is lossless. With `jpeg` 16-bit frames are still kept as PNG."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of the JPEG, where `format` is `jpeg`."""
    max_bytes: ByteSize = ByteSize(20 * 1024**3)
    """What all cameras may use together. The oldest PASS is deleted first, then the oldest of the rest."""
    min_free: ByteSize = ByteSize(1024**3)
    """With less than this left on the disk nothing is kept, and the state is DEGRADED."""
    buffer: ByteSize = ByteSize(256 * 1024**2)
    """Memory of the images that wait to be written; more is dropped and counted."""


class Journal(Strict):
    """How long verdicts stay on record; the oldest go first."""

    keep_days: Annotated[float, Field(gt=0)] | None = 365.0
    """Age at which results go, by a clock that is known to be right. null: any age."""
    max_bytes: ByteSize | None = ByteSize(10 * 1024**3)
    """Size of the journal above which the oldest results go. null: any size."""


class Logging(Strict):
    """What is written to stderr, and how."""

    format: Literal["text", "keyvalue", "json"] = "text"
    """`text` for people, `keyvalue` (logfmt) or `json`, one line a record."""
    level: Literal["debug", "info", "warning"] = "info"
    """The lowest level that is written."""
    ring: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Lines below the level that are kept in memory, and written at a fault or by SIGUSR1. 0: none."""
