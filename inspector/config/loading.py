"""Reading both files. Every error names file, line, column, field, rule and the value found."""

from __future__ import annotations

from pathlib import Path

import yaml

from inspector.config.recipe import RECIPE_FILE, Recipe
from inspector.config.recipe_seal import list_faults
from inspector.config.station import Station
from inspector.errors import ConfigError, RecipeError
from inspector.strict.reading import load_strict


def load_station(path: Path) -> Station:
    """Read a station file; relative paths in it become relative to its folder.

    Raises:
        ConfigError: with every fault found, one per line.
    """
    return load_strict(path, Station, ConfigError).anchor(path.resolve().parent)


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
