"""What travels between threads: frozen, slotted dataclasses and the closed sets they use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from inspector.reasons import Reason, Verdict

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "PART_PREFIX",
    "SCHEMA",
    "Fallback",
    "FileVersion",
    "Frame",
    "PixelFormat",
    "Reason",
    "Region",
    "Result",
    "TakenFile",
    "Verdict",
    "View",
    "Web",
]

SCHEMA = 1
"""Version of the wire protocol (header, result, status)."""
PART_PREFIX = "part/"
"""A part is named `part/NAME` where a frame has its camera's name, which holds no `/`: in results, topics, journal."""


class PixelFormat(StrEnum):
    """Names of the GenICam Pixel Format Naming Convention (EMVA PFNC 2.4)."""

    RGB8 = "RGB8"
    BGR8 = "BGR8"
    MONO8 = "Mono8"
    MONO16 = "Mono16"


class FileVersion(NamedTuple):
    """What tells a file that was written anew from the one before.

    Attributes:
        size: in bytes.
        modified_ns: when it was last written to, since 1970, by the clock of its disk.
    """

    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A file that a camera's frame was read from.

    Attributes:
        name: within the camera's folder.
        version: None: it is gone, and to be forgotten.
    """

    camera: str
    name: str
    version: FileVersion | None


@dataclass(frozen=True, slots=True)
class Web:
    """Which lines of a web (foil, steel, paper) a frame shows: see `sources.strips`.

    Lines are counted from 0, where the web or the station began; of two numbers, the second is exclusive.

    Attributes:
        run: lines of one run follow each other without a gap; another run is another number.
        y: the frame's lines.
        owned: those of them that no frame of the web before had: of all frames together, each line once.
        encoder_value: the encoder's count at the frame's first line; None: nobody told it.
        line_pitch_um: from one line to the next, in micrometres; None: not known.
    """

    run: int
    y: tuple[int, int]
    owned: tuple[int, int]
    encoder_value: int | None = None
    line_pitch_um: float | None = None


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
        files: where it came from, if it is to be remembered that these files became frames.
        encoder_value: what the encoder counted at its first line; None: the sender does not say.
        web: its lines of a web; None: it shows none, or they are not known.
        began_monotonic_ns: when the oldest of its lines reached this process; 0: all came at once.
        has_repeats: lines of it are, byte for byte, those that came before them: see `service.flow.repeats`.
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
    files: tuple[TakenFile, ...] = ()
    encoder_value: int | None = None
    web: Web | None = None
    began_monotonic_ns: int = 0
    has_repeats: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of pixel memory this frame holds."""
        return 0 if self.pixels is None else self.pixels.nbytes


class Fallback(StrEnum):
    """Why an engine is slower than this machine would allow; said in status, metrics and `check`."""

    NONE = "none"
    NO_PROBE = "no_probe"
    PRECISION_REFUSED = "precision_refused"
    NOT_FUSED = "not_fused"
    NOT_COMPILED = "not_compiled"
    EAGER = "eager"

    @property
    def explanation(self) -> str:
        """What is missing, and what to do about it; empty for `NONE`."""
        return _EXPLANATIONS.get(self, "")


_EXPLANATIONS = {
    Fallback.NO_PROBE: "fp32 runs: the recipe has no probe to prove a faster precision on; run inspector calibrate",
    Fallback.PRECISION_REFUSED: "fp32 runs: a faster precision moves the scores too far; the log says how far",
    Fallback.NOT_FUSED: "compiled kernels run: fused ones are wrong, slower or not to be had here; see the log",
    Fallback.NOT_COMPILED: (
        "torch's own kernels run, for all or before and after fused ones: torch.compile failed, or was wrong; "
        "install gcc and python3-dev, see the log"
    ),
    Fallback.EAGER: "the network runs operation by operation: OpenVINO cannot run it; see the log",
}


@dataclass(frozen=True, slots=True)
class Region:
    """One connected area above the threshold, in sensor pixels (the frame as the camera took it).

    Attributes:
        xyxy: left, top, right, bottom; right and bottom are exclusive.
        peak: highest value of the anomaly map inside.
        area: pixels above the threshold, in sensor pixels.
        web_y: top and bottom in lines of the web, as in `Web`; None: the frame is of none.
        web_mm: the same in millimetres from its line 0; None: the line pitch is not known.
        defect: number of the web's defect: seen again by the next frame, it has the same one.
    """

    xyxy: tuple[int, int, int, int]
    peak: float
    area: int
    web_y: tuple[int, int] | None = None
    web_mm: tuple[float, float] | None = None
    defect: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What one camera of a part said of it.

    Attributes:
        frame_id: None: no frame came.
        seq: number of the camera's result; None, as all after it: none left before the part was decided.
    """

    camera: str
    frame_id: str | None
    seq: int | None = None
    verdict: Verdict | None = None
    reason: Reason | None = None
    score: float | None = None
    threshold: float | None = None

    def to_wire(self) -> dict[str, Any]:
        """The JSON object in a part's result."""
        reason = None if self.reason is None else self.reason.name
        return dataclasses.asdict(self) | {"reason": reason}


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the part lies against the recipe's reference picture, in sensor pixels.

    The part is turned about the frame's middle and scaled, then shifted.

    Attributes:
        dx_px, dy_px: the shift, right and down.
        angle_deg: the turn, clockwise as seen in the picture.
        scale: above 1 it is larger than in the reference.
        score: correlation with the reference, at most 1.
    """

    dx_px: float
    dy_px: float
    angle_deg: float
    scale: float
    score: float


@dataclass(frozen=True, slots=True)
class Result:
    """The one verdict on one frame or part, as it goes to the journal and onto the wire.

    Attributes:
        camera: the camera's name, or the part's: `part/NAME`.
        views: of a part, one for each of its cameras; empty after a restart, and of frames.
        warn: it is PASS with a score in the recipe's warn band, just below the threshold.
        pose: where the part lay, of recipes with a fixture; None where it was not located.
        recorded: it was in the journal when it was published; only an ERROR may leave before that.
        web: the lines of a web that it is about; None: of none.
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
    pose: Pose | None = None
    recorded: bool = True
    views: tuple[View, ...] = ()
    web: Web | None = None

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
        wire["views"] = [view.to_wire() for view in self.views]
        return {"schema": SCHEMA, **wire, "reason_code": int(self.reason), "margin": self.margin}
