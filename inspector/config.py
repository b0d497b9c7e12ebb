"""Strict models of station.yaml and recipe.yaml. Every error names file, line, field, rule and the value found."""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from inspector.errors import ConfigError, RecipeError
from inspector.types import PixelFormat

SCHEMA = 1
WEIGHTS_FILE = "weights.safetensors"
RECIPE_FILE = "recipe.yaml"


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):  # True == 1, and YAML writes it in many ways
        raise ValueError("must be a number")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Size = Annotated[int, Field(ge=1, le=65_536)]
SchemaVersion = Annotated[Literal[1], BeforeValidator(_refuse_bool)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


# ---------------------------------------------------------------- recipe


class Tiling(_Strict):
    """How a frame is cut: tile side and step, in pixels of the scaled frame."""

    tile_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 256
    stride: Annotated[int, Field(ge=1, le=4096)] = 256

    @model_validator(mode="after")
    def _no_gaps(self) -> Tiling:
        if self.stride > self.tile_size:
            raise ValueError(f"stride must be at most tile_size ({self.tile_size}), got {self.stride}")
        return self


class Normalisation(_Strict):
    """Per-channel mean and deviation of RGB in [0, 1]; ImageNet's by default."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class Preprocessing(_Strict):
    """What a frame must be and how it becomes the network's input; the same in training and in the daemon."""

    pixel_format: PixelFormat = PixelFormat.RGB8
    frame_hw: tuple[Size, Size] | None = None
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    resize_hw: tuple[Size, Size] | None = None  # instead of a scale: every frame is squeezed to this size
    mono16_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=65_535)]] = (0, 65_535)
    normalisation: Normalisation = Normalisation()

    @field_validator("mono16_range")
    @classmethod
    def _rising(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] >= value[1]:
            raise ValueError(f"the low end must be below the high end, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _one_way_to_shrink(self) -> Preprocessing:
        if self.resize_hw is not None and self.scale != 1.0:
            raise ValueError(f"scale must be 1 where resize_hw is given, got {self.scale}")
        return self


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]


class Tail(_Strict):
    """A generalised Pareto law over the highest good scores, where these are too few to count.

    `rate_interval` is where the false-reject rate lies with 95 % confidence if scores do follow that law:
    an extrapolation, so no bound.
    """

    location: float
    scale: Annotated[float, Field(gt=0)]
    shape: float
    exceedances: Annotated[int, Field(ge=1)]
    rate_interval: Interval


class GroupCheck(_Strict):
    """Rejects among the frames of each group (a lot, a shift) when the threshold is set without that group.

    `interval` is the two-sided 95 % Clopper–Pearson interval; frames of one group are alike, so doubt is wider.
    """

    n_groups: Annotated[int, Field(ge=3)]
    false_reject_rate: Share
    interval: Interval
    worst_group: str
    worst_false_reject_rate: Share


class Threshold(_Strict):
    """The score above which a frame fails, and how it was set.

    `false_reject_bound` is the upper 95 % Clopper–Pearson bound on the false-reject rate that the `n_good`
    calibration frames support by themselves, whatever the method hopes for. A frame that passes with a score above
    `warn_above` carries a warning. `escape_interval` is the two-sided 95 % Clopper–Pearson interval.
    """

    value: Annotated[float, Field(gt=0)]
    method: Literal["order_statistic", "generalised_pareto", "gumbel", "defects", "manual"]
    warn_above: Annotated[float, Field(gt=0)] | None = None
    n_good: Annotated[int, Field(ge=0)] = 0
    target_false_reject_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    false_reject_bound: Share | None = None
    tail: Tail | None = None
    groups: GroupCheck | None = None
    target_escape_rate: Share | None = None
    escape_rate: Share | None = None
    escape_interval: Interval | None = None
    n_defective: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _warns_below(self) -> Threshold:
        if self.warn_above is not None and self.warn_above >= self.value:
            raise ValueError(f"warn_above must lie below value ({self.value}), got {self.warn_above}")
        return self


