"""What is kept of a training beside the recipe: training.json and a picture of the loss curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINING_FILE = "training.json"
CURVE_FILE = "training.png"


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """The record of one training.

    Attributes:
        facts: what the recipe holds under `training`.
        options: all that was chosen.
        history: an entry for each validation: step, tiles_seen, seconds, loss (mean since the last), validation_loss,
            learning_rate.
        frames: sha256 by file name of the frames trained on.
        validation, held_aside: the same of those that the validation loss and the threshold come from.
        skipped: file names that could not be used.
    """

    facts: Mapping[str, Any]
    options: Mapping[str, Any]
    history: Sequence[Mapping[str, float | int]]
    frames: Mapping[str, str]
    validation: Mapping[str, str]
    held_aside: Mapping[str, str]
    skipped: Sequence[str]


def write_record(record: TrainingRecord, folder: Path) -> None:
    """Write both files into `folder`."""
    content = {
        **record.facts,
        "options": record.options,
        "history": record.history,
        "frames": record.frames,
        "validation_frames": record.validation,
        "held_aside": record.held_aside,
        "skipped": record.skipped,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    (folder / TRAINING_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    draw_curve(record.history, folder / CURVE_FILE)


def draw_curve(history: Sequence[Mapping[str, float | int]], path: Path) -> None:
    """Draw loss, validation loss and learning rate over the tiles seen, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tiles = [entry["tiles_seen"] for entry in history]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot()
    losses.plot(tiles, [entry["loss"] for entry in history], "o-", markersize=3, label="training loss")
    losses.plot(tiles, [entry["validation_loss"] for entry in history], "s-", markersize=3, label="validation loss")
    best = min(history, key=lambda entry: entry["validation_loss"])
    losses.axvline(best["tiles_seen"], color="grey", linestyle=":", label="lowest validation loss")
    losses.set(xlabel="tiles seen", ylabel="loss (1 − cosine, summed over three layers)", ylim=(0, None))
    rates = losses.twinx()
    rates.plot(tiles, [entry["learning_rate"] for entry in history], color="tab:green", alpha=0.4)
    rates.set_ylabel("learning rate", color="tab:green")
    rates.set_ylim(0, None)
    losses.legend(loc="upper right")
    losses.grid(alpha=0.3)
    figure.savefig(path)
