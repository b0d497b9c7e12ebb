"""`inspector evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from inspector.cli.options import Device, RecipeDir
from inspector.cli.progress import show_progress


def evaluate(
    recipe: RecipeDir,
    dataset_dir: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="A data set in MVTec layout.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the metrics here, too.")] = None,
    device: Device = "auto",
) -> None:
    """Measure a recipe on labelled frames."""
    from rich.console import Console
    from rich.table import Table

    from inspector.training.evaluate import evaluate as run_evaluation

    with show_progress() as update:
        metrics = run_evaluation(
            recipe,
            dataset_dir,
            device=device,
            advance=lambda done, total: update("evaluate", done / total, f"{done} of {total}"),
        )
    table = Table("metric", "value")
    for name, value in metrics.items():
        for label, number in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{number:.4f}" if isinstance(number, float) else str(number)
            table.add_row(f"{name} {label}".strip(), shown)
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(metrics, indent=1), encoding="utf-8")