class Zone(_Strict):
    """Part of the frame with a threshold of its own; without one the recipe's holds there.

    Its target and bound are its share of the frame's, the bound at so much more confidence that the sum over the
    zones and the rest, which the recipe's threshold states, holds at 95 %.
    """

    name: Name
    mask: str
    mask_sha256: Sha256
    threshold: Threshold | None = None


GoldenVerdict = Literal["PASS", "FAIL"]
GoldenFile = Annotated[str, Field(pattern=r"^golden/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]  # never outside the recipe


class Golden(_Strict):
    """A frame of known verdict, an image file in the recipe's folder `golden`; `score` is what it had when stored."""

    file: GoldenFile
    sha256: Sha256
    verdict: GoldenVerdict
    score: float | None = None


PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class Recipe(_Strict):
    """All that is needed to judge one product, beside the weights."""

    schema_version: SchemaVersion = Field(default=1, alias="schema")
    recipe_id: Name
    backbone: str
    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    bottleneck_width: Literal["official", "anomalib"] = "official"
    anomaly_map_mode: Literal["add", "multiply"] = "add"
    sigma: Annotated[float, Field(ge=0)] = 4.0
    map_normalisation: Literal["none", "position"] = "none"
    preprocessing: Preprocessing = Preprocessing()
    tiling: Tiling = Tiling()
    threshold: Threshold | None = None
    min_region_area: Annotated[int, Field(ge=1)] = 1
    precision: PrecisionChoice = "auto"  # auto: the device's fastest but int8
    calibrated_in: Literal["fp32", "bf16", "fp16", "int8"] | None = None  # what the threshold's scores were made in
    probe: str | None = None
    probe_sha256: Sha256 | None = None
    quantised: str | None = None
    quantised_sha256: dict[str, Sha256] = {}
    roi_mask: str | None = None
    roi_mask_sha256: str | None = None
    zones: tuple[Zone, ...] = ()
    golden: tuple[Golden, ...] = ()
    encoder_weights: str = "unknown"
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    weights_sha256: Sha256

    @model_validator(mode="after")
    def _files_have_sums(self) -> Recipe:
        for name in ("roi_mask", "probe", "quantised"):
            if bool(getattr(self, name)) != bool(getattr(self, f"{name}_sha256")):
                raise ValueError(f"{name} and {name}_sha256 must be given together or not at all")
        return self

    @model_validator(mode="after")
    def _position_adds_up(self) -> Recipe:
        if self.map_normalisation == "position" and self.anomaly_map_mode != "add":
            raise ValueError(f"map_normalisation must be none with anomaly_map_mode {self.anomaly_map_mode}")
        return self

    @field_validator("zones")
    @classmethod
    def _own_names(cls, value: tuple[Zone, ...]) -> tuple[Zone, ...]:
        names = [zone.name for zone in value]
        if len(set(names)) < len(names):
            raise ValueError(f"each zone must have a name of its own, got {names}")
        return value

    @field_validator("golden")
    @classmethod
    def _own_files(cls, value: tuple[Golden, ...]) -> tuple[Golden, ...]:
        files = [golden.file for golden in value]
        if len(set(files)) < len(files):
            raise ValueError(f"each golden frame must have a file of its own, got {files}")
        return value


# ---------------------------------------------------------------- station


class WhenFull(StrEnum):
    """What a full frame buffer does; a dropped frame gets its ERROR OVERLOAD."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Sockets(_Strict):
    """ZeroMQ endpoints the daemon binds. Loopback unless the config says in words that it is open."""

    frames: str = "tcp://127.0.0.1:5555"
    results: str = "tcp://127.0.0.1:5556"
    overlays: str = "tcp://127.0.0.1:5557"
    requests: str = "tcp://127.0.0.1:5558"
    imagezmq: str = "tcp://127.0.0.1:5559"
    max_message: ByteSize = ByteSize(512 * 1024 * 1024)
    open_without_authentication: bool = False

    @model_validator(mode="after")
    def _loopback_or_declared(self) -> Sockets:
        for name in ("frames", "results", "overlays", "requests", "imagezmq"):
            endpoint = getattr(self, name)
            if not re.match(r"^(tcp://[^:\s]+:\d+|tcp://\[[^\]]+\]:\d+|ipc://\S+)$", endpoint):
                raise ValueError(f"{name} must be tcp://HOST:PORT or ipc://PATH, got {endpoint!r}")
            if not (self.open_without_authentication or _is_local(endpoint)):
                raise ValueError(
                    f"{name} must be a loopback address, got {endpoint!r}; anyone who reaches another address can "
                    "feed frames and read verdicts: say open_without_authentication: true to accept that"
                )
        return self


def _is_local(endpoint: str) -> bool:
    if endpoint.startswith("ipc://"):
        return True
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Http(_Strict):
    """Where /metrics, /live and /ready are served; without authentication, so loopback by default."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9108


class Buffer(_Strict):
    """Frames waiting for the device, all cameras together."""

    max_bytes: ByteSize = ByteSize(1024**3)
    when_full: WhenFull = WhenFull.DROP_OLDEST


class Overlays(_Strict):
    """Pictures for people: which frames, how wide (pixels), how good (JPEG quality)."""

    frames: Literal["fail", "all", "none"] = "fail"
    width: Annotated[int, Field(ge=160, le=8192)] = 1280
    quality: Annotated[int, Field(ge=1, le=100)] = 85


class Evidence(_Strict):
    """Images of what was not passed, original pixels, each with its result beside it; oldest PASS evicted first."""

    frames: Literal["all", "none"] = "all"  # all: FAIL, ERROR, and one PASS in `pass_every`
    pass_every: Annotated[int, Field(ge=0)] = 100  # 0: none but those with a warning
    format: Literal["png", "jpeg"] = "png"  # png: lossless
    quality: Annotated[int, Field(ge=1, le=100)] = 95  # of jpeg
    max_bytes: ByteSize = ByteSize(20 * 1024**3)
    min_free: ByteSize = ByteSize(1024**3)  # with less left on the disk nothing is kept, and the state is DEGRADED
    buffer: ByteSize = ByteSize(256 * 1024**2)  # of pixels waiting to be written; more is dropped and counted


class Journal(_Strict):
    """How long verdicts stay on record; the oldest go first. null: no such limit."""

    keep_days: Annotated[float, Field(gt=0)] | None = 365.0
    max_bytes: ByteSize | None = ByteSize(10 * 1024**3)


class ZmqSource(_Strict):
    """Frames from the frames socket whose header names this camera."""

    type: Literal["zmq"] = "zmq"
    pixel_format: PixelFormat = PixelFormat.RGB8  # of raw three-channel frames whose header does not say


class ImagezmqSource(_Strict):
    """Frames of an imagezmq sender (REQ, or PUSH to the frames socket) whose text is `sender`."""

    type: Literal["imagezmq"]
    sender: str | None = None  # the camera's name by default
    pixel_format: PixelFormat = PixelFormat.BGR8  # OpenCV's order, which imagezmq senders use


class FolderSource(_Strict):
    """Image files of a folder, by name; with `watch` also those that come later."""

    type: Literal["folder"]
    path: Path
    watch: bool = False
    poll_s: Annotated[float, Field(gt=0)] = 0.5


class OpencvSource(_Strict):
    """A camera or stream OpenCV can open: device index, file or URL."""

    type: Literal["opencv"]
    device: int | str
    open_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    read_timeout_s: Annotated[float, Field(gt=0)] = 2.0


Source = Annotated[ZmqSource | ImagezmqSource | FolderSource | OpencvSource, Field(discriminator="type")]


class Camera(_Strict):
    """One camera: where frames come from, what judges them, by when (ms from reception to the published verdict)."""

    recipe: Path | None = None
    source: Source = ZmqSource()
    deadline_ms: Annotated[int, Field(ge=1)] = 2000
    max_age_ms: Annotated[int, Field(ge=1)] | None = None  # from capture to reception, by both clocks; else ERROR STALE
    simulated: bool = False


class Station(_Strict):
    """One daemon."""

    schema_version: SchemaVersion = Field(alias="schema")
    station: Name
    state_dir: Path = Path("/var/lib/inspector")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    sockets: Sockets = Sockets()
    http: Http = Http()
    buffer: Buffer = Buffer()
    overlays: Overlays = Overlays()
    evidence: Evidence = Evidence()
    journal: Journal = Journal()
    tile_batch: Annotated[int, Field(ge=1, le=1024)] | None = None  # what suits the device
    stop_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    stall_after_s: Annotated[float, Field(ge=1)] = 20.0  # a thread without progress for so long is a FAULT
    cameras: Annotated[dict[Name, Camera], Field(min_length=1)]


# ---------------------------------------------------------------- loading

_Model = TypeVar("_Model", bound=BaseModel)


def load_station(path: Path) -> Station:
    """Read a station file; relative paths in it become relative to its folder.

    Raises:
        ConfigError: with every fault found, one per line.
    """
    station = _load(path, Station, ConfigError)
    base = path.resolve().parent
    cameras = {name: _anchor_camera(camera, base) for name, camera in station.cameras.items()}
    return station.model_copy(update={"state_dir": base / station.state_dir, "cameras": cameras})


def _anchor_camera(camera: Camera, base: Path) -> Camera:
    update: dict[str, Any] = {}
    if camera.recipe is not None:
        update["recipe"] = base / camera.recipe
    if isinstance(camera.source, FolderSource):
        update["source"] = camera.source.model_copy(update={"path": base / camera.source.path})
    return camera.model_copy(update=update)


def load_recipe(folder: Path) -> Recipe:
    """Read and check `folder`/recipe.yaml. Checksums are checked where the files are read.

    Raises:
        RecipeError: missing, or not a valid recipe.
    """
    return _load(folder / RECIPE_FILE, Recipe, RecipeError)


def dump_recipe(recipe: Recipe) -> str:
    """The text of recipe.yaml."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _load(path: Path, model: type[_Model], error: type[ConfigError]) -> _Model:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read: {fault}") from fault
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicates(node, path, error)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as fault:  # odd keys, dates, aliases raise these
        raise error(f"{path}: not valid YAML: {fault}") from fault
    if not isinstance(data, dict):
        raise error(f"{path}:1: must be a mapping of keys to values, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as fault:
        raise error("\n".join(_describe(path, node, item) for item in fault.errors())) from fault


def locate_line(path: Path, field: tuple[str, ...]) -> int:
    """Line (from 1) of a field in a file that loaded; of what is written above it where it stands at its default."""
    return _locate(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), field)[0]


def _refuse_duplicates(node: yaml.Node | None, path: Path, error: type[ConfigError]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise error(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            seen.add(key.value)
            _refuse_duplicates(value, path, error)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, path, error)


def _describe(path: Path, node: yaml.Node | None, item: Any) -> str:
    line, found = _locate(node, item["loc"])
    field = ".".join(found) or "(file)"
    if item["type"] == "extra_forbidden":
        return f"{path}:{line}: {field}: unknown key, value {item['input']!r}"
    if item["type"] == "missing":
        missing = ".".join([*found, str(item["loc"][-1])])
        return f"{path}:{line}: {missing}: required, but missing"
    return f"{path}:{line}: {field}: {item['msg']}, got {item['input']!r}"


def _locate(node: yaml.Node | None, loc: tuple[int | str, ...]) -> tuple[int, list[str]]:
    """Line (from 1) and path in the file of pydantic's error location, which also names union members."""
    line, found = 1, []
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(step)]
            if match:
                (key, node) = match[0]
                line = key.start_mark.line + 1
                found.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
            found.append(str(step))
    return line, found
