"""Strict models of station.yaml and recipe.yaml, and reading them."""

from __future__ import annotations

from inspector.config.camera import Camera
from inspector.config.devices import MissingDevice
from inspector.config.expected_frames import EXPECTATIONS, Bound, Expected, ExpectedFrames
from inspector.config.fixture import FixtureLimits, FixtureReference
from inspector.config.http import Http, Tls
from inspector.config.loading import (
    dump_recipe,
    load_edited_recipe,
    load_recipe,
    load_station,
)
from inspector.config.outputs import Evidence, Journal, Logging, Overlays
from inspector.config.part import Part
from inspector.config.preprocessing import Normalisation, Preprocessing, Tiling
from inspector.config.qualification import Qualification, describe_qualification
from inspector.config.recipe import (
    RECIPE_FILE,
    WEIGHTS_FILE,
    Golden,
    GoldenFile,
    GoldenVerdict,
    PrecisionChoice,
    Recipe,
    Zone,
)
from inspector.config.recipe_seal import list_changes, list_doubts, seal
from inspector.config.station import Buffer, Station, WhenFull
from inspector.config.threshold import (
    CrossValidation,
    DefectScores,
    GoodScores,
    GroupCheck,
    Interval,
    Policy,
    Tail,
    Threshold,
)
from inspector.security.settings import SOCKETS, Security, Sockets
from inspector.strict.base import SCHEMA, Name, Remark, SchemaVersion, Sha256, Share, Size, Strict
from inspector.strict.reading import load_strict, locate_field

__all__ = [
    "EXPECTATIONS",
    "RECIPE_FILE",
    "SCHEMA",
    "SOCKETS",
    "WEIGHTS_FILE",
    "Bound",
    "Buffer",
    "Camera",
    "CrossValidation",
    "DefectScores",
    "Evidence",
    "Expected",
    "ExpectedFrames",
    "FixtureLimits",
    "FixtureReference",
    "Golden",
    "GoldenFile",
    "GoldenVerdict",
    "GoodScores",
    "GroupCheck",
    "Http",
    "Interval",
    "Journal",
    "Logging",
    "MissingDevice",
    "Name",
    "Normalisation",
    "Overlays",
    "Part",
    "Policy",
    "PrecisionChoice",
    "Preprocessing",
    "Qualification",
    "Recipe",
    "Remark",
    "SchemaVersion",
    "Security",
    "Sha256",
    "Share",
    "Size",
    "Sockets",
    "Station",
    "Strict",
    "Tail",
    "Threshold",
    "Tiling",
    "Tls",
    "WhenFull",
    "Zone",
    "describe_qualification",
    "dump_recipe",
    "list_changes",
    "list_doubts",
    "load_edited_recipe",
    "load_recipe",
    "load_station",
    "load_strict",
    "locate_field",
    "seal",
]
