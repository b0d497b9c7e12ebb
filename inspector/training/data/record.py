"""What training leaves beside the recipe, for people, calibration and evaluation: training.json and a loss curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from inspector.errors import RecipeError

TRAINING_FILE = "training.json"
CURVE_FILE = "training.png"


class HistoryPoint(BaseModel):
    """Where training stood at a validation; `loss` is the mean since the one before."""

    step: int = 0
    tiles_seen: int
    seconds: float = 0.0
    loss: float
    validation_loss: float | None = None
    learning_rate: float | None = None


class FoldRecord(BaseModel):
    """One fold: SHA-256 by path of the frames that its network never saw, its steps, and its weights' SHA-256."""

    frames: dict[str, str]
    steps: int
    weights_sha256: str = ""


class TrainingRecord(BaseModel):
    """The course of one training.

    Attributes:
        facts: what the recipe holds under `training`.
        options: all that was chosen.
        history: a point for each validation.
        frames: SHA-256 by path of the frames trained on.
        validation_frames: the same of those the validation loss was measured on.
        held_aside: the same of those the threshold was set from.
        folds: whose networks scored the frames, if folds did.
        skipped: paths of frames that could not be used.
    """

    facts: dict[str, Any] = {}
    options: dict[str, Any] = {}
    history: list[HistoryPoint] = []
    frames: dict[str, str] = {}
    validation_frames: dict[str, str] = {}
    held_aside: dict[str, str] = {}
    folds: list[FoldRecord] = []
    skipped: list[str] = []

    def name_used(self) -> dict[str, str]:
        """Path by SHA-256 of all frames that the weights depend on."""
        return {sha256: path for path, sha256 in (self.frames | self.validation_frames).items()}

    def name_all(self) -> dict[str, str]:
        """Path by SHA-256 of all frames that the recipe depends on, its threshold included."""
        return {sha256: path for path, sha256 in self.held_aside.items()} | self.name_used()


def load_record(folder: Path) -> TrainingRecord | None:
    """Read `folder`/training.json; None where there is none. Keys that are not known are not looked at.

    Raises:
        RecipeError: the file is there, but cannot be read as such a record.
    """
    path = folder / TRAINING_FILE
    try:
        return TrainingRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RecipeError(f"{path}: must be a record written by training: {error}") from error


def write_record(record: TrainingRecord, folder: Path) -> None:
    """Write both files into `folder`."""
    (folder / TRAINING_FILE).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    draw_curve(record.history, folder / CURVE_FILE)


def draw_curve(history: Sequence[HistoryPoint], path: Path) -> None:
    """Draw loss, validation loss and learning rate over the tiles seen, as PNG."""
    from matplotlib.figure import Figure

    tiles = [point.tiles_seen for point in history]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    losses = figure.add_subplot()
    losses.plot(tiles, [point.loss for point in history], "o-", markersize=3, label="training loss")
    validation = [point.validation_loss for point in history]
    losses.plot(tiles, validation, "s-", markersize=3, label="validation loss")  # type: ignore[arg-type]
    losses.set(xlabel="tiles seen", ylabel="loss (1 − cosine, summed over three layers)", ylim=(0, None))
    losses.legend(loc="upper right")
    losses.grid(alpha=0.3)
    rates = losses.twinx()
    rates.plot(tiles, [point.learning_rate for point in history], color="tab:green", alpha=0.4)  # type: ignore[arg-type]
    rates.set_ylabel("learning rate", color="tab:green")
    rates.set_ylim(0, None)
    figure.savefig(path)
