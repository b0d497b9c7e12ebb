"""What travels between threads: frozen, slotted dataclasses and the closed sets they use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
"""Version of the wire protocol (header, result, status)."""


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
    BAD_FRAME = 20
    FRAME_MISMATCH = 21
    REPEATED_FRAME = 22
    IMAGE_HEALTH = 23
    UNLIKE_GOOD = 24
    INFERENCE_FAULT = 30
    NOT_FINITE = 31
    OUT_OF_MEMORY = 32
    NOT_READY = 40
    NO_RECIPE = 41
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
        "There was no verdict, or none on record, within the camera's `deadline_ms`.",
        "See which stage takes the time (`inspector_stage_duration_seconds`); send fewer frames or raise the deadline.",
    ),
    Reason.STALE: Meaning(
        Verdict.ERROR,
        "The frame was captured longer ago than the camera's `max_age_ms`, or later than now by as much; or it does "
        "not say when, where `max_age_ms` is a number.",
        "Synchronise the sender's clock with the station's; see what holds frames back on the way.",
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


class PixelFormat(StrEnum):
    """Names of the GenICam Pixel Format Naming Convention (EMVA PFNC 2.4)."""

    RGB8 = "RGB8"
    BGR8 = "BGR8"
    MONO8 = "Mono8"
    MONO16 = "Mono16"


@dataclass(frozen=True, slots=True)
class Frame:
    """One image as a source delivered it.

    Attributes:
        camera: name of the camera in the station file.
        frame_id: the sender's name for this image; made by the source where the sender gives none.
        pixels: (H, W, 3) uint8 for RGB8 and BGR8, (H, W) uint8 for Mono8, (H, W) uint16 for Mono16.
            None when the message named its camera but its pixels could not be read: `error` says why.
        captured_utc_ns: when the sender took it, by the sender's clock; 0 where unknown.
        received_utc_ns: when it reached this process, wall clock, for people.
        received_monotonic_ns: the same instant on the monotonic clock, for deadlines.
        decode_ms: time spent on decoding, in milliseconds.
        error: why `pixels` is None, in words.
        error_reason: the same, for the verdict.
    """

    camera: str
    frame_id: str
    pixels: np.ndarray[Any, Any] | None
    pixel_format: PixelFormat
    received_utc_ns: int
    received_monotonic_ns: int
    captured_utc_ns: int = 0
    part_id: str | None = None
    trigger_id: str | None = None
    simulated: bool = False
    decode_ms: float = 0.0
    error: str | None = None
    error_reason: Reason = Reason.BAD_FRAME

    @property
    def nbytes(self) -> int:
        """Bytes of pixel memory this frame holds."""
        return 0 if self.pixels is None else self.pixels.nbytes


class Fallback(StrEnum):
    """Why an engine is slower than this machine would allow; said in status, metrics and `check`."""

    NONE = "none"
    NO_PROBE = "no_probe"
    PRECISION_REFUSED = "precision_refused"
    NOT_COMPILED = "not_compiled"
    EAGER = "eager"

    @property
    def explanation(self) -> str:
        """What is missing, and what to do about it; empty for `NONE`."""
        return _EXPLANATIONS.get(self, "")


_EXPLANATIONS = {
    Fallback.NO_PROBE: "fp32 runs: the recipe has no probe to prove a faster precision on; run inspector calibrate",
    Fallback.PRECISION_REFUSED: "fp32 runs: a faster precision moves the scores too far; the log says how far",
    Fallback.NOT_COMPILED: "torch's own kernels run: torch.compile failed; install gcc and python3-dev, see the log",
    Fallback.EAGER: "the network runs operation by operation: OpenVINO cannot run it; see the log",
}


@dataclass(frozen=True, slots=True)
class Region:
    """One connected area above the threshold, in sensor pixels (the frame as the camera took it).

    Attributes:
        xyxy: left, top, right, bottom; right and bottom are exclusive.
        peak: highest value of the anomaly map inside.
        area: pixels above the threshold, in sensor pixels.
    """

    xyxy: tuple[int, int, int, int]
    peak: float
    area: int


@dataclass(frozen=True, slots=True)
class Result:
    """The one verdict on one frame, as it goes to the journal and onto the wire.

    Attributes:
        warn: it is PASS with a score in the recipe's warn band, just below the threshold.
        recorded: it was in the journal when it was published; only an ERROR may leave before that.
    """

    station: str
    boot_id: str
    seq: int
    camera: str
    frame_id: str
    part_id: str | None
    trigger_id: str | None
    verdict: Verdict
    reason: Reason
    score: float | None
    threshold: float | None
    regions: tuple[Region, ...]
    captured_utc_ns: int
    received_utc_ns: int
    published_utc_ns: int
    deadline_ms: int
    latency_ms: dict[str, float] = field(default_factory=dict)
    recipe_id: str | None = None
    recipe_sha256: str | None = None
    model_sha256: str | None = None
    simulated: bool = False
    replay: bool = False
    message: str | None = None
    warn: bool = False
    recorded: bool = True

    @property
    def margin(self) -> float | None:
        """Score minus threshold: above zero is a reject. None where nothing was judged."""
        if self.score is None or self.threshold is None:
            return None
        return self.score - self.threshold

    def to_wire(self) -> dict[str, Any]:
        """The JSON object sent on the results socket; every key is always present."""
        wire = dataclasses.asdict(self)
        wire["verdict"] = self.verdict.value
        wire["reason"] = self.reason.name
        return {"schema": SCHEMA, **wire, "reason_code": int(self.reason), "margin": self.margin}
