"""The strict model of station.yaml."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inspector.config.base import Name, SchemaVersion, Strict
from inspector.config.claims import Claim, claim_text, find_conflicts
from inspector.secret import mask_secrets
from inspector.types import PixelFormat


class WhenFull(StrEnum):
    """What a full frame buffer does; a dropped frame gets its ERROR OVERLOAD."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


SOCKETS = ("frames", "results", "overlays", "requests", "imagezmq")


class Sockets(Strict):
    """ZeroMQ endpoints the daemon binds. Loopback unless there is `security`, or it says in words that it is open."""

    frames: str = "tcp://127.0.0.1:5555"
    results: str = "tcp://127.0.0.1:5556"
    overlays: str = "tcp://127.0.0.1:5557"
    requests: str = "tcp://127.0.0.1:5558"
    imagezmq: str = "tcp://127.0.0.1:5559"
    max_message: ByteSize = ByteSize(512 * 1024 * 1024)
    max_rate: Annotated[float, Field(ge=1)] | None = 1000.0  # messages a second of one client; more is refused
    open_without_authentication: bool = False

    @model_validator(mode="after")
    def _endpoints(self) -> Sockets:
        for name in SOCKETS:
            endpoint = getattr(self, name)
            if not re.match(r"^(tcp://[^:\s]+:\d+|tcp://\[[^\]]+\]:\d+|ipc://\S+)$", endpoint):
                raise ValueError(f"{name} must be tcp://HOST:PORT or ipc://PATH, got {endpoint!r}")
        return self


def _is_local(endpoint: str) -> bool:
    if endpoint.startswith("ipc://"):
        return True
    return _is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Security(Strict):
    """CURVE on every ZeroMQ socket: where the station's secret key is, and the list of clients it lets in."""

    key: str = "keys/station.key"  # PATH, credential:NAME or env:NAME
    clients: Path = Path("keys/clients.yaml")


class Tls(Strict):
    """PEM files: the certificate, then its chain; and the key, as `inspector.secret` finds a file."""

    certificate: Path
    key: str


