"""The strict model of recipe.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from inspector.config.expected_frames import ExpectedFrames
from inspector.config.fixture import FixtureReference
from inspector.config.preprocessing import Preprocessing, Tiling
from inspector.config.qualification import Qualification
from inspector.config.threshold import Threshold
from inspector.strict.base import Name, SchemaVersion, Sha256, Strict

WEIGHTS_FILE = "weights.safetensors"
RECIPE_FILE = "recipe.yaml"


class Zone(Strict):
    """Part of the frame with a threshold of its own; without one the recipe's holds there.

    Its target and bound are its share of the frame's, the bound at so much more confidence that the sum over the
    zones and the rest, which the recipe's threshold states, holds at 95 %.
    """

    name: Name
    """Of the zone; no two have the same."""
    mask: str
    """File in the recipe's folder: the zone is where it is not black."""
    mask_sha256: Sha256
    """Checksum of that file."""
    threshold: Threshold | None = None
    """The zone's own. null: the recipe's holds there."""


GoldenVerdict = Literal["PASS", "FAIL"]
GoldenFile = Annotated[str, Field(pattern=r"^golden/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]  # never outside the recipe


class Golden(Strict):
    """A frame of known verdict. The recipe is refused where one is not judged so."""

    file: GoldenFile
    """Image file in the recipe's folder `golden`, its bytes as they were."""
    sha256: Sha256
    """Checksum of that file."""
    verdict: GoldenVerdict
    """What it must be judged."""
    score: float | None = None
    """What it scored when it was stored."""


PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class Recipe(Strict):
    """All that is needed to judge one product, beside the weights."""

    schema_version: SchemaVersion = Field(default=1, alias="schema")
    """Version of this file's form."""
    recipe_id: Name
    """The recipe's name, in results and metrics."""
    backbone: str
    """Network of the encoder, resnet18 to wide_resnet101_2; a tag of timm may follow."""
    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    """Layers of the encoder whose features are compared."""
    bottleneck_width: Literal["official", "anomalib"] = "official"
    """Whose bottleneck and decoder the weights are: RD4AD's or anomalib's."""
    student: Literal["full", "light"] = "full"
    """Width of bottleneck and decoder: the paper's, or half of it, which is faster."""
    anomaly_map_mode: Literal["add", "multiply"] = "add"
    """How the layers' maps become one."""
    sigma: Annotated[float, Field(ge=0)] = 4.0
    """Of the Gaussian that smooths the map, in tile pixels. 0: none."""
    map_normalisation: Literal["none", "position"] = "none"
    """`position`: distances are relative to what good tiles show at that place; `none`: as in the paper."""
    preprocessing: Preprocessing = Preprocessing()
    """What a frame must be, and how it becomes the network's input."""
    tiling: Tiling = Tiling()
    """How a frame is cut into tiles."""
    threshold: Threshold | None = None
    """The score above which a frame fails. null: not calibrated, and not loaded by a station."""
    min_region_area: Annotated[int, Field(ge=1)] = 1
    """Pixels of the map that must reach a level together for it to count as the score."""
    precision: PrecisionChoice = "auto"
    """What the network computes in; `auto`: the device's fastest but int8."""
    calibrated_in: Literal["fp32", "bf16", "fp16", "int8"] | None = None
    """What the threshold's scores were computed in. null: unknown."""
    probe: str | None = None
    """File of tiles with known scores, by which an engine proves itself at each start. null: none; then only float32
    judges.
    """
    probe_sha256: Sha256 | None = None
    """Checksum of that file."""
    quantised: str | None = None
    """File of the network in int8. null: none."""
    quantised_sha256: dict[str, Sha256] = Field(default_factory=dict)
    """Checksums of the files that belong to it, by name."""
    roi_mask: str | None = None
    """File in the recipe's folder: anomalies count where it is not black. null: everywhere."""
    roi_mask_sha256: str | None = None
    """Checksum of that file."""
    zones: tuple[Zone, ...] = ()
    """Parts of the frame with a threshold of their own."""
    golden: tuple[Golden, ...] = ()
    """Frames of known verdict, judged before any other at each start."""
    expected_frames: ExpectedFrames | None = None
    """What good frames show; a frame that does not never passes. null: not measured, and every frame is judged."""
    fixture: FixtureReference | None = None
    """Where the part lies: each frame is warped onto a reference picture first. null: frames are judged as they lie."""
    qualification: Qualification | None = None
    """How often artificial defects are caught. null: not measured."""
    encoder_weights: str = "unknown"
    """Where the encoder's weights come from."""
    training: dict[str, Any] = Field(default_factory=dict)
    """What training was told and did. For people."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """What was measured of it. For people."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the program and its libraries that wrote it."""
    weights_sha256: Sha256
    """Checksum of `weights.safetensors`."""

    @model_validator(mode="after")
    def _files_have_sums(self) -> Recipe:
        for name in ("roi_mask", "probe", "quantised"):
            if bool(getattr(self, name)) != bool(getattr(self, f"{name}_sha256")):
                raise ValueError(f"{name} and {name}_sha256 must be given together or not at all")
        return self

    @model_validator(mode="after")
    def _fixture_has_frame(self) -> Recipe:
        if self.fixture is None:
            return self
        if self.roi_mask is None or self.preprocessing.frame_hw is None or self.preprocessing.resize_hw is not None:
            raise ValueError("fixture must be given with roi_mask and preprocessing.frame_hw, without resize_hw")
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
            raise ValueError(f"each zone must have a unique name, got {names}")
        return value

    @field_validator("golden")
    @classmethod
    def _own_files(cls, value: tuple[Golden, ...]) -> tuple[Golden, ...]:
        files = [golden.file for golden in value]
        if len(set(files)) < len(files):
            raise ValueError(f"each golden frame must have its own file, got {files}")
        return value
