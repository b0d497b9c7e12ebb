"""The kinds of source: what every one of them defines, so that nothing else need know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from inspector.config.json_schema import build_schema
from inspector.errors import ConfigError
from inspector.sources.base import Source
from inspector.sources.registry import KINDS, AnySource
from inspector.sources.settings import ListeningSettings, SourceSettings

LEAST: dict[str, dict[str, Any]] = {
    "zmq": {},
    "imagezmq": {},
    "folder": {"path": "in"},
    "opencv": {"device": 0},
    "pylon": {},
    "gige": {},
    "genicam": {"producer": "maker.cti"},
}
"""What must be said beside the type."""
CONTRACT = [name for name in (*Source.__annotations__, *vars(Source)) if not name.startswith("_")]


def make(kind: str) -> SourceSettings:
    return TypeAdapter(AnySource).validate_python({"type": kind, **LEAST[kind]})


def test_every_kind_is_tried_here() -> None:
    assert set(LEAST) == set(KINDS)
    assert {"connect", "read", "close", "is_busy", "cameras", "can_wait"} <= set(CONTRACT)


@pytest.mark.parametrize("kind", LEAST)
def test_source_has_what_the_contract_names_unless_its_frames_are_sent_to_the_station(kind: str) -> None:
    settings = make(kind)
    try:
        source = settings.build("top", simulated=True)
    except ConfigError as error:
        pytest.skip(str(error))
    assert (source is None) == isinstance(settings, ListeningSettings)
    if source is not None:
        assert [name for name in CONTRACT if not hasattr(source, name)] == []
        assert source.cameras == ("top",)
        source.close()  # may come before `connect`


@pytest.mark.parametrize("kind", LEAST)
def test_relative_paths_become_those_of_the_station_files_folder(kind: str, tmp_path: Path) -> None:
    settings = make(kind).anchor(tmp_path)
    assert settings.folder in {None, tmp_path / "in"}
    assert all(value.is_absolute() for _, value in settings if isinstance(value, Path))


@pytest.mark.parametrize("kind", LEAST)
def test_what_a_camera_has_for_itself_alone_is_named_by_its_own_field(kind: str, tmp_path: Path) -> None:
    for claim in make(kind).list_claims("top", tmp_path):
        assert claim.field[:2] == ("top", "source")
        assert claim.field[2] in KINDS[kind].model_fields


def test_editors_are_told_of_every_kind() -> None:
    source = build_schema("station")["$defs"]["Camera"]["properties"]["source"]
    assert set(source["discriminator"]["mapping"]) == set(KINDS)
