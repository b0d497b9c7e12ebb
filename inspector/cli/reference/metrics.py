"""metrics.md."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.cli.reference.markdown import build_page, build_table


def build_metrics() -> str:
    """All metrics: name, kind, labels with their closed sets, meaning."""
    from inspector.service.telemetry.catalogue import CAMERAS, OPEN, PARTS, PREFIX, ROWS

    def describe(label: str, values: Sequence[str]) -> str:
        return f"`{label}`" if values in (CAMERAS, OPEN, PARTS) else f"`{label}`: {', '.join(values)}"

    rows = [
        (f"`{row.name}`", row.kind, "; ".join(describe(*label) for label in row.labels.items()), row.text)
        for row in ROWS
    ]
    return build_page(
        "Metrics",
        f"All names begin with `{PREFIX}`. Labels have values from closed sets: no number of frames, parts or "
        "malformed messages makes more series. What is not known (no GPU, a sandbox that hides the clock, a disk that "
        "does not answer) is absent, not 0. Of the process itself there are `process_resident_memory_bytes`, "
        "`process_open_fds` and `process_cpu_seconds_total`.",
    ) + build_table(("name", "type", "labels", "meaning"), rows)
