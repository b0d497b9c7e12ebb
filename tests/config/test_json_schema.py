"""The JSON Schemas take what the program takes, and refuse what breaks a field's rule."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from inspector.config import Recipe, Station, Threshold, dump_recipe
from inspector.config.json_schema import build_schema

STATION = {"schema": 1, "station": "press-3", "cameras": {"top": {}}}
SHA = "ab" * 32


def complaints(name: str, data: dict[str, Any]) -> list[str]:
    schema = build_schema(name)
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(data)]


def source(**source: Any) -> dict[str, Any]:
    return {"cameras": {"top": {"source": source}}}


@pytest.mark.parametrize(
    "change",
    [
        {"buffer": {"max_bytes": "1GiB"}},
        {"buffer": {"max_bytes": "1.5 gb"}},
        {"buffer": {"max_bytes": 1024}},
        {"journal": {"keep_days": None, "max_bytes": None}},
        {"device": "cuda:1"},
        {"cameras": {"top": {"max_age_ms": 500}, "side": {"max_age_ms": "deadline"}, "left": {"max_age_ms": None}}},
        source(type="folder", path="x"),
        source(type="opencv", device=0),
        source(type="opencv", device="rtsp://192.0.2.7/live"),
    ],
)
def test_station_is_taken_by_schema_and_program_alike(change: dict[str, Any]) -> None:
    assert complaints("station", STATION | change) == []
    Station.model_validate(STATION | change)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"station": "press 3"},
        {"colour": "red"},
        {"cameras": {}},
        {"cameras": {"a b": {}}},
        {"cameras": {"top": {"deadline_ms": 0}}},
        {"cameras": {"top": {"max_age_ms": 0}}},
        {"cameras": {"top": {"max_age_ms": "never"}}},
        {"cameras": {"top": {"max_age_ms": True}}},
        {"cameras": {"top": {"max_age_ms": "500"}}},
        {"buffer": {"max_bytes": "much"}},
        {"buffer": {"max_bytes": "3 parrots"}},
        {"buffer": {"max_bytes": -1}},
        {"device": "tpu"},
        {"http": {"port": 70_000}},
        source(path="x"),
        source(type="folder"),
        source(type="zmq", path="x"),
        source(type="usb"),
    ],
)
def test_station_is_refused_by_schema_and_program_alike(change: dict[str, Any]) -> None:
    assert complaints("station", STATION | change)
    with pytest.raises(ValidationError):
        Station.model_validate(STATION | change)


def test_recipe_is_taken_as_it_is_written_and_refused_when_wrong_or_without_its_version() -> None:
    threshold = Threshold(value=1.5, method="gumbel", warn_above=1.0)
    recipe = Recipe(recipe_id="r", backbone="resnet18", weights_sha256=SHA, threshold=threshold)
    data = yaml.safe_load(dump_recipe(recipe))
    assert complaints("recipe", data) == []
    assert complaints("recipe", data | {"sigma": -1})
    assert complaints("recipe", data | {"threshold": {"value": 0, "method": "manual"}})
    assert complaints("recipe", {key: value for key, value in data.items() if key != "schema"})
