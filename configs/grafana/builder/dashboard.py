"""What surrounds the panels: variables, links, places on the grid of 24 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from builder.panels import DATASOURCE

SCHEMA = 39
"""Grafana 10.4; later ones migrate it when they load it."""

WIDTH = 24
STATION = "label_values(inspector_station_info, station)"
CAMERAS = 'label_values(inspector_frames_received_total{instance=~"$instance"}, camera)'

Panel = dict[str, Any]
Row = tuple[int, list[Panel]]
"""Height, and panels side by side, which share the width equally where they state none."""


def build_dashboard(uid: str, title: str, description: str, rows: Iterable[Row], *, many: bool) -> dict[str, Any]:
    """One dashboard; with `many` stations at once or for one."""
    instances = 'label_values(inspector_station_info{station=~"$station"}, instance)'
    return {
        "uid": uid,
        "title": f"inspector: {title}",
        "description": description,
        "tags": ["inspector"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one cross hair through all panels
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "links": [_link_others()],
        "annotations": {"list": []},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus"},
                _variable("station", STATION, label="Station", many=many),
                _variable("instance", instances, many=many, hidden=True),
                _variable("camera", CAMERAS, label="Camera", many=True),
            ]
        },
        "panels": list(_place(rows)),
    }


def _link_others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "inspector",
        "tags": ["inspector"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _variable(name: str, query: str, *, many: bool, label: str = "", hidden: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": label,
        "hide": 2 if hidden else 0,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "includeAll": many,
        "multi": many,
        "current": {"text": ["All"], "value": ["$__all"]} if many else {},
        "refresh": 2,  # whenever the time range changes: cameras come and go
        "sort": 1,
    }


def _place(rows: Iterable[Row]) -> Iterable[Panel]:
    """Panels with their ids and places: rows from top to bottom, so that none overlap."""
    number = y = 0
    for height, panels in rows:
        x = 0
        for panel in panels:
            number += 1
            width = panel.pop("width", None) or WIDTH // len(panels)
            yield {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel}
            x += width
        y += height
