"""Draws a dashboard's panels from Prometheus' answers, roughly as Grafana does: to see that they say something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.system.prometheus_proof import Prometheus, substitute

Panel = dict[str, Any]
_UNITS = {"s": " (s)", "suffix: /s": " (per second)", "percentunit": " (share)", "bytes": " (bytes)"}


def draw_dashboard(dashboard: Panel, server: Prometheus, start: float, end: float, out: Path) -> None:
    """All panels in their places, between two instants (wall clock, seconds), as a picture."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = 24.0, rows * 0.55
    figure = Figure(figsize=(width, height), dpi=70)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, bottom = place["x"] + 0.45, height - (place["y"] + place["h"]) * 0.55 + 0.35
        box = (left / width, bottom / height, (place["w"] - 0.6) / width, (place["h"] * 0.55 - 0.75) / height)
        axes = figure.add_axes(box)
        axes.set_title(
            f"{panel['title']}{_UNITS.get(panel['fieldConfig']['defaults']['unit'], '')}", fontsize=9, loc="left"
        )
        axes.tick_params(labelsize=7)
        _KINDS[panel["type"]](axes, panel, server, start, end)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _ask(panel: Panel, server: Prometheus, start: float, end: float) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Legend, times in seconds since the start, values: of each series of each query."""
    series = []
    for target in panel["targets"]:
        for answer in server.query_range(substitute(target["expr"]), start, end):
            times, values = np.array(answer["values"], dtype=float).T
            series.append((_legend(target["legendFormat"], answer["metric"]), times - start, values))
    return series


def _legend(template: str, labels: dict[str, str]) -> str:
    if template == "__auto":
        return " ".join(labels.values())
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], "?"), template)


def _draw_stat(axes: Axes, panel: Panel, server: Prometheus, start: float, end: float) -> None:
    lines = []
    for name, _, values in _ask(panel, server, start, end):
        text, color = _value(panel["fieldConfig"]["defaults"], values[-1])
        lines.append(f"{name}  {text}" if panel["options"]["textMode"] == "value_and_name" else text)
        axes.set_facecolor(color)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "\n".join(lines) or "No data", ha="center", va="center", fontsize=16)


def _draw_time_series(axes: Axes, panel: Panel, server: Prometheus, start: float, end: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    base: dict[float, float] = {}
    series = _ask(panel, server, start, end)
    colors = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        if override["properties"][0]["id"] == "color"
    }
    for name, times, values in series:
        dashed = name.startswith("limit")
        shown = values
        if defaults["custom"]["stacking"]["mode"] == "normal" and not dashed:
            below = np.array([base.get(time, 0.0) for time in times])
            shown = values + below
            base |= dict(zip(times, shown, strict=True))
            axes.fill_between(times, below, shown, alpha=0.4, color=colors.get(name))
        axes.plot(times, shown, "--" if dashed else "-", linewidth=1, label=name, color=colors.get(name))
    for step in defaults["thresholds"]["steps"][1:] if series else ():
        axes.axhline(step["value"], color=step["color"], linewidth=0.8)
    if defaults["custom"]["scaleDistribution"]["type"] == "log":
        axes.set_yscale("log")
    elif "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    axes.set_xlim(0, end - start)
    _finish(axes, bool(series))


def _draw_heat_map(axes: Axes, panel: Panel, server: Prometheus, start: float, end: float) -> None:
    series = [s for s in _ask(panel, server, start, end) if s[0] != "+Inf"]
    series.sort(key=lambda each: float(each[0]))
    if series:
        length = min(len(values) for _, _, values in series)
        counts = np.diff([values[-length:] for _, _, values in series], axis=0, prepend=0)
        axes.imshow(np.where(counts > 0, counts, np.nan), aspect="auto", origin="lower", cmap="Oranges")
        axes.set_yticks(range(len(series)), [name for name, _, _ in series])
    _finish(axes, bool(series), legend=False)


def _draw_timeline(axes: Axes, panel: Panel, server: Prometheus, start: float, end: float) -> None:
    series = _ask(panel, server, start, end)
    for row, (name, times, values) in enumerate(series):
        for time, value in zip(times, values, strict=True):
            axes.barh(row, 1, left=time, color=_value(panel["fieldConfig"]["defaults"], value)[1])
        axes.text(
            times[0],
            row,
            f"{name}: {_value(panel['fieldConfig']['defaults'], values[-1])[0]} at last",
            va="center",
            fontsize=9,
        )
    axes.set_yticks([])
    axes.set_xlim(0, end - start)
    _finish(axes, bool(series), legend=False)


def _draw_table(axes: Axes, panel: Panel, server: Prometheus, start: float, end: float) -> None:
    options = panel["transformations"][1]["options"]
    rows: list[dict[str, Any]] = []
    for target in panel["targets"]:
        for answer in server.query(substitute(target["expr"])):
            # Rows merge where the labels that both have are the same.
            alike = [row for row in rows if all(row.get(k, v) == v for k, v in answer["metric"].items())]
            if not alike:
                alike = [{}]
                rows += alike
            for row in alike:
                row.update(answer["metric"], **{f"Value #{target['refId']}": float(answer["value"][1])})
    names = sorted(options["renameByName"], key=options["indexByName"].__getitem__)
    titles = [options["renameByName"][name] for name in names]
    formats = {
        o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]}
        for o in panel["fieldConfig"]["overrides"]
    }
    cells = [
        [_value(formats[t], row[n]) if n in row else ("", "white") for n, t in zip(names, titles, strict=True)]
        for row in rows
    ]
    axes.axis("off")
    if cells:
        table = axes.table(
            [[text for text, _ in row] for row in cells], cellColours=[[color for _, color in row] for row in cells],
            colLabels=titles, loc="upper center",
        )  # fmt: skip
        table.auto_set_font_size(False)
        table.set_fontsize(6)


def _value(defaults: dict[str, Any], value: float | str) -> tuple[str, str]:
    """A value as text and the colour behind it."""
    if isinstance(value, str):
        return value, "white"
    for mapping in defaults["mappings"]:
        if found := mapping["options"].get(f"{value:g}"):
            return found["text"], _color(found["color"])
    unit, steps = defaults["unit"], defaults["thresholds"]["steps"]
    color = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    text = (
        f"{value * 100:.3g} %"
        if unit == "percentunit"
        else f"{value:.3g} {unit.removeprefix('suffix:').replace('none', '')}"
    )
    return text, _color(color)


def _color(name: str) -> str:
    names = {"text": "white", "transparent": "white", "light-green": "lightgreen", "dark-red": "darkred"}
    return names.get(name, name)


def _finish(axes: Axes, has_data: bool, *, legend: bool = True) -> None:
    axes.grid(alpha=0.3)
    if not has_data:
        axes.text(0.5, 0.5, "No data", ha="center", va="center", transform=axes.transAxes, fontsize=12, color="grey")
    elif legend:
        columns = int(axes.get_position().width * 20)  # one row, where there is room: the next panel is below
        axes.legend(
            fontsize=6, ncols=columns, columnspacing=1, loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False
        )


_KINDS = {
    "stat": _draw_stat,
    "timeseries": _draw_time_series,
    "heatmap": _draw_heat_map,
    "state-timeline": _draw_timeline,
    "table": _draw_table,
}
