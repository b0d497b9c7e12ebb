"""The strict model of recipe.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from inspector.config.expected_frames import ExpectedFrames
from inspector.config.qualification import Qualification
from inspector.strict.base import Name, SchemaVersion, Sha256, Share, Size, Strict
from inspector.types import PixelFormat

WEIGHTS_FILE = "weights.safetensors"
RECIPE_FILE = "recipe.yaml"


class Tiling(Strict):
    """How a frame is cut: tile side and step, in pixels of the scaled frame."""

    tile_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 256
    stride: Annotated[int, Field(ge=1, le=4096)] = 256

    @model_validator(mode="after")
    def _no_gaps(self) -> Tiling:
        if self.stride > self.tile_size:
            raise ValueError(f"stride must be at most tile_size ({self.tile_size}), got {self.stride}")
        return self


class Normalisation(Strict):
    """Per-channel mean and deviation of RGB in [0, 1]; ImageNet's by default."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


ShortSide = Annotated[int, Field(ge=32, le=4096)]
"""Not below the smallest tile: there, rounding the longer side would change the aspect by more than a mask may have."""


class Preprocessing(Strict):
    """What a frame must be and how it becomes the network's input; the same in training and in the daemon."""

    pixel_format: PixelFormat = PixelFormat.RGB8
    frame_hw: tuple[Size, Size] | None = None
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    resize_hw: tuple[Size, Size] | None = None  # instead of a scale: every frame is squeezed to this size
    short_side: ShortSide | None = None  # instead of a scale: pixels of each scaled frame's shorter side
    mono16_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=65_535)]] = (0, 65_535)
    normalisation: Normalisation = Normalisation()

    @field_validator("mono16_range")
    @classmethod
    def _rising(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] >= value[1]:
            raise ValueError(f"the low end must be below the high end, got {list(value)}")
        return value

    @property
    def map_hw(self) -> tuple[int, int] | None:
        """The size of the maps; None where it follows each frame's."""
        return self.resize_hw or (self.frame_hw and self.scale_hw(self.frame_hw))

    def scale_hw(self, frame_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the map of a frame."""
        factor = self.short_side / min(frame_hw) if self.short_side else self.scale
        height, width = (max(1, round(side * factor)) for side in frame_hw)
        return self.resize_hw or (height, width)

    @model_validator(mode="after")
    def _one_way_to_scale(self) -> Preprocessing:
        given = {name: getattr(self, name) for name in ("scale", "resize_hw", "short_side")}
        chosen = {name: value for name, value in given.items() if value not in (None, 1.0)}
        if len(chosen) > 1:
            named = ", ".join(f"{name} {value}" for name, value in chosen.items())
            raise ValueError(f"at most one of {', '.join(given)} may be given, got {named}")
        return self


Interval = tuple[Share, Share]


Policy = Literal["near", "extrapolate"]
"""How a threshold is set from good frames that are too few for the target rate: near the highest, or by their tail."""


class Tail(Strict):
    """A generalised Pareto law over the highest peaks of good frames, where these are too few to count.

    `rate` is the false-reject rate at the threshold, and `rate_interval` where it lies with 95 % confidence, if peaks
    do follow that law: an extrapolation, so no bound.
    """

    location: float
    scale: Annotated[float, Field(gt=0)]
    shape: float
    exceedances: Annotated[int, Field(ge=1)]
    rate: Share | None = None  # unknown before there was such a field
    rate_interval: Interval


class GroupCheck(Strict):
    """Rejects among the frames of each group (a lot, a shift) when the threshold is set without that group.

    `interval` is the two-sided 95 % Clopper–Pearson interval; frames of one group are alike, so doubt is wider.
    """

    n_groups: Annotated[int, Field(ge=3)]
    false_reject_rate: Share
    interval: Interval
    worst_group: str
    worst_false_reject_rate: Share


class GoodScores(Strict):
    """What the good frames scored that the threshold was set from: where scores lie while nothing drifts.

    A zone's are the zone's own, the recipe's those of whole frames, in which zones are weighed.
    """

    median: float
    p95: float

    @model_validator(mode="after")
    def _in_order(self) -> GoodScores:
        if self.p95 < self.median:
            raise ValueError(f"p95 must be at least median ({self.median}), got {self.p95}")
        return self


class DefectScores(Strict):
    """What labelled defective frames scored."""

    lowest: float
    median: float


class CrossValidation(Strict):
    """Each good frame was scored by a network that never saw it: one of `n_folds`, trained on the other folds.

    The network that judges is another one, trained on all frames. Scores of fold k were multiplied by `gains[k]`: the
    median ratio of its scores and those of a fold's, of frames that both were trained on. `deployed_above` of
    `n_deployed` such frames score above the threshold by the network that judges.

    What that guarantees: a false-reject bound for networks trained as the folds' were. That the one trained on more
    frames does no worse is likely and not proved.
    """

    n_folds: Annotated[int, Field(ge=2)]
    steps: Annotated[int, Field(ge=1)]
    gains: tuple[Annotated[float, Field(gt=0)], ...]
    deployed_above: Annotated[int, Field(ge=0)] = 0
    n_deployed: Annotated[int, Field(ge=0)]


class Threshold(Strict):
    """The score above which a frame fails, and how it was set.

    `false_reject_bound` is the upper 95 % Clopper–Pearson bound on the false-reject rate that the `n_good`
    calibration frames support by themselves, whatever the method hopes for. `n_outliers` of them stood out and lie
    above the threshold: the bound counts them as rejects. A frame that passes with a score above
    `warn_above` carries a warning. `escape_interval` is the two-sided 95 % Clopper–Pearson interval.

    `cross_validated`: how the scores came about, where no frame was held aside.

    `set_with` are the settings it holds for, zones' thresholds among them, see `recipe_seal`; a zone's has none.
    `method: manual`: a person answers for it. `far_above_good`: it lies far above the good scores on purpose.
    """

    value: Annotated[float, Field(gt=0)]
    method: Literal["order_statistic", "near_highest", "generalised_pareto", "gumbel", "defects", "manual"]
    warn_above: Annotated[float, Field(gt=0)] | None = None
    n_good: Annotated[int, Field(ge=0)] = 0
    n_outliers: Annotated[int, Field(ge=0)] = 0
    cross_validated: CrossValidation | None = None
    good_scores: GoodScores | None = None  # unknown where it was set by hand, or before there was such a field
    target_false_reject_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    false_reject_bound: Share | None = None
    tail: Tail | None = None
    groups: GroupCheck | None = None
    target_escape_rate: Share | None = None
    escape_rate: Share | None = None
    escape_interval: Interval | None = None
    defect_scores: DefectScores | None = None
    n_defective: Annotated[int, Field(ge=0)] = 0
    far_above_good: bool = False
    set_with: dict[str, JsonValue] | None = None  # unknown where it was set by hand, or before there was such a field
    set_with_sha256: Sha256 | None = None

    @property
    def set_by(self) -> Literal["calibration", "hand", "unknown"]:
        """Who answers for it: unknown where an edit by hand could not be noticed."""
        if self.method == "manual":
            return "hand"
        return "unknown" if self.set_with is None else "calibration"

    @model_validator(mode="after")
    def _sealed_whole(self) -> Threshold:
        if (self.set_with is None) != (self.set_with_sha256 is None):
            raise ValueError("set_with and set_with_sha256 must be given together or not at all")
        return self

    @model_validator(mode="after")
    def _warns_below(self) -> Threshold:
        if self.warn_above is not None and self.warn_above >= self.value:
            raise ValueError(f"warn_above must lie below value ({self.value}), got {self.warn_above}")
        return self


class Zone(Strict):
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


class Golden(Strict):
    """A frame of known verdict, an image file in the recipe's folder `golden`; `score` is what it had when stored."""

    file: GoldenFile
    sha256: Sha256
    verdict: GoldenVerdict
    score: float | None = None


PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class Recipe(Strict):
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
    quantised_sha256: dict[str, Sha256] = Field(default_factory=dict)
    roi_mask: str | None = None
    roi_mask_sha256: str | None = None
    zones: tuple[Zone, ...] = ()
    golden: tuple[Golden, ...] = ()
    expected_frames: ExpectedFrames | None = None
    qualification: Qualification | None = None
    encoder_weights: str = "unknown"
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
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
