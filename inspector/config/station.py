"""The strict model of station.yaml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import ByteSize, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from inspector.config.camera import Camera
from inspector.config.devices import Devices, MissingDevice, find_placing_faults, list_names, place_cameras
from inspector.config.http import Http
from inspector.config.outputs import Evidence, Journal, Logging, Overlays
from inspector.config.part import Part
from inspector.security.settings import SOCKETS, Security, Sockets, is_local
from inspector.strict.base import Name, SchemaVersion, Strict
from inspector.strict.claims import Claim, claim_text, find_conflicts
from inspector.types import PART_PREFIX


class WhenFull(StrEnum):
    """What a full frame buffer does; a dropped frame gets its ERROR OVERLOAD."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Buffer(Strict):
    """Frames waiting for their device, all cameras together."""

    max_bytes: ByteSize = ByteSize(1024**3)
    """Memory that their pixels may take; of several devices each has an equal share of it."""
    when_full: WhenFull = WhenFull.DROP_OLDEST
    """What happens to a frame more: the oldest or the newest is answered ERROR OVERLOAD, or `block`: it is not read.
    Where several cameras share the sockets, `block` holds for at most a quarter of the shortest deadline.
    """


Fault = tuple[tuple[str, ...], str]
"""A field, and what is wrong with it."""


def _refuse(conflicts: Iterable[Fault]) -> None:
    """Raise where there are faults between fields; each has a place of its own in the file."""
    if faults := list(conflicts):
        words = "; ".join(f"{'.'.join(field)}: {rule}" for field, rule in faults)
        raise PydanticCustomError("conflicts", "{words}", {"words": words, "faults": faults})


def _list_claims(cameras: Mapping[str, Camera], folder: Path) -> Iterator[Claim]:
    """What each camera has for itself alone; all names first, so that a source is at fault and not a name."""
    for name in cameras:
        yield claim_text((name,), "name", name)
    for name, camera in cameras.items():
        yield from camera.source.list_claims(name, folder)


def _find_part_faults(parts: Mapping[str, Part], cameras: Mapping[str, Camera]) -> Iterator[Fault]:
    """Each part that its cameras cannot be of: its field, and what is wrong."""
    owners: dict[str, str] = {}
    for name, part in parts.items():
        for camera in part.cameras:
            if (owner := owners.setdefault(camera, name)) != name:
                yield (name, "cameras"), f"camera {camera} must be of one part only, is of part {owner} too"
            if camera not in cameras:
                yield (name, "cameras"), f"must be cameras of this station, {list(cameras)}, got {camera}"
            elif cameras[camera].line_scan is not None:
                rule = f"cameras.{camera}.line_scan is set, and frames of a web are of no part"
                yield (name, "cameras"), f"camera {camera} cannot be of a part: {rule}"
            elif not cameras[camera].gives_ids:
                rule = f"its frames carry no {part.by}: set cameras.{camera}.triggers, which gives them the trigger's"
                yield (name, "cameras"), f"camera {camera} cannot be of a part: {rule}"
            elif cameras[camera].deadline_ms > part.window_ms:
                rule = f"must be at least cameras.{camera}.deadline_ms, {cameras[camera].deadline_ms}"
                yield (name, "window_ms"), f"{rule}, got {part.window_ms}"


def _list_wanted(cameras: Mapping[str, Camera]) -> dict[str, str | None]:
    return {name: camera.device for name, camera in cameras.items()}


