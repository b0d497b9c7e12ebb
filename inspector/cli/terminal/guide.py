"""Which page of the docs helps with a command: told by its `--help`, and after an error that ended it."""

from __future__ import annotations

import sys
from pathlib import Path

from inspector.errors import CheckpointError, DriverError, RecipeError, StartError, WeightsError

_ROOTS = (Path(__file__).resolve().parents[3], Path(sys.prefix, "share", "inspector"))
"""A checkout; then where an installed wheel has the docs."""

BY_ERROR: dict[type[Exception], str] = {
    StartError: "operator/start-that-fails.md",
    DriverError: "line-engineer/install.md#gpu",
    RecipeError: "line-engineer/recipes.md",
    WeightsError: "line-engineer/recipes.md#training-without-network",
    CheckpointError: "line-engineer/recipes.md#models-from-anomalib-or-rd4ad",
}
"""Errors that have a page of their own, whatever the command."""

BY_COMMAND = {
    "demo": "quickstart.md",
    "init": "quickstart.md",
    "train": "line-engineer/recipes.md",
    "calibrate": "line-engineer/calibrate.md",
    "evaluate": "line-engineer/evaluate.md#measure-on-labelled-frames",
    "golden": "line-engineer/evaluate.md#golden-frames-proof-at-every-start",
    "inspect": "line-engineer/evaluate.md#try-single-pictures",
    "run": "operator/start-that-fails.md",
    "check": "line-engineer/station-file.md",
    "cameras": "line-engineer/cameras/README.md",
    "record": "line-engineer/cameras/README.md",
    "snapshot": "line-engineer/cameras/README.md",
    "send": "line-engineer/cameras.md#zmq-frames-from-your-own-program",
    "tail": "operator/when-it-stops.md#the-station-does-not-answer-at-all",
    "recipe": "line-engineer/recipe-switch.md",
    "offline": "plc/triggers-and-offline.md#offline-and-online",
    "online": "plc/triggers-and-offline.md#offline-and-online",
    "trigger": "plc/triggers-and-offline.md#triggers",
    "schema": "line-engineer/station-file.md#help-in-the-editor",
    "bench": "line-engineer/precision-and-speed.md",
    "import": "line-engineer/recipes.md#models-from-anomalib-or-rd4ad",
    "encoder": "line-engineer/recipes.md#training-without-network",
    "journal": "line-engineer/records.md",
    "keys": "line-engineer/security.md",
    "reference": "developer/adding.md",
}


def find_page(command: str, error: BaseException | None = None) -> str:
    """The page that helps, from the folder docs on: the error's own or that of what caused it, else the command's."""
    while error is not None:
        for kind, page in BY_ERROR.items():
            if isinstance(error, kind):
                return page
        error = error.__cause__
    return BY_COMMAND.get(command, "README.md")


def locate_page(page: str) -> str:
    """The page's path; as it is named in the sources where there are no docs."""
    file, _, anchor = page.partition("#")
    for root in _ROOTS:
        if (path := root / "docs" / file).is_file():
            return f"{path}#{anchor}" if anchor else str(path)
    return f"docs/{page}"