class Http(Strict):
    """Where /metrics, /live and /ready are served. Loopback, unless others need a login and see a certificate."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9108
    tls: Tls | None = None
    username: Name | None = None
    password: str | None = None  # where the secret is, see `inspector.secret`
    open_without_authentication: bool = False

    @model_validator(mode="after")
    def _loopback_or_protected(self) -> Http:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must both be given, or neither")
        protected = self.tls is not None and self.username is not None
        if not (protected or self.open_without_authentication or _is_loopback(self.host)):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}; for another give tls, username and password, or "
                "say open_without_authentication: true to let anyone who reaches it read the metrics"
            )
        return self


class Buffer(Strict):
    """Frames waiting for the device, all cameras together."""

    max_bytes: ByteSize = ByteSize(1024**3)
    when_full: WhenFull = WhenFull.DROP_OLDEST


class Overlays(Strict):
    """Pictures for people: which frames, how wide (pixels), how good (JPEG quality)."""

    frames: Literal["fail", "all", "none"] = "fail"
    width: Annotated[int, Field(ge=160, le=8192)] = 1280
    quality: Annotated[int, Field(ge=1, le=100)] = 85


class Evidence(Strict):
    """Images of what was not passed, original pixels, each with its result beside it; oldest PASS evicted first."""

    frames: Literal["all", "none"] = "all"  # all: FAIL, ERROR, and one PASS in `pass_every`
    pass_every: Annotated[int, Field(ge=0)] = 100  # 0: none but those with a warning
    format: Literal["png", "jpeg"] = "png"  # png: lossless
    quality: Annotated[int, Field(ge=1, le=100)] = 95  # of jpeg
    max_bytes: ByteSize = ByteSize(20 * 1024**3)
    min_free: ByteSize = ByteSize(1024**3)  # with less left on the disk nothing is kept, and the state is DEGRADED
    buffer: ByteSize = ByteSize(256 * 1024**2)  # of pixels waiting to be written; more is dropped and counted


class Journal(Strict):
    """How long verdicts stay on record; the oldest go first. null: no such limit."""

    keep_days: Annotated[float, Field(gt=0)] | None = 365.0
    max_bytes: ByteSize | None = ByteSize(10 * 1024**3)


class Logging(Strict):
    """What is written to stderr, and how: for people, as logfmt or as JSON lines."""

    format: Literal["text", "keyvalue", "json"] = "text"
    level: Literal["debug", "info", "warning"] = "info"  # the least that is written
    ring: Annotated[int, Field(ge=0, le=100_000)] = 1000  # lines below the level kept for a fault or SIGUSR1


class ZmqSource(Strict):
    """Frames from the frames socket whose header names this camera."""

    type: Literal["zmq"] = "zmq"
    pixel_format: PixelFormat = PixelFormat.RGB8  # of raw three-channel frames whose header does not say


class ImagezmqSource(Strict):
    """Frames of an imagezmq sender (REQ, or PUSH to the frames socket) whose text is `sender`."""

    type: Literal["imagezmq"]
    sender: Annotated[str, Field(min_length=1, max_length=200)] | None = None  # the camera's name by default
    pixel_format: PixelFormat = PixelFormat.BGR8  # OpenCV's order, which imagezmq senders use

    @field_validator("sender")
    @classmethod
    def _seen_whole(cls, sender: str | None) -> str | None:
        if sender is not None and not (sender.isprintable() and sender == sender.strip()):
            raise ValueError("must be printable text without blanks at its ends")
        return sender


class FolderSource(Strict):
    """Image files of a folder, by name; with `watch` also those that come later."""

    type: Literal["folder"]
    path: Path
    watch: bool = False
    poll_s: Annotated[float, Field(gt=0)] = 0.5


class OpencvSource(Strict):
    """A camera or stream OpenCV can open: device index, file or URL."""

    type: Literal["opencv"]
    device: int | str
    open_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    read_timeout_s: Annotated[float, Field(gt=0)] = 2.0


Source = Annotated[ZmqSource | ImagezmqSource | FolderSource | OpencvSource, Field(discriminator="type")]


def _refuse_other_ages(value: object) -> object:
    if value is None or value == "deadline" or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be a whole number of milliseconds from 1, or deadline, or null")


class Camera(Strict):
    """One camera: where frames come from, what judges them, by when (ms from reception to the published verdict).

    `max_age_ms` is from capture to reception, by both clocks; a frame that is older is answered ERROR STALE. A number
    holds for all frames, and those that do not say when they were captured are STALE too. `deadline`: as many as
    `deadline_ms`, for frames that say so; others are judged. null: a frame of any age is judged.
    """

    recipe: Path | None = None
    source: Source = ZmqSource()
    deadline_ms: Annotated[int, Field(ge=1)] = 2000
    max_age_ms: Annotated[
        Annotated[int, Field(ge=1)] | Literal["deadline"] | None, BeforeValidator(_refuse_other_ages)
    ] = "deadline"
    expected_fps: Annotated[float, Field(gt=0)] | None = None  # told to the metrics, for alerts; judges nothing
    simulated: bool = False

    @property
    def age_limit_ms(self) -> int | None:
        """How old a frame may be that says when it was captured; None: any."""
        return self.deadline_ms if self.max_age_ms == "deadline" else self.max_age_ms


def _list_claims(cameras: Mapping[str, Camera], folder: Path) -> Iterator[Claim]:
    """What each camera has for itself alone; all names first, so that a source is at fault and not a name."""
    for name in cameras:
        yield claim_text((name,), "name", name)
    for name, camera in cameras.items():
        source = camera.source
        if isinstance(source, ImagezmqSource):
            yield claim_text((name, "source", "sender"), "sender", source.sender or name)
        elif isinstance(source, FolderSource):  # by name alone: a share that is away must not hold up who asks
            path = os.path.normpath(folder / source.path)
            yield Claim((name, "source", "path"), "folder", repr(str(source.path)), ("folder", path))
        elif isinstance(source, OpencvSource):
            device = f"/dev/video{source.device}" if isinstance(source.device, int) else source.device.strip()
            device = device if "://" in device else os.path.normpath(device)
            yield Claim((name, "source", "device"), "device", mask_secrets(repr(source.device)), ("device", device))


class Station(Strict):
    """One daemon."""

    schema_version: SchemaVersion = Field(alias="schema")
    station: Name
    state_dir: Path = Path("/var/lib/inspector")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    security: Security | None = None
    sockets: Sockets = Sockets()
    http: Http = Http()
    buffer: Buffer = Buffer()
    overlays: Overlays = Overlays()
    evidence: Evidence = Evidence()
    journal: Journal = Journal()
    logging: Logging = Logging()
    tile_batch: Annotated[int, Field(ge=1, le=1024)] | None = None  # what suits the device
    stop_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    stall_after_s: Annotated[float, Field(ge=1)] = 20.0  # a thread without progress for so long is a FAULT
    cameras: Annotated[dict[Name, Camera], Field(min_length=1)]

    @field_validator("sockets")
    @classmethod
    def _local_or_guarded(cls, sockets: Sockets, info: ValidationInfo) -> Sockets:
        # Before it in the model, and missing here where it is at fault: then that is what needs to be said.
        if sockets.open_without_authentication or info.data.get("security", ...) is not None:
            return sockets
        for name in SOCKETS:
            if not _is_local(endpoint := getattr(sockets, name)):
                raise ValueError(
                    f"{name} must be a loopback address, got {endpoint!r}; anyone who reaches another address can "
                    "feed frames and read verdicts: add a section security, which lets in only those with a key, or "
                    "say open_without_authentication: true to accept that"
                )
        return sockets

    @field_validator("cameras")
    @classmethod
    def _told_apart(cls, cameras: dict[str, Camera], info: ValidationInfo) -> dict[str, Camera]:
        faults = list(find_conflicts(_list_claims(cameras, (info.context or {}).get("folder", Path()))))
        if faults:
            words = "; ".join(f"{'.'.join(field)}: {rule}" for field, rule in faults)
            raise PydanticCustomError("conflicts", "{words}", {"words": words, "faults": faults})
        return cameras

    @property
    def folder(self) -> Path:
        """The station's own under `state_dir`: two stations of a machine may share that, never a journal."""
        return self.state_dir / self.station

    @property
    def engine_cache(self) -> Path:
        """Where compiled networks are kept, for all stations of a machine."""
        return self.state_dir / "engines"
