"""Builds inspector.json, the station's dashboard. Run it after a change: python configs/grafana/build.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OUT = Path(__file__).with_name("inspector.json")

# Title, kind, unit, description, queries with their legends, and place (x, y, width, height) on a grid of 24.
Panel = tuple[str, str, str, str, list[tuple[str, str]], tuple[int, int, int, int]]

RATE = "[$__rate_interval]"
CAMERA = 'camera=~"$camera"'


def _quantile(share: float) -> str:
    buckets = f"rate(inspector_stage_duration_seconds_bucket{{{CAMERA}}}{RATE})"
    return f"histogram_quantile({share}, sum by (stage, le) ({buckets}))"


PANELS: list[Panel] = [
    (
        "State", "stat", "none", "What the station is doing; anything but READY or RUNNING needs a look.",
        [("inspector_state == 1", "{{inspector_state}}")], (0, 0, 6, 4),
    ),
    (
        "Sources up", "stat", "none", "1 while a camera's source is connected.",
        [(f"inspector_source_up{{{CAMERA}}}", "{{camera}}")], (6, 0, 6, 4),
    ),
    (
        "Last frame age", "stat", "s", "Time since the last frame; a trigger that stopped shows here first.",
        [(f"time() - inspector_last_frame_timestamp_seconds{{{CAMERA}}}", "{{camera}}")], (12, 0, 6, 4),
    ),
    (
        "Frames owed a verdict", "stat", "none", "Accepted and not yet answered.",
        [(f"inspector_frames_in_flight{{{CAMERA}}}", "{{camera}}")], (18, 0, 6, 4),
    ),
    (
        "Verdicts", "timeseries", "reqps", "Results per second by verdict; WARN are those of PASS in the warn band.",
        [
            (f"sum by (verdict) (rate(inspector_results_total{{{CAMERA}}}{RATE}))", "{{verdict}}"),
            (f"sum(rate(inspector_warnings_total{{{CAMERA}}}{RATE}))", "WARN"),
        ],
        (0, 4, 12, 8),
    ),
    (
        "Rejects and errors by reason", "timeseries", "reqps", "What is not PASS, and why.",
        [(f'sum by (reason) (rate(inspector_results_total{{{CAMERA},verdict!="PASS"}}{RATE}))', "{{reason}}")],
        (12, 4, 12, 8),
    ),
    (
        "Scores against the threshold", "heatmap", "none", "Share of the threshold; above 1 is a reject.",
        [(f"sum by (le) (increase(inspector_score_bucket{{{CAMERA}}}{RATE}))", "{{le}}")], (0, 12, 12, 8),
    ),
    (
        "Latency by stage, p99", "timeseries", "s", "The slowest hundredth of frames, stage by stage.",
        [(_quantile(0.99), "{{stage}}")], (12, 12, 12, 8),
    ),
    (
        "Latency by stage, p50", "timeseries", "s", "The typical frame, stage by stage.",
        [(_quantile(0.5), "{{stage}}")], (0, 20, 8, 8),
    ),
    (
        "Tiles judged", "timeseries", "ops", "Tiles per second on the device.",
        [(f"rate(inspector_tiles_total{RATE})", "tiles")], (8, 20, 8, 8),
    ),
    (
        "Memory", "timeseries", "bytes", "Frames waiting, and what the network holds on the GPU.",
        [("inspector_buffer_bytes", "buffer"), ("inspector_device_memory_bytes", "device")], (16, 20, 8, 8),
    ),
]  # fmt: skip


def build_dashboard() -> dict[str, Any]:
    """The dashboard as Grafana's JSON model."""
    return {
        "uid": "inspector-line",
        "title": "inspector: line",
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_variable_datasource(), _variable_camera()]},
        "panels": [_build_panel(number, panel) for number, panel in enumerate(PANELS, start=1)],
    }


def _variable_datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable_camera() -> dict[str, Any]:
    return {
        "name": "camera",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(inspector_frames_received_total, camera)",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "refresh": 2,
    }


def _build_panel(number: int, panel: Panel) -> dict[str, Any]:
    title, kind, unit, description, queries, (x, y, width, height) = panel
    datasource = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": datasource,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"textMode": "value_and_name"} if kind == "stat" else {},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": expression,
                "legendFormat": legend,
                "datasource": datasource,
                "format": "heatmap" if kind == "heatmap" else "time_series",
            }
            for index, (expression, legend) in enumerate(queries)
        ],
    }


if __name__ == "__main__":
    OUT.write_text(json.dumps(build_dashboard(), indent=2) + "\n", encoding="utf-8")
