"""What is wrong with a file, in words: file:line:column, field, rule, value, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from inspector import __version__
from inspector.strict.base import SCHEMA, Remark

Place = tuple[int, int]
"""Line and column, from 1."""

Loc = tuple[int | str, ...]
"""Where a value is in a file, as pydantic says it: keys and numbers, and names of union members."""

_START: Place = (1, 1)

_TAG = "tag:yaml.org,2002:"
_NO_TEXT = {"bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date", "null": "nothing"}
"""What YAML makes of text without quotes, by its tag."""
_BASE_8 = re.compile(r"[-+]?0[0-7_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def describe_syntax(path: Path, text: str, fault: Exception) -> str:
    """A fault for which there are no values to look at yet."""
    mark, position = getattr(fault, "problem_mark", None), getattr(fault, "position", None)
    place = _START
    if mark is not None:
        place = (mark.line + 1, mark.column + 1)
    elif isinstance(position, int):
        place = (text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1)
    words = [getattr(fault, name, None) for name in ("context", "problem", "reason")]
    message = ", ".join(str(word) for word in words if word) or str(fault)
    return f"{_show(path, place)}: not valid YAML: {message}"


def describe_shape(path: Path, data: object) -> str:
    """A file that holds something else than keys and values."""
    return f"{_show(path, _START)}: must be a mapping of keys to values, got {type(data).__name__}"


def describe_version(path: Path, node: yaml.Node | None, version: int, guide: str) -> str:
    """A file of another version than the one there is; nothing else in it can be judged."""
    if version > SCHEMA:
        advice = "the file was written for a newer inspector: upgrade inspector on this machine"
    else:
        advice = f"this version does not exist: write schema: {SCHEMA} and compare the file with {guide}"
    place, _ = locate(node, ("schema",))
    rule = f"must be {SCHEMA}, the version that inspector {__version__} reads"
    return f"{_show(path, place)}: schema: {rule}, got {version}; {advice}"


def describe_missing_schema(path: Path) -> str:
    """A file that does not say of which version it is."""
    rule = f"required, but missing; write schema: {SCHEMA}, the version that inspector {__version__} reads"
    return f"{_show(path, _START)}: schema: {rule}"


def describe_duplicates(path: Path, node: yaml.Node | None) -> Iterator[str]:
    """Every key that stands twice in a mapping."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield f"{_show(path, _place(key))}: {key.value}: must be given once, got it twice"
            seen.add(str(key.value))
            yield from describe_duplicates(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from describe_duplicates(path, value)


def describe_doubts(path: Path, node: yaml.Node | None, field: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key that YAML takes for something else than text, and every number that it takes for another one."""
    entries: list[tuple[yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        entries = node.value
    elif isinstance(node, yaml.SequenceNode):
        entries = [(value, value) for value in node.value]
    for number, (start, value) in enumerate(entries):
        below = (*field, str(number) if start is value else str(start.value))
        head = f"{_show(path, _place(start))}: {'.'.join(below)}: "
        if start is not value and is_no_text(start):
            yield head + _ask_for_quotes(start)
        if is_no_text(value) and (rule := _doubt_number(value.value)):
            yield head + rule
        yield from describe_doubts(path, value, below)


def describe_bools(path: Path, node: yaml.Node | None, read: Any, taken: Any, loc: Loc = ()) -> Iterator[str]:
    """Every true or false, as `on` and `yes` are in YAML, that was taken for the number 1 or 0.

    Args:
        path, node: the file.
        read: what YAML made of it.
        taken: what the model made of that, dumped.
        loc: where both are in the file.
    """
    if isinstance(read, bool) and not isinstance(taken, bool):
        place, found, value = _find(node, loc)
        words = value.value if isinstance(value, yaml.ScalarNode) else read
        yield f"{_show(path, place)}: {'.'.join(found)}: must be a number or text in quotes, got {words}"
    elif isinstance(read, dict) and isinstance(taken, dict):
        for key in filter(taken.__contains__, read):
            yield from describe_bools(path, node, read[key], taken[key], (*loc, key))
    elif isinstance(read, list) and isinstance(taken, list | tuple):
        for number, pair in enumerate(zip(read, taken, strict=False)):
            yield from describe_bools(path, node, *pair, (*loc, number))


def is_no_text(node: yaml.Node | None) -> bool:
    """Whether YAML takes a plain word for a number, a date, true or false, or nothing."""
    return isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _NO_TEXT


def _ask_for_quotes(node: yaml.Node) -> str:
    kind = _NO_TEXT[node.tag.removeprefix(_TAG)]
    return f"must be text; write it in quotes: '{node.value}', got {node.value or 'an empty value'}, in YAML {kind}"


def _doubt_number(text: str) -> str | None:
    """What is wrong with a number of YAML 1.1 that people read as another: in base 8 or 60, without a word of it."""
    digits = text.replace("_", "")
    if _BASE_60.fullmatch(text):
        base, meant = 60, str(yaml.safe_load(text))
    elif _BASE_8.fullmatch(text) and int(digits, 8) != int(digits):
        base, meant = 8, str(int(digits))
    else:
        return None
    rule = f"must be a decimal number or text in quotes; write {meant} or '{text}'"
    return f"{rule}, got {text}, in YAML a number in base {base}"


def describe_values(path: Path, node: yaml.Node | None, model: type[BaseModel], fault: ValidationError) -> list[str]:
    """Every value that breaks a rule, every unknown and every missing key."""
    return [line for item in fault.errors() for line in _describe_item(path, node, model, item)]


def _describe_item(path: Path, node: yaml.Node | None, model: type[BaseModel], item: Any) -> Iterator[str]:
    if item["type"] == "conflicts":  # several fields', each with a place of its own
        for below, rule in item["ctx"]["faults"]:
            place, found = locate(node, (*item["loc"], *below))
            yield f"{_show(path, place)}: {'.'.join(found)}: {rule}"
    else:
        yield _describe(path, node, model, item)


def _describe(path: Path, node: yaml.Node | None, model: type[BaseModel], item: Any) -> str:
    loc = item["loc"]
    place, found, value = _find(node, loc)
    where, field = _show(path, place), ".".join(found) or "(file)"
    if item["type"] == "extra_forbidden":
        meant = get_close_matches(str(loc[-1]), list_keys(model, loc[:-1]), n=1)
        hint = f"; did you mean {meant[0]}?" if meant else ""
        return f"{where}: {field}: unknown key, got value {item['input']!r}{hint}"
    if item["type"] == "missing":
        missing = ".".join([*found, str(loc[-1])])
        return describe_missing_schema(path) if missing == "schema" else f"{where}: {missing}: required, but missing"
    if item["type"] in {"string_type", "path_type"} and value is not None and value.value and is_no_text(value):
        return f"{where}: {field}: {_ask_for_quotes(value)}"
    rule = item["msg"].removeprefix("Value error, ")
    if ", got " in rule:  # a rule between fields: it names the value, and the input is the whole section
        return f"{where}: {field}: {rule}"
    return f"{where}: {field}: {rule}, got {item['input']!r}"


def describe_remark(path: Path, node: yaml.Node | None, remark: Remark) -> str:
    """A remark on a file that is valid by itself, with its place."""
    return f"{_show(path, locate(node, remark.field)[0])}: {remark}"


def locate(node: yaml.Node | None, loc: Loc) -> tuple[Place, list[str]]:
    """Place and path in the file of pydantic's error location, which also names union members."""
    place, found, _ = _find(node, loc)
    return place, found


def _find(node: yaml.Node | None, loc: Loc) -> tuple[Place, list[str], yaml.Node | None]:
    """As `locate`, and what stands there."""
    place, found = _START, []
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(step)]
            if match:
                (key, node) = match[0]
                place = _place(key)
                found.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            place = _place(node)
            found.append(str(step))
    return place, found, node


def list_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """Keys that are known at pydantic's error location."""
    models = [model]
    for step in loc:
        fields = [info for each in models for key, info in _keys(each).items() if key == step]
        tagged = [each for each in models if "type" in _keys(each) and step in get_args(_keys(each)["type"].annotation)]
        if fields:
            models = [found for info in fields for found in _find_models(info.annotation)]
        elif tagged:
            models = tagged  # a union's member, by the value of its key `type`
    return [key for each in models for key in _keys(each)]


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _find_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _find_models(part)]


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _show(path: Path, place: Place) -> str:
    return f"{path}:{place[0]}:{place[1]}"
