"""`inspector schema`: the JSON Schema of station.yaml or recipe.yaml."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class File(StrEnum):
    """Files that have a schema."""

    STATION = "station"
    RECIPE = "recipe"


def schema(file: Annotated[File, typer.Argument(metavar="station|recipe", help="Which file to describe.")]) -> None:
    """Print the JSON Schema of station.yaml or recipe.yaml, for editors that complete and check YAML.

    The YAML language server uses it if the first line is `# yaml-language-server: $schema=station.schema.json`. Rules
    between fields are not included: use `inspector check` for a station file.
    """
    from inspector.config.json_schema import build_schema

    typer.echo(json.dumps(build_schema(file), indent=2))
