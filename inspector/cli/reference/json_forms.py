"""What JSON Schemas of messages are put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT = {"type": "string"}
TIME = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**63}
SEQ = {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**63}


def refer(name: str) -> Schema:
    """One of the definitions."""
    return {"$ref": f"#/$defs/{name}"}


def define(description: str, properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> Schema:
    """An object; all keys are required but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"description": description, "type": "object", "properties": dict(properties), "required": required}


def say(texts: Mapping[str, str], properties: Mapping[str, Any]) -> Schema:
    """The properties with their descriptions, in the order of these."""
    return {name: {"description": text} | properties[name] for name, text in texts.items()}


def or_null(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}