class Station(Strict):
    """The station file: one daemon, its sockets and its cameras."""

    schema_version: SchemaVersion = Field(alias="schema")
    """Version of this file's form."""
    station: Name
    """The station's name: in results, logs and metrics, and of its folder in `state_dir`."""
    state_dir: Path = Path("/var/lib/inspector")
    """Folder of journal, evidence and compiled networks. Stations of one machine may share it."""
    device: Devices = "auto"
    """What judges: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`; or several, as `[cuda:0, cuda:1]`,
    which share the cameras.
    """
    missing_device: MissingDevice = MissingDevice.REFUSE
    """Whether the station starts where one of several devices is not there or does not work. `leave_out`: it does, the
    others judge its cameras, and the station is DEGRADED until a restart. So a GPU that fails costs one restart.
    """
    security: Security | None = None
    """Lets in only clients whose key is on a list, and encrypts all sockets. null: no keys, loopback only."""
    sockets: Sockets = Sockets()
    """ZeroMQ endpoints."""
    http: Http = Http()
    """Where /metrics, /live and /ready are served."""
    buffer: Buffer = Buffer()
    """Frames waiting for the device."""
    overlays: Overlays = Overlays()
    """Pictures for people."""
    evidence: Evidence = Evidence()
    """Images that are kept."""
    journal: Journal = Journal()
    """How long verdicts stay on record."""
    logging: Logging = Logging()
    """What is logged."""
    tile_batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Tiles that are judged at once. null: what suits the device (4 for each core; 8 to 96 on a GPU, timed there)."""
    stop_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A stop judges what waits for so long; the rest is answered ERROR SHUTDOWN."""
    stall_after_s: Annotated[float, Field(ge=1)] = 20.0
    """A thread without progress for so long is a FAULT: the process exits, to be started again."""
    cameras: Annotated[dict[Name, Camera], Field(min_length=1)]
    """The cameras by name; names in frames' headers, results and metrics are these."""
    parts: dict[Name, Part] = Field(default={})
    """Parts that several cameras see, by name; each gets one verdict. They cannot change without a restart."""

    @field_validator("device")
    @classmethod
    def _each_once(cls, device: str | tuple[str, ...]) -> str | tuple[str, ...]:
        # A CPU may have several workers: on any machine that shows what several GPUs do.
        doubled = [name for name, count in Counter(list_names(device)).items() if count > 1 and name != "cpu"]
        if doubled:
            raise ValueError(f"must name each device once, got {', '.join(doubled)} more than once")
        return device

    @field_validator("missing_device")
    @classmethod
    def _has_others(cls, missing_device: MissingDevice, info: ValidationInfo) -> MissingDevice:
        names = list_names(info.data.get("device", ()))  # missing where it is at fault
        if missing_device is MissingDevice.LEAVE_OUT and len(names) == 1:
            raise ValueError(f"must be refuse where there is one device, {names[0]}, got leave_out")
        return missing_device

    @field_validator("sockets")
    @classmethod
    def _local_or_guarded(cls, sockets: Sockets, info: ValidationInfo) -> Sockets:
        # Before it in the model, and missing here where it is at fault: then that is what needs to be said.
        if sockets.open_without_authentication or info.data.get("security", ...) is not None:
            return sockets
        for name in SOCKETS:
            if not is_local(endpoint := getattr(sockets, name)):
                raise ValueError(
                    f"{name} must be a loopback address, got {endpoint!r}; anyone who can reach another address "
                    "can send frames and read verdicts: add a security section, so that only clients with a key are "
                    "accepted, or set open_without_authentication: true to allow this"
                )
        return sockets

    @field_validator("cameras")
    @classmethod
    def _told_apart(cls, cameras: dict[str, Camera], info: ValidationInfo) -> dict[str, Camera]:
        _refuse(find_conflicts(_list_claims(cameras, (info.context or {}).get("folder", Path()))))
        return cameras

    @field_validator("cameras")
    @classmethod
    def _placed(cls, cameras: dict[str, Camera], info: ValidationInfo) -> dict[str, Camera]:
        if "device" in info.data:  # missing where it is at fault
            _refuse(find_placing_faults(_list_wanted(cameras), list_names(info.data["device"])))
        return cameras

    @field_validator("parts")
    @classmethod
    def _seen_by_its_cameras(cls, parts: dict[str, Part], info: ValidationInfo) -> dict[str, Part]:
        if "cameras" in info.data:  # missing where they are at fault
            _refuse(_find_part_faults(parts, info.data["cameras"]))
        return parts

    def anchor(self, folder: Path) -> Station:
        """The same settings, with relative paths resolved against `folder`."""
        update: dict[str, Any] = {
            "state_dir": folder / self.state_dir,
            "cameras": {name: camera.anchor(folder) for name, camera in self.cameras.items()},
            "security": self.security and self.security.anchor(folder),
            "http": self.http.anchor(folder),
        }
        return self.model_copy(update=update)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices as the file names them; elsewhere each is known by its place here."""
        return list_names(self.device)

    @property
    def places(self) -> dict[str, int]:
        """The device that judges each camera, as its place in `devices`."""
        return place_cameras(_list_wanted(self.cameras), self.devices)

    def without(self, missing: Collection[str]) -> Station:
        """The same station on its other devices, if it has any; a camera that asks for one of these asks for none."""
        left = tuple(name for name in self.devices if name not in missing)
        if not left or left == self.devices:
            return self
        cameras = {
            name: camera.model_copy(update={"device": None}) if camera.device in missing else camera
            for name, camera in self.cameras.items()
        }
        return self.model_copy(update={"device": left, "cameras": cameras})

    @property
    def deadlines_ms(self) -> dict[str, int]:
        """How long a verdict may take: of each camera, and of each part, which is named `part/NAME` here."""
        cameras = {name: camera.deadline_ms for name, camera in self.cameras.items()}
        return cameras | {f"{PART_PREFIX}{name}": part.window_ms for name, part in self.parts.items()}

    @property
    def folder(self) -> Path:
        """The station's own under `state_dir`: two stations of a machine may share that, never a journal."""
        return self.state_dir / self.station

    @property
    def engine_cache(self) -> Path:
        """Where compiled networks are kept, for all stations of a machine."""
        return self.state_dir / "engines"
