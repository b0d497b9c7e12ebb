"""What a station file says of any GenICam camera, whatever library reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from inspector.sources.cameras.pixels import ALIASES, Format
from inspector.sources.settings import SourceSettings
from inspector.strict.base import Strict
from inspector.strict.claims import Claim

FeatureValue = bool | int | float | str
Chunk = Literal["FrameID", "Timestamp", "EncoderValue", "CounterValue"]


_OF_TRIGGER = {"trigger_line": "line", "trigger_edge": "line", "trigger_period_s": "software"}
"""Fields that say nothing under another `trigger`."""


class WhiteBalance(Strict):
    """How much each colour is amplified, by the camera; null: left as it is."""

    red: Annotated[float, Field(gt=0)] | None = None
    """Factor of red."""
    green: Annotated[float, Field(gt=0)] | None = None
    """Factor of green."""
    blue: Annotated[float, Field(gt=0)] | None = None
    """Factor of blue."""


class GenicamSettings(SourceSettings):
    """Settings that every GenICam camera has. null: what the camera has is left as it is.

    All are written each time the camera is found, so one that lost power comes back with them. Each is read back: a
    camera that has another value afterwards is not used, and the difference is named. Numbers that a camera rounds may
    differ by 1 %.
    """

    is_exclusive = True

    user_set: Annotated[str, Field(min_length=1)] | None = None
    """Set of settings that the camera keeps, such as `UserSet1` or `Default`, loaded before all else is written."""
    pixel_format: Format | None = None
    """How the camera sends pixels. 10 and 12 bits, packed or not, become 16-bit frames with the camera's own numbers.
    Bayer patterns become RGB8, interpolated bilinearly. Of RGBa8 and BGRa8 the alpha is left out."""
    binning: Annotated[int, Field(ge=1)] | None = None
    """Pixels of the sensor, across and down, that become one. `width` and the others count what remains."""
    width: Annotated[int, Field(gt=0)] | None = None
    """Of the region that is read, in pixels."""
    height: Annotated[int, Field(gt=0)] | None = None
    """Of the region that is read, in pixels."""
    offset_x: Annotated[int, Field(ge=0)] | None = None
    """Left edge of the region, in pixels."""
    offset_y: Annotated[int, Field(ge=0)] | None = None
    """Upper edge of the region, in pixels."""
    exposure_us: Annotated[float, Field(gt=0)] | None = None
    """Exposure time in microseconds; the camera's own automatic exposure is switched off."""
    gain: Annotated[float, Field(ge=0)] | None = None
    """Gain, in the camera's unit: dB, or steps where it has `GainRaw` only; the automatic gain is switched off."""
    gamma: Annotated[float, Field(gt=0)] | None = None
    """Exponent of the camera's tone curve; 1 is none."""
    white_balance: WhiteBalance | None = None
    """Factors of the colours; the camera's own automatic balance is switched off."""
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    """Frames per second."""
    trigger: Literal["free", "software", "request", "line"] = "free"
    """free: the camera runs by itself. software: the station triggers, each `trigger_period_s`. request: the station
    triggers when the request `trigger` asks for it; `triggers` of the camera must be `software`. line: a signal does.
    """
    trigger_line: Annotated[str, Field(min_length=1)] = "Line1"
    """Input that the signal of `trigger: line` comes in at, as the camera calls it."""
    trigger_edge: Literal["RisingEdge", "FallingEdge"] = "RisingEdge"
    """Edge of the signal that triggers."""
    trigger_delay_us: Annotated[float, Field(ge=0)] | None = None
    """From the trigger to the exposure, in microseconds."""
    trigger_period_s: Annotated[float, Field(gt=0)] = 1.0
    """Time between two software triggers, in seconds; the next one waits for the frame of the one before."""
    missed_trigger_counter: Annotated[str, Field(min_length=1)] | None = None
    """Feature that counts triggers which came while the camera could take no image, such as `CounterValue`. It is read
    each second, under the selectors that `features` end with. null: none is read."""
    chunks: tuple[Chunk, ...] = ()
    """What the camera measures of an image and sends with it; an image without it is damaged. Timestamp: the time of
    capture. FrameID: images that the camera itself lost are counted. EncoderValue: the encoder's count, for
    `line_scan`. CounterValue, with `trigger: line`: the camera's count of triggers; those that it took no image for are
    counted as missed."""
    ptp: bool = False
    """true: the camera's clock follows a PTP master (IEEE 1588; GigE). false: it is left as it is."""
    features: dict[str, FeatureValue] | tuple[dict[str, FeatureValue], ...] = {}  # noqa: RUF012 (pydantic copies it)
    """Any other GenICam feature, by the name that the camera gives it; written in this order, before exposure and
    trigger. A list of such mappings may name a feature once in each, as lines that are told apart by `LineSelector`
    need it."""
    read_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """How long a running camera may send nothing before it is opened again, and a software trigger go unanswered."""

    @property
    def must_be_fired(self) -> bool:
        """See `SourceSettings`."""
        return self.trigger == "request"

    @property
    def address(self) -> str:
        """How the station file names the camera; empty: the first one found."""
        raise NotImplementedError

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        """See `SourceSettings`."""
        shown = repr(self.address) if self.address else "the first one found"
        yield Claim((camera, "source", self.device_field), f"{self.type} camera", shown, (self.type, self.address))

    @property
    def other_features(self) -> Iterator[tuple[str, FeatureValue]]:
        """All of `features`, in their order."""
        for group in (self.features,) if isinstance(self.features, dict) else self.features:
            yield from group.items()

    @model_validator(mode="after")
    def _features_of_their_own(self) -> GenicamSettings:
        own = {name for name, _ in list_features(self.model_copy(update={"features": {}}))}
        for name, _ in self.other_features:
            if name in own:
                raise ValueError(f"features: {name} is set by a field of its own")
        return self

    @model_validator(mode="after")
    def _fields_of_its_trigger(self) -> GenicamSettings:
        for name, trigger in _OF_TRIGGER.items():
            value = getattr(self, name)
            if self.trigger != trigger and value != type(self).model_fields[name].default:
                raise ValueError(f"{name}: counts only with trigger: {trigger}, got {value!r} with {self.trigger}")
        return self

    @model_validator(mode="after")
    def _chunks_that_tell(self) -> GenicamSettings:
        if len(set(self.chunks)) < len(self.chunks):
            raise ValueError(f"chunks: each may be named once, got {list(self.chunks)}")
        if "CounterValue" in self.chunks and self.trigger != "line":
            raise ValueError("chunks: CounterValue counts triggers of a line: trigger must be line")
        if "CounterValue" in self.chunks and self.missed_trigger_counter is not None:
            raise ValueError("chunks: CounterValue tells missed triggers: missed_trigger_counter must be null")
        return self


