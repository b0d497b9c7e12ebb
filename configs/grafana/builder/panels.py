"""Panels in the few kinds that the dashboards use, as Grafana's JSON model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

PER_SECOND = "suffix: /s"
"""Unit of frames, verdicts, tiles: Grafana's own say requests or operations."""

Panel = dict[str, Any]
Query = tuple[str, str]
"""Expression and legend."""
Steps = Sequence[tuple[float | None, str]]
"""From which value (None: the lowest) on which colour."""
Values = Mapping[int, tuple[str, str]]
"""What a value is called, and its colour."""

NEUTRAL: Steps = ((None, "text"),)
COLOURS = {
    "PASS": "green",
    "FAIL": "orange",
    "ERROR": "red",
    "WARN": "yellow",
}
"""Of series by their name, the same everywhere."""


def stat(
    title: str, unit: str, description: str, *queries: Query, steps: Steps = NEUTRAL, values: Values | None = None,
    width: int | None = None,
) -> Panel:  # fmt: skip
    """Numbers of now, coloured by their steps."""
    options = {
        "colorMode": "background" if steps is not NEUTRAL or values else "none",
        "graphMode": "none",
        "textMode": "value" if len(queries) == 1 and not queries[0][1] else "value_and_name",
        "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return _panel("stat", title, unit, description, queries, options, _defaults(unit, steps, values), width=width)


def time_series(
    title: str, unit: str, description: str, *queries: Query, stacked: bool = False, limit: float | None = None,
    maximum: float | None = None, minimum: float | None = 0, log: bool = False, width: int | None = None,
) -> Panel:  # fmt: skip
    """Lines over time; those that state a limit (legends that begin with "limit") are dashed, `limit` is a red line."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "line"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
    }
    steps: Steps = ((None, "green"),) if limit is None else ((None, "green"), (limit, "red"))
    defaults = _defaults(unit, steps) | {"color": {"mode": "palette-classic"}, "custom": custom}
    defaults |= {} if minimum is None or log else {"min": minimum}
    defaults |= {} if maximum is None else {"max": maximum}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    overrides = [_color(name, color) for name, color in COLOURS.items()] + [_DASHED]
    return _panel("timeseries", title, unit, description, queries, options, defaults, overrides, width=width)


def heat_map(title: str, unit: str, description: str, expression: str, *, width: int | None = None) -> Panel:
    """Counts by bucket over time."""
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "cellGap": 1,
        "legend": {"show": True},
        "tooltip": {"show": True, "yHistogram": True},
        "filterValues": {"le": 1e-9},
    }
    panel = _panel("heatmap", title, unit, description, [(expression, "{{le}}")], options, {"unit": unit}, width=width)
    panel["targets"][0]["format"] = "heatmap"
    return panel


def state_timeline(title: str, description: str, values: Values, *queries: Query, width: int | None = None) -> Panel:
    """A band for each series, coloured and named by its value."""
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.8,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single"},
    }
    defaults = _defaults("none", NEUTRAL, values) | {"custom": {"fillOpacity": 80, "lineWidth": 0}}
    return _panel("state-timeline", title, "none", description, queries, options, defaults, width=width)


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table: the value of a query, or a label of its answers (or of the other queries'), under a title."""

    title: str
    query: str = ""
    label: str = ""
    unit: str = "none"
    steps: Steps = NEUTRAL
    values: Values | None = None
    link: str = ""
    width: int | None = None


def table(title: str, description: str, columns: Sequence[Column], *, width: int | None = None) -> Panel:
    """A row for each set of labels that the queries' answers share; each answer brings a value and its labels."""
    asking = [column for column in columns if column.query]
    queries = [(column.query, "") for column in asking]
    values = {id(c): f"Value #{reference}" for c, reference in zip(asking, _references(len(asking)), strict=True)}
    names = [column.label or values[id(column)] for column in columns]
    organize = {
        "excludeByName": dict.fromkeys(["Time", *(value for value in values.values() if value not in names)], True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {name: column.title for name, column in zip(names, columns, strict=True)},
    }
    options = {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": columns[0].title, "desc": False}]}
    overrides = [_column(column) for column in columns]
    panel = _panel("table", title, "none", description, queries, options, _defaults("none", NEUTRAL), overrides)
    for target in panel["targets"]:
        target |= {"format": "table", "instant": True, "range": False}
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    return panel | ({"width": width} if width else {})


def _panel(
    kind: str, title: str, unit: str, description: str, queries: Iterable[Query], options: dict[str, Any],
    defaults: dict[str, Any], overrides: Sequence[dict[str, Any]] = (), *, width: int | None = None,
) -> Panel:  # fmt: skip
    queries = list(queries)
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit} | defaults, "overrides": list(overrides)},
        "options": options,
        "targets": [
            {
                "refId": reference,
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend or "__auto",
                "format": "time_series",
                "instant": False,
                "range": True,
            }
            for reference, (expression, legend) in zip(_references(len(queries)), queries, strict=True)
        ],
    } | ({"width": width} if width else {})


def _references(count: int) -> list[str]:
    return [chr(ord("A") + index) for index in range(count)]


def _defaults(unit: str, steps: Steps, values: Values | None = None) -> dict[str, Any]:
    return {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "mappings": _mappings(values),
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]},
    }


def _mappings(values: Values | None) -> list[dict[str, Any]]:
    options = {
        f"{value}": {"index": index, "text": text, "color": color}
        for index, (value, (text, color)) in enumerate((values or {}).items())
    }
    return [{"type": "value", "options": options}] if options else []


def _color(name: str, color: str) -> dict[str, Any]:
    value = {"mode": "fixed", "fixedColor": color}
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": value}]}


def _column(column: Column) -> dict[str, Any]:
    defaults = _defaults(column.unit, column.steps, column.values)
    properties = [{"id": key, "value": defaults[key]} for key in ("unit", "mappings", "thresholds")]
    if column.steps is not NEUTRAL or column.values:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}})
    if column.link:
        link = {"title": f"Open {column.title}", "url": column.link, "targetBlank": False}
        properties.append({"id": "links", "value": [link]})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


_DASHED = {
    "matcher": {"id": "byRegexp", "options": "/^limit/"},
    "properties": [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        {"id": "custom.fillOpacity", "value": 0},
        {"id": "custom.stacking", "value": {"mode": "none", "group": "B"}},
    ],
}
