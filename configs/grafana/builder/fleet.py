"""All stations: which one needs someone."""

from __future__ import annotations

from typing import Any

from builder.dashboard import build_dashboard
from builder.panels import PER_SECOND, Column, state_timeline, table, time_series
from builder.queries import CAMERA, INSTANCE, STATE, STATES, age, rate, results, share

TO_STATION = "/d/inspector-line?var-station=${__data.fields.Station}&${datasource:queryparam}&${__url_time_range}"
HOUR = "[1h]"
LAST_FRAME = f"inspector_last_frame_timestamp_seconds{{{CAMERA}}}"


def build() -> dict[str, Any]:
    """The dashboard."""
    rows = [(8, [_stations()]), (9, [_cameras()]), (7, [_states()]), (8, _courses())]
    text = "One row for each station and camera; click a name to open its dashboard."
    return build_dashboard("inspector-fleet", "fleet", text, rows, many=True)


def _stations() -> dict[str, Any]:
    up = f'(time() - max by (instance) (process_start_time_seconds{{job="inspector",{INSTANCE}}}))'
    version = f"max by (instance, version) (inspector_build_info{{{INSTANCE}}})"
    alerts = f'count by (instance) (ALERTS{{alertname=~"Inspector.*",alertstate="firing",{INSTANCE}}})'
    return table(
        "Stations", "Current values of each station. Shares and late frames: last hour.",
        [
            _station(),
            Column("State", query=STATE, values=STATES),
            *_verdicts("instance"),
            Column("Last frame", query=age(LAST_FRAME, "instance"), unit="s"),
            Column("Alerts", query=f"{alerts} or 0 * ({STATE})", steps=((None, "green"), (1, "red"))),
            Column("Up for", query=up, unit="s"),
            Column("Version", label="version", query=version),
            Column("Address", label="instance"),
        ],
    )  # fmt: skip


def _cameras() -> dict[str, Any]:
    of = "instance, camera"
    recipe = f"max by ({of}, recipe_id, precision) (inspector_recipe_info{{{CAMERA}}})"
    return table(
        "Cameras", "Current values of each camera. Shares and late frames: last hour.",
        [
            _station(),
            Column("Camera", label="camera"),
            Column("Source", query=f"max by ({of}) (inspector_source_up{{{CAMERA}}})", values=_SOURCES),
            *_verdicts("instance", "camera"),
            Column("Last frame", query=age(LAST_FRAME, of), unit="s"),
            Column(
                "Rejects in a row", query=f"max by ({of}) (inspector_consecutive_rejects{{{CAMERA}}})",
                steps=((None, "transparent"), (5, "red")),
            ),
            Column("Recipe", label="recipe_id", query=recipe),
            Column("Precision", label="precision"),
            Column("Threshold", query=f"max by ({of}) (inspector_threshold{{{CAMERA}}})"),
        ],
    )  # fmt: skip


_SOURCES = {0: ("gone", "red"), 1: ("connected", "green")}


def _station() -> Column:
    names = f"max by (instance, station) (inspector_station_info{{{INSTANCE}}})"
    return Column("Station", label="station", query=names, link=TO_STATION)


def _verdicts(*by: str) -> list[Column]:
    rejects, errors = ((None, "transparent"), (0.1, "orange")), ((None, "transparent"), (0.01, "red"))
    late = f'sum by ({", ".join(by)}) (increase(inspector_results_total{{{CAMERA},reason="DEADLINE"}}{HOUR}))'
    return [
        Column("Frames", query=rate("inspector_frames_received_total", *by), unit=PER_SECOND),
        Column("PASS", query=share("PASS", *by, window=HOUR), unit="percentunit"),
        Column("FAIL", query=share("FAIL", *by, window=HOUR), unit="percentunit", steps=rejects),
        Column("ERROR", query=share("ERROR", *by, window=HOUR), unit="percentunit", steps=errors),
        Column("Late", query=late, steps=((None, "transparent"), (1, "red"))),
    ]


def _states() -> dict[str, Any]:
    return state_timeline("States", "State of each station over time.", STATES, (STATE, "{{instance}}"))


def _courses() -> list[dict[str, Any]]:
    errors = f"{results('instance', verdict='ERROR')} / ({results('instance')} > 0)"
    return [
        time_series(
            "Frames", PER_SECOND, "Frames received per second.",
            (rate("inspector_frames_received_total", "instance"), "{{instance}}"),
        ),
        time_series(
            "Reject rate", "percentunit", "Share of FAIL in judged frames, over 10 minutes.",
            (share("FAIL", "instance", of="PASS|FAIL", window="[10m]"), "{{instance}}"),
        ),
        time_series("Error rate", "percentunit", "Share of ERROR in all verdicts.", (errors, "{{instance}}")),
    ]  # fmt: skip
