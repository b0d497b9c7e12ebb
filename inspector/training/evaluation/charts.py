"""Charts as inline SVG. They hold no text from outside, and take their ink from the page: light, dark or paper."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter, ScalarFormatter
from sklearn.metrics import roc_curve

from inspector.config.qualification import DefectKind, DetectionCurve, Qualification
from inspector.training.data.record import HistoryPoint
from inspector.training.evaluation.image_metrics import GOOD
from inspector.training.thresholds.trade_off import TradeOff

GOOD_COLOUR = "#4a8fd0"
OTHER_COLOUR = "#8a8a8a"
KIND_COLOURS = ("#e8853a", "#d9534f", "#a06cd5", "#2a9d8f", "#d6609f", "#b8902a", "#5b9e3f", "#a1745a")
"""Middle tones: each is told apart on white and on black."""

_CONTRAST_COLOURS = (GOOD_COLOUR, KIND_COLOURS[3], KIND_COLOURS[0], KIND_COLOURS[1])
"""Of a weak to a strong contrast."""

_EXTENTS = {DefectKind.LINE: "width", DefectKind.SPOT: "diameter", DefectKind.DENT: "diameter"}
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "inspector",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}


def colour_kinds(kinds: Sequence[str]) -> dict[str, str]:
    """A colour for each sort of frame, good ones first; those past the palette share one."""
    defects = sorted(set(kinds) - {GOOD})
    colours = [*KIND_COLOURS, *[OTHER_COLOUR] * len(defects)]
    return {GOOD: GOOD_COLOUR} | dict(zip(defects, colours, strict=False))


def draw_roc(kinds: Sequence[str], scores: Sequence[float], threshold: float) -> str:
    """ROC curve of the frames' scores, with the point the threshold gives."""
    truth, values = np.array([kind != GOOD for kind in kinds]), np.asarray(scores)
    false_positive, true_positive, _ = roc_curve(truth, values, drop_intermediate=False)
    rejected = values > threshold
    with mpl.rc_context(_STYLE):
        figure, axes = _start("false-reject rate", "share of defective frames rejected")
        axes.plot([0, 1], [0, 1], color=OTHER_COLOUR, linewidth=0.8, linestyle=":")
        axes.plot(false_positive, true_positive, color=GOOD_COLOUR, linewidth=2, clip_on=False)
        point = rejected[~truth].mean(), rejected[truth].mean()
        axes.plot(*point, "o", color=KIND_COLOURS[0], markersize=9, clip_on=False, zorder=3, label="at the threshold")
        axes.legend(frameon=False, loc="lower right")  # where a curve worth drawing leaves room
        axes.set(xlim=(0, 1), ylim=(0, 1))
        return _to_svg(figure, "ROC curve")


def draw_histogram(kinds: Sequence[str], scores: Sequence[float], threshold: float) -> str:
    """How many frames of each sort have which score, stacked, and where the threshold lies."""
    values = np.asarray(scores)
    ends = min(values.min(), threshold), max(values.max(), threshold)
    wide = ends[0] > 0 and ends[1] > 20 * ends[0]
    bins = min(max(12, len(values) // 3), 40)
    edges = np.geomspace(*ends, bins + 1) if wide else np.histogram_bin_edges(ends, bins)  # which copes with equal ends
    colours = colour_kinds(kinds)
    with mpl.rc_context(_STYLE):
        figure, axes = _start("score (logarithmic)" if wide else "score", "frames")
        groups = [values[[other == kind for other in kinds]] for kind in colours]
        axes.hist(groups, bins=edges.tolist(), stacked=True, color=list(colours.values()))
        axes.axvline(threshold, color=_INK, linewidth=1.2, linestyle="--")
        if wide:
            axes.set_xscale("log")
        place, _ = axes.transAxes.inverted().transform(axes.transData.transform((threshold, 1)))
        axes.annotate(
            "threshold",
            (threshold, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if place > 0.8 else 4, -2),
            textcoords="offset points",
            va="top",
            ha="right" if place > 0.8 else "left",
        )
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.15)
        return _to_svg(figure, "Histogram of scores")


def draw_training(history: Sequence[HistoryPoint]) -> str:
    """Loss over the tiles seen, logarithmic, and the learning rate below where it is known."""
    rates = [(point.tiles_seen, point.learning_rate) for point in history if point.learning_rate is not None]
    checks = [(point.tiles_seen, point.validation_loss) for point in history if point.validation_loss is not None]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.6 if rates else 2.8), layout="constrained")
        heights = [3, 1] if rates else [1]
        upper, *lower = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        upper.plot([p.tiles_seen for p in history], [p.loss for p in history], color=GOOD_COLOUR, label="training")
        if checks:
            upper.plot(*zip(*checks, strict=True), color=KIND_COLOURS[0], marker=".", label="validation")
        upper.legend(frameon=False)
        upper.set(yscale="log", ylabel="loss")
        if rates:
            lower[0].plot(*zip(*rates, strict=True), color=KIND_COLOURS[3])
            lower[0].set(ylabel="learning rate", ylim=(0, None))
        (lower or [upper])[-1].set_xlabel("tiles seen")
        return _to_svg(figure, "Loss during training")


