"""Reading both files. Every error names file, line, column, field, rule and the value found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inspector.config.base import SCHEMA
from inspector.config.faults import (
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
from inspector.config.recipe import RECIPE_FILE, Recipe
from inspector.config.recipe_seal import Remark, list_faults
from inspector.config.station import Camera, FolderSource, Http, Security, Station, Tls
from inspector.errors import ConfigError, RecipeError
from inspector.secret import anchor_secret

_Model = TypeVar("_Model", bound=BaseModel)


def load_station(path: Path) -> Station:
    """Read a station file; relative paths in it become relative to its folder.

    Raises:
        ConfigError: with every fault found, one per line.
    """
    station = load_strict(path, Station, ConfigError)
    base = path.resolve().parent
    update: dict[str, Any] = {
        "state_dir": base / station.state_dir,
        "cameras": {name: _anchor_camera(camera, base) for name, camera in station.cameras.items()},
        "security": station.security and _anchor_security(station.security, base),
        "http": _anchor_http(station.http, base),
    }
    return station.model_copy(update=update)


def _anchor_security(security: Security, base: Path) -> Security:
    return security.model_copy(update={"key": anchor_secret(security.key, base), "clients": base / security.clients})


def _anchor_http(http: Http, base: Path) -> Http:
    update: dict[str, Any] = {}
    if http.tls is not None:
        update["tls"] = Tls(certificate=base / http.tls.certificate, key=anchor_secret(http.tls.key, base))
    if http.password is not None:
        update["password"] = anchor_secret(http.password, base)
    return http.model_copy(update=update)


def _anchor_camera(camera: Camera, base: Path) -> Camera:
    update: dict[str, Any] = {}
    if camera.recipe is not None:
        update["recipe"] = base / camera.recipe
    if isinstance(camera.source, FolderSource):
        update["source"] = camera.source.model_copy(update={"path": base / camera.source.path})
    return camera.model_copy(update=update)


def load_recipe(folder: Path) -> Recipe:
    """Read and check `folder`/recipe.yaml. Checksums are checked where the files are read.

    Raises:
        RecipeError: missing, not a valid recipe, or not what its threshold was set with.
    """
    return load_strict(folder / RECIPE_FILE, Recipe, RecipeError, list_faults)


def load_edited_recipe(folder: Path) -> Recipe:
    """As `load_recipe`, whatever its threshold is worth: for those who set it anew, and judge nothing before.

    Raises:
        RecipeError: missing, or not a valid recipe.
    """
    return load_strict(folder / RECIPE_FILE, Recipe, RecipeError)


def dump_recipe(recipe: Recipe) -> str:
    """The text of recipe.yaml."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


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
