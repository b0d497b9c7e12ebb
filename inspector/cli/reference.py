"""`inspector reference`: the pages of docs/reference, written from the code that they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

_HEAD = "<!-- Written by `inspector reference docs/reference`; a change here is lost. -->\n\n"


def reference(folder: Annotated[Path, typer.Argument(help="Where the pages go.")]) -> None:
    """Write the reference pages: what the code knows of itself, as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in PAGES.items():
        (folder / name).write_text(build(), encoding="utf-8")


def build_metrics() -> str:
    """All metrics: name, kind, labels with their closed sets, meaning."""
    from inspector.service.telemetry.catalogue import CAMERAS, OPEN, PREFIX, ROWS

    def describe(label: str, values: Sequence[str]) -> str:
        return f"`{label}`" if values is CAMERAS or values is OPEN else f"`{label}`: {', '.join(values)}"

    rows = [
        (f"`{row.name}`", row.kind, "; ".join(describe(*label) for label in row.labels.items()), row.text)
        for row in ROWS
    ]
    return (
        f"{_HEAD}# Metrics\n\n"
        f"All names begin with `{PREFIX}`. Labels have values from closed sets: no number of frames, parts or\n"
        "malformed messages makes more series. What is not known (no GPU, a sandbox that hides the clock, a disk that\n"
        "does not answer) is absent, not 0. Of the process itself there are `process_resident_memory_bytes`,\n"
        "`process_open_fds` and `process_cpu_seconds_total`.\n\n"
        + _build_table(("name", "type", "labels", "meaning"), rows)
    )


def _build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


PAGES: Mapping[str, Callable[[], str]] = {"metrics.md": build_metrics}
