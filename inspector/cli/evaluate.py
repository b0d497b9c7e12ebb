"""`inspector evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspector.cli.terminal.options import Device, RecipeDir
from inspector.cli.terminal.progress import show_progress
from inspector.logs import lines

if TYPE_CHECKING:
    from rich.table import Column, Table

    from inspector.detection.run import Judgement
    from inspector.training.evaluation.evaluate import Evaluation
    from inspector.types import PixelFormat


def _check_target(path: Path | None) -> Path | None:
    """Told before the frames are judged, which may take an hour."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise typer.BadParameter(f"must be a file in a folder that exists, got {path}")
    return path


def evaluate(
    recipe: RecipeDir,
    dataset_dir: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="A data set in the MVTec layout.")],
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", callback=_check_target, help="Also write the metrics and each frame's score to this JSON file."
        ),
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", callback=_check_target, help="Write a report to this HTML file."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure how well a recipe judges labelled frames."""
    from inspector.files import write_whole
    from inspector.training.evaluation.evaluate import evaluate as run_evaluation

    with show_progress() as update:
        evaluation = run_evaluation(
            recipe,
            dataset_dir,
            device=device,
            advance=lambda done, total: update("evaluate", done / total, f"{done} of {total}"),
        )
    _print(evaluation)
    if json_file is not None:
        write_whole(json_file, json.dumps(evaluation.to_json(), indent=1).encode())
    if report_file is not None:
        _write_report(report_file, evaluation, recipe, device)
        typer.echo(f"report: {report_file}")


def _print(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("metric", "value", "95 % interval")
    metrics = dict(evaluation.metrics)
    by_kind, by_label = metrics.pop("by_kind"), metrics.pop("by_label")
    duplicates = metrics.pop("duplicates_of_training")
    metrics["n_duplicates_of_training"] = "not known" if duplicates is None else len(duplicates)
    for name, value in metrics.items():
        if not isinstance(value, list):
            table.add_row(name, _show(value), _show(metrics.get(f"{name.removesuffix('_rate')}_interval", "")))
    console.print(table)
    for title, rows in (("kind", by_kind), ("label", by_label)):
        if rows:
            console.print(_list_rows(title, rows))


def _list_rows(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """What was measured of each kind of defect, or of each label of the masks."""
    from rich.markup import escape
    from rich.table import Column, Table

    interval = Column("95 % interval", no_wrap=True)  # whole, on a narrow terminal, too
    columns: dict[str, str | Column] = {
        "n": "n", "image_auroc": "AUROC", "escape_rate": "escapes", "escape_interval": interval,
        "pixel_auroc": "pixel AUROC", "aupro": "AUPRO", "aupro_0_05": "AUPRO 0.05",
    }  # fmt: skip
    shown = [column for column in columns if all(column in row for row in rows.values())]
    table = Table(title, *(columns[column] for column in shown))
    for name, row in rows.items():
        table.add_row(escape(lines.escape(name)), *(_show(row[column], digits=3) for column in shown))
    return table


def _show(value: Any, digits: int = 4) -> str:
    if isinstance(value, list):
        return "–".join(f"{item:.3f}" for item in value)
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _write_report(path: Path, evaluation: Evaluation, folder: Path, device: str) -> None:
    from inspector.device import choose_device
    from inspector.recipe.opening import open_detector
    from inspector.sinks.overlays import render_overlay
    from inspector.training.evaluation.report import write_report

    def draw(pixels: Any, pixel_format: PixelFormat, judgement: Judgement) -> Any:
        decision = judgement.decision
        text = f"score {decision.score:.4g} / {evaluation.threshold:.4g}"
        heat = min(evaluation.threshold, decision.score)  # on a frame that passes, too, one sees where it is highest
        return render_overlay(
            pixels, pixel_format, judgement.anomaly_map, text, heat, decision.regions, decision.verdict
        )

    detector = open_detector(folder, device=choose_device(device))
    write_report(path, evaluation, folder, detector, draw)
