"""What may stand in a field, in words: from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_UNITS = {"_ms": "ms", "_s": "s", "_days": "days", "_fps": "1/s", "_hw": "pixels", "_px": "sensor pixels"}
"""By the end of a field's name: the house's names carry their unit."""
_RULES = {
    "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}", "minLength": "at least {} characters", "maxLength": "at most {} characters",
}  # fmt: skip
_RANGES = (("minimum", "maximum", "{} to {}"), ("minLength", "maxLength", "{} to {} characters"))
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_NAMED = {
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "name: 1 to 64 of A–Z a–z 0–9 `_` `.` `-`, the first a letter or digit",
    "^[0-9a-f]{64}$": "sha256: 64 hexadecimal digits",
    r"^(auto|cpu|cuda(:\d+)?)$": "`auto`, `cpu`, `cuda`, `cuda:N`",
    r"^(cpu|cuda:(0|[1-9]\d*))$": "`cpu`, `cuda:N`",
    "^golden/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$": "`golden/FILE`, without a folder below",
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$": "name of a file, without a folder",
}
"""Rules of text in words. Each there is must stand here."""


def describe_value(schema: Schema, field: str, value: Schema) -> str:
    """Type or values of a field, with the unit of its numbers, and its rule.

    Args:
        schema: the whole file's, for its definitions.
        field: its name.
        value: its part of the schema.
    """
    unit = next((f" ({unit})" for end, unit in _UNITS.items() if field.endswith(end)), "")
    return _describe(schema, value, unit)


def describe_default(value: Schema, *, required: bool, is_part: bool) -> str:
    """What holds where the field is not given; `is_part`: it has fields of its own."""
    if required:
        return "*required*"
    if "default" not in value:  # made anew for each file
        return "empty"
    default = value["default"]
    if is_part and isinstance(default, dict):
        return f"`{default['type']}`" if "type" in default else "its defaults"
    if isinstance(default, int) and any(_is_bytes(each) for each in (value, *value.get("anyOf", ()))):
        return f"`{_show_bytes(default)}`"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def name_of(reference: str) -> str:
    """The name of a definition that is referred to."""
    return reference.rpartition("/")[2]


# ------------------------------------------------------------ forms


def _is_bytes(value: Mapping[str, Any]) -> bool:
    """Whether it is pydantic's `ByteSize`: text with a unit, or a number."""
    return any("[kKmMgGtTpPeE]" in choice.get("pattern", "") for choice in value.get("anyOf", ()))


def _describe(schema: Schema, value: Schema, unit: str) -> str:
    return next(describe(schema, value, unit) for fits, describe in _FORMS if fits(value))


def _describe_reference(schema: Schema, value: Schema, unit: str) -> str:
    return _describe(schema, schema["$defs"][name_of(value["$ref"])], unit)


def _list_values(value: Schema) -> str:
    return ", ".join(f"`{each}`" for each in value.get("enum", (value.get("const"),)))


def _describe_choices(schema: Schema, value: Schema, unit: str) -> str:
    choices = value.get("anyOf") or value["oneOf"]
    return ", or ".join(_describe(schema, choice, unit) for choice in choices)


def _describe_list(schema: Schema, value: Schema, unit: str) -> str:
    if "prefixItems" in value:
        kinds = list(dict.fromkeys(_describe(schema, item, unit) for item in value["prefixItems"]))
        return f"list of {len(value['prefixItems'])}: {', then '.join(kinds)}"
    return f"list: {_describe(schema, value['items'], unit)}"


def _describe_mapping(schema: Schema, value: Schema, unit: str) -> str:
    entries = value.get("additionalProperties")
    return (
        f"mapping: name to {_describe(schema, entries, unit)}" if isinstance(entries, dict) and entries else "mapping"
    )


def _describe_plain(value: Schema, unit: str) -> str:
    kind = str(value.get("type"))
    named = _TYPES.get(kind, "anything") + (unit if kind in {"integer", "number"} else "")
    return ", ".join([named, *_list_rules(value)])


_FORMS: tuple[tuple[Callable[[Schema], bool], Callable[[Schema, Schema, str], str]], ...] = (
    (lambda value: "$ref" in value, _describe_reference),
    (lambda value: "enum" in value or "const" in value, lambda schema, value, unit: _list_values(value)),
    (_is_bytes, lambda schema, value, unit: "size in bytes, or with a unit"),
    (lambda value: "anyOf" in value or "oneOf" in value, _describe_choices),
    (lambda value: value.get("type") == "array", _describe_list),
    (lambda value: value.get("type") == "object", _describe_mapping),
    (lambda value: value.get("format") == "path", lambda schema, value, unit: "path"),
    (lambda value: "pattern" in value, lambda schema, value, unit: _NAMED[value["pattern"]]),
    (lambda value: True, lambda schema, value, unit: _describe_plain(value, unit)),
)
"""How a part of the schema looks, and what tells of it; the first that fits."""


def _list_rules(value: Mapping[str, Any]) -> Iterator[str]:
    said: set[str] = set()
    for low, high, rule in _RANGES:
        if low in value and high in value:
            said |= {low, high}
            yield rule.format(_number(value[low]), _number(value[high]))
    for key, rule in _RULES.items():
        if key in value and key not in said:
            yield rule.format(_number(value[key]))


def _show_bytes(count: int) -> str:
    for factor, unit in ((1024**3, "GiB"), (1024**2, "MiB")):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
