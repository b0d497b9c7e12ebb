"""JSON Schema of both files, for editors that complete and check YAML: each field's rule, not those between fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inspector.config.recipe import Recipe
from inspector.config.station import Station
from inspector.strict.base import Strict

MODELS: dict[str, type[Strict]] = {"station": Station, "recipe": Recipe}

_BYTES = r"^\s*(\d*\.?\d+)\s*(\w+)?"  # pydantic's, which takes any unit and checks it later
_BYTES_WITH_UNITS = r"^\s*\d*\.?\d+\s*([kKmMgGtTpPeE]([iI]?[bB])?|[bB])?\s*$"


def build_schema(name: str) -> dict[str, Any]:
    """The schema of `station` or `recipe` (draft 2020-12)."""
    schema = MODELS[name].model_json_schema(by_alias=True)
    for part in _walk(schema):
        if "patternProperties" in part:
            part["additionalProperties"] = False  # names that break their rule
        if part.get("pattern") == _BYTES:
            part["pattern"] = _BYTES_WITH_UNITS
        if isinstance(tag := part.get("discriminator"), dict):  # a union is told apart by a key that must be there
            for reference in tag["mapping"].values():
                member = schema["$defs"][reference.removeprefix("#/$defs/")]
                member["required"] = sorted({tag["propertyName"], *member.get("required", ())})
    schema["required"] = sorted({"schema", *schema["required"]})  # in recipes a default of the model
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in it."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _walk(inner)
