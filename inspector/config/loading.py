"""Reading both files. Every error names file, line, field, rule and the value found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inspector.config.recipe import RECIPE_FILE, Recipe
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
        RecipeError: missing, or not a valid recipe.
    """
    return load_strict(folder / RECIPE_FILE, Recipe, RecipeError)


def dump_recipe(recipe: Recipe) -> str:
    """The text of recipe.yaml."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def load_strict(path: Path, model: type[_Model], error: type[ConfigError]) -> _Model:
    """Read a YAML file as `model`.

    Raises:
        error: with every fault found, one per line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{path}: cannot be read: {fault}") from fault
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicates(node, path, error)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as fault:  # odd keys, dates, aliases raise these
        raise error(f"{path}: not valid YAML: {fault}") from fault
    if not isinstance(data, dict):
        raise error(f"{path}:1: must be a mapping of keys to values, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as fault:
        raise error("\n".join(_describe(path, node, item) for item in fault.errors())) from fault


def locate_line(path: Path, field: tuple[int | str, ...]) -> int:
    """Line (from 1) of a field in a file that loaded; of what is written above it where it stands at its default."""
    return _locate(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), field)[0]


def _refuse_duplicates(node: yaml.Node | None, path: Path, error: type[ConfigError]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise error(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            seen.add(key.value)
            _refuse_duplicates(value, path, error)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, path, error)


def _describe(path: Path, node: yaml.Node | None, item: Any) -> str:
    line, found = _locate(node, item["loc"])
    field = ".".join(found) or "(file)"
    if item["type"] == "extra_forbidden":
        return f"{path}:{line}: {field}: unknown key, value {item['input']!r}"
    if item["type"] == "missing":
        missing = ".".join([*found, str(item["loc"][-1])])
        return f"{path}:{line}: {missing}: required, but missing"
    return f"{path}:{line}: {field}: {item['msg']}, got {item['input']!r}"


def _locate(node: yaml.Node | None, loc: tuple[int | str, ...]) -> tuple[int, list[str]]:
    """Line (from 1) and path in the file of pydantic's error location, which also names union members."""
    line, found = 1, []
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(step)]
            if match:
                (key, node) = match[0]
                line = key.start_mark.line + 1
                found.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
            found.append(str(step))
    return line, found
