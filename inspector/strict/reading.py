"""Reading a YAML file that people write. Every error names file, line, column, field, rule and the value found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inspector.errors import ConfigError
from inspector.strict.base import SCHEMA, Remark
from inspector.strict.faults import (
    describe_bools,
    describe_doubts,
    describe_duplicates,
    describe_missing_schema,
    describe_remark,
    describe_shape,
    describe_syntax,
    describe_values,
    describe_version,
    is_no_text,
    locate,
)

_Model = TypeVar("_Model", bound=BaseModel)


def locate_field(path: Path, field: tuple[int | str, ...]) -> str:
    """`FILE:LINE:COLUMN` of a field in a file that loaded; of what is written above it where it is at its default."""
    (line, column), _ = locate(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), field)
    return f"{path}:{line}:{column}"


class _Loader(yaml.SafeLoader):
    """Takes every key for text, and says where a value stands that cannot be made: an impossible date, say."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if is_no_text(key):  # told by `describe_doubts`; as text, it does not hide what is below it
                key.tag = self.DEFAULT_SCALAR_TAG
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            hint = f"; if it is text, write it in quotes: '{node.value}'" if is_no_text(node) else ""
            problem = f"{error}{hint}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def load_strict(
    path: Path,
    model: type[_Model],
    error: type[ConfigError],
    find: Callable[[_Model], Sequence[Remark]] = lambda loaded: (),
) -> _Model:
    """Read a YAML file as `model`.

    Args:
        path: the file.
        model: what it must be.
        error: what is raised where it is not.
        find: finds faults that only show in the whole.

    Raises:
        error: with every fault found, one per line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read: {fault}") from fault
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        faults = [*describe_duplicates(path, node), *describe_doubts(path, node)]
        data = _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as fault:  # odd keys and aliases raise these
        raise error(describe_syntax(path, text, fault)) from fault
    if not isinstance(data, dict):
        raise error(describe_shape(path, data))
    version = data.get("schema")
    if type(version) is int and version != SCHEMA:
        raise error(describe_version(path, node, version, f"what `inspector schema {model.__name__.lower()}` prints"))
    try:
        loaded = model.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as fault:
        raise error("\n".join(faults + describe_values(path, node, model, fault))) from fault
    if "schema_version" not in loaded.model_fields_set:  # a default of the model, for recipes that are made here
        faults.append(describe_missing_schema(path))
    faults += describe_bools(path, node, data, loaded.model_dump(by_alias=True))
    faults += [describe_remark(path, node, remark) for remark in find(loaded)]
    if faults:
        raise error("\n".join(faults))
    return loaded