def draw_trade_off(rows: Sequence[TradeOff]) -> str:
    """False rejects and artificial defects that pass, by threshold; the chosen one marked."""
    levels = [row.threshold for row in rows]
    with mpl.rc_context(_STYLE):
        figure, axes = _start("threshold", "share")
        axes.plot(levels, [row.rejected / row.n_good for row in rows], "o-", color=GOOD_COLOUR, label="good, rejected")
        known = [row for row in rows if row.interval is not None]
        if known:
            axes.fill_between(
                [row.threshold for row in known],
                [row.interval[0] for row in known if row.interval],
                [row.interval[1] for row in known if row.interval],
                color=GOOD_COLOUR, alpha=0.25, linewidth=0, label="good, expected (95 %)",
            )  # fmt: skip
        if rows[0].passed is not None:
            passed = [np.nan if row.passed is None else row.passed for row in rows]
            axes.plot(levels, passed, "s-", color=KIND_COLOURS[0], label="artificial defects, passed")
        axes.axvline(next(row.threshold for row in rows if row.chosen), color=_INK, linewidth=1.2, linestyle="--")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
        return _to_svg(figure, "False rejects and artificial defects that pass, by threshold")


def draw_detection(qualification: Qualification) -> str:
    """How often artificial defects are caught, over their size: a panel for each kind, a line for each contrast.

    Dashed: the lower 95 % bound. Dotted: 90 %, which a90/95 asks for.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panels = figure.subplots(1, len(qualification.kinds), sharey=True, squeeze=False)[0]
        for axes, (kind, curve) in zip(panels, qualification.kinds.items(), strict=True):
            axes.set_title(f"{kind}s, {curve.caught} of {curve.n} caught", fontsize=9)
            _draw_curve(axes, curve)
            axes.set(xscale="log", xlabel=f"{_EXTENTS[kind]} (sensor px)", ylim=(0, 1))
            axes.set_xticks([1, 2, 5, 10, 20], minor=False)
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(curve.size_px.low, curve.size_px.high)
        panels[0].set_ylabel("caught")
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        lines = {line.get_label(): line for axes in panels for line in axes.get_lines()}
        shown = {label: line for label, line in lines.items() if not str(label).startswith("_")}
        shown["at least, at 95 % confidence"] = Line2D([], [], color=OTHER_COLOUR, linewidth=1, linestyle="--")
        figure.legend(shown.values(), shown.keys(), frameon=False, loc="outside lower center", ncols=6)
        return _to_svg(figure, "Probability of detection of artificial defects")


def _draw_curve(axes: Axes, curve: DetectionCurve) -> None:
    axes.axhline(0.9, color=OTHER_COLOUR, linewidth=1, linestyle=":")
    if not curve.rises:
        text = "the larger and stronger ones\nare not caught more often"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
        return
    sizes = np.geomspace(curve.size_px.low, curve.size_px.high, 80).tolist()
    for colour, contrast in zip(_CONTRAST_COLOURS, (each.contrast for each in curve.a90_95), strict=False):
        bounds = [curve.compute_lower_bound(size, contrast) for size in sizes]
        shares = [curve.compute_probability(size, contrast) for size in sizes]
        axes.plot(sizes, bounds, color=colour, linewidth=1, linestyle="--")
        axes.plot(sizes, shares, color=colour, linewidth=2, label=f"{contrast:g} grey levels")


def _start(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def _to_svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # of no use, and the same in every chart of a page
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
