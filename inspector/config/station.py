"""The strict model of station.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inspector.secret import anchor_secret
from inspector.security.settings import SOCKETS, Security, Sockets, is_local, is_loopback
from inspector.sources.registry import AnySource
from inspector.sources.zmq import ZmqSettings
from inspector.strict.base import Name, SchemaVersion, Strict
from inspector.strict.claims import Claim, claim_text, find_conflicts


class WhenFull(StrEnum):
    """What a full frame buffer does; a dropped frame gets its ERROR OVERLOAD."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Tls(Strict):
    """PEM files: the certificate, then its chain; and the key, as `inspector.secret` finds a file."""

    certificate: Path
    key: str

    def anchor(self, folder: Path) -> Tls:
        """With its relative paths made `folder`'s."""
        return Tls(certificate=folder / self.certificate, key=anchor_secret(self.key, folder))


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
        if not (protected or self.open_without_authentication or is_loopback(self.host)):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}; for another give tls, username and password, or "
                "say open_without_authentication: true to let anyone who reaches it read the metrics"
            )
        return self

    def anchor(self, folder: Path) -> Http:
        """With its relative paths made `folder`'s."""
        password = None if self.password is None else anchor_secret(self.password, folder)
        return self.model_copy(update={"tls": self.tls and self.tls.anchor(folder), "password": password})


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
    source: AnySource = ZmqSettings()
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

    def anchor(self, folder: Path) -> Camera:
        """With its relative paths made `folder`'s."""
        recipe = None if self.recipe is None else folder / self.recipe
        return self.model_copy(update={"recipe": recipe, "source": self.source.anchor(folder)})


def _list_claims(cameras: Mapping[str, Camera], folder: Path) -> Iterator[Claim]:
    """What each camera has for itself alone; all names first, so that a source is at fault and not a name."""
    for name in cameras:
        yield claim_text((name,), "name", name)
    for name, camera in cameras.items():
        yield from camera.source.list_claims(name, folder)


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
            if not is_local(endpoint := getattr(sockets, name)):
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

    def anchor(self, folder: Path) -> Station:
        """With its relative paths made `folder`'s."""
        update: dict[str, Any] = {
            "state_dir": folder / self.state_dir,
            "cameras": {name: camera.anchor(folder) for name, camera in self.cameras.items()},
            "security": self.security and self.security.anchor(folder),
            "http": self.http.anchor(folder),
        }
        return self.model_copy(update=update)

    @property
    def folder(self) -> Path:
        """The station's own under `state_dir`: two stations of a machine may share that, never a journal."""
        return self.state_dir / self.station

    @property
    def engine_cache(self) -> Path:
        """Where compiled networks are kept, for all stations of a machine."""
        return self.state_dir / "engines"
