"""What training left beside the recipe, for people and for evaluation: training.json."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from inspector.errors import RecipeError

TRAINING_FILE = "training.json"


class HistoryPoint(BaseModel):
    """Where training stood after so many tiles."""

    tiles_seen: int
    loss: float
    validation_loss: float | None = None
    learning_rate: float | None = None


class TrainingRecord(BaseModel):
    """The course of the training, and the SHA-256 by name of all good frames, those held aside included."""

    history: list[HistoryPoint] = []
    frames: dict[str, str] = {}


def load_training_record(folder: Path) -> TrainingRecord | None:
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
        raise RecipeError(f"{path}: must be the record that training writes: {error}") from error