def list_features(settings: GenicamSettings) -> Iterator[tuple[str, FeatureValue]]:
    """Features to write, in an order that cameras accept: each by the first of its names, see `NAMES`."""
    if settings.user_set is not None:
        yield "UserSetSelector", settings.user_set
        yield from ((name, True) for name in COMMANDS)
    if settings.pixel_format is not None:
        yield "PixelFormat", settings.pixel_format
    yield from _list_region(settings)
    yield from _list_chunks(settings)
    yield from settings.other_features
    if settings.exposure_us is not None:
        yield "ExposureAuto", "Off"
        yield "ExposureTime", settings.exposure_us
    if settings.gain is not None:
        yield "GainAuto", "Off"
        yield "Gain", settings.gain
    if settings.gamma is not None:
        yield "GammaEnable", True
        yield "Gamma", settings.gamma
    if settings.white_balance is not None:
        yield from _list_balance(settings.white_balance)
    if settings.frame_rate is not None:
        yield "AcquisitionFrameRateEnable", True
        yield "AcquisitionFrameRate", settings.frame_rate
    if settings.ptp:
        yield "PtpEnable", True
    yield from _list_trigger(settings)


def _list_region(settings: GenicamSettings) -> Iterator[tuple[str, FeatureValue]]:
    if settings.width is not None or settings.binning is not None:
        yield "OffsetX", 0  # else a wider region may not fit
    if settings.height is not None or settings.binning is not None:
        yield "OffsetY", 0
    region = {
        "BinningHorizontal": settings.binning, "BinningVertical": settings.binning,
        "Width": settings.width, "Height": settings.height, "OffsetX": settings.offset_x, "OffsetY": settings.offset_y,
    }  # fmt: skip
    yield from ((name, value) for name, value in region.items() if value is not None)


def _list_chunks(settings: GenicamSettings) -> Iterator[tuple[str, FeatureValue]]:
    if settings.chunks:
        yield "ChunkModeActive", True
    for chunk in settings.chunks:
        yield "ChunkSelector", chunk
        yield "ChunkEnable", True


def _list_balance(balance: WhiteBalance) -> Iterator[tuple[str, FeatureValue]]:
    yield "BalanceWhiteAuto", "Off"
    for colour, factor in (("Red", balance.red), ("Green", balance.green), ("Blue", balance.blue)):
        if factor is not None:
            yield "BalanceRatioSelector", colour
            yield "BalanceRatio", factor


def _list_trigger(settings: GenicamSettings) -> Iterator[tuple[str, FeatureValue]]:
    yield "TriggerSelector", "FrameStart"
    yield "TriggerMode", "Off" if settings.trigger == "free" else "On"
    if settings.trigger != "free":
        yield "TriggerSource", settings.trigger_line if settings.trigger == "line" else "Software"
    if settings.trigger == "line":
        yield "TriggerActivation", settings.trigger_edge
    if settings.trigger_delay_us is not None:
        yield "TriggerDelay", settings.trigger_delay_us


NAMES = {
    "ExposureTime": ("ExposureTime", "ExposureTimeAbs"),
    "Gain": ("Gain", "GainRaw"),
    "AcquisitionFrameRate": ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"),
    "BalanceRatio": ("BalanceRatio", "BalanceRatioAbs"),
    "TriggerDelay": ("TriggerDelay", "TriggerDelayAbs"),
    "PtpEnable": ("PtpEnable", "GevIEEE1588"),
    "PtpStatus": ("PtpStatus", "GevIEEE1588Status"),
    "PtpDataSetLatch": ("PtpDataSetLatch", "GevIEEE1588DataSetLatch"),
    "PtpOffsetFromMaster": ("PtpOffsetFromMaster", "GevIEEE1588OffsetFromMaster"),
}
"""Names of before SFNC 2.0 that older cameras have."""
OLD_VALUES: Mapping[str, Mapping[str, str]] = {
    "PixelFormat": ALIASES,
    "ChunkSelector": {"FrameID": "Framecounter", "CounterValue": "Triggerinputcounter"},
}
"""Of features, the values of before SFNC 2.0 that older cameras have."""
COMMANDS = ("UserSetLoad",)
"""Features that are executed, and hold no value."""
OPTIONAL: Mapping[str, FeatureValue] = {
    "ExposureAuto": "Off", "GainAuto": "Off", "BalanceWhiteAuto": "Off", "OffsetX": 0, "OffsetY": 0,
    "AcquisitionFrameRateEnable": True, "GammaEnable": True, "TriggerSelector": "FrameStart", "TriggerMode": "Off",
}  # fmt: skip
"""Features without which a camera behaves as if they had these values."""
