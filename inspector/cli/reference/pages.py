"""Which pages there are, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import typer

from inspector.cli.reference.commands import build_commands
from inspector.cli.reference.events import build_events
from inspector.cli.reference.fields import build_recipe, build_station
from inspector.cli.reference.metrics import build_metrics
from inspector.cli.reference.reasons import build_reasons
from inspector.cli.reference.wire import build_wire


def list_pages(program: typer.Typer) -> Mapping[str, Callable[[], str]]:
    """What builds each page, by the name of its file."""
    return {
        "station.md": build_station,
        "recipe.md": build_recipe,
        "cli.md": lambda: build_commands(program),
        "reasons.md": build_reasons,
        "events.md": build_events,
        "metrics.md": build_metrics,
        "wire.schema.json": build_wire,
    }


def write_pages(program: typer.Typer, folder: Path) -> None:
    """Write all of them into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in list_pages(program).items():
        (folder / name).write_text(build(), encoding="utf-8")
