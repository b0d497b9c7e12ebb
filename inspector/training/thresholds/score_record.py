"""What a threshold was set from, kept beside the recipe: to set it otherwise without judging or training again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from inspector.config import CrossValidation, Qualification
from inspector.errors import RecipeError, TrainingError
from inspector.files import write_whole
from inspector.training.thresholds.detection_probability import build_qualification
from inspector.training.thresholds.policy import REST, Scores
from inspector.training.thresholds.qualification import Response
from inspector.training.thresholds.tail import Peaks

SCORES_FILE = "scores.json"


class GoodFrame(BaseModel):
    """One good frame, scored by a network that never saw it.

    Attributes:
        scores: of each part of the frame, see `thresholds.Scores`, on the scale of the network that judges.
        peaks: of its map, highest first, on that scale.
        xy: where the highest is, in sensor pixels.
        fold: whose network scored it; None: the one that judges.
    """

    path: str
    sha256: str
    scores: dict[str, float]
    peaks: list[float]
    xy: tuple[int, int]
    fold: int | None = None


class ScoreRecord(BaseModel):
    """All that a threshold rests on.

    Attributes:
        min_region_area: that scores were found at.
        frames: those that count.
        trimmed: those that stood out and were left out.
        cross_validated: how folds were scored, if they were.
        checked: then, scores by part of frames that the network that judges was not trained on, by that network.
        responses: of the network that judges to artificial defects on good frames that it never saw.
        n_qualified: those frames.
    """

    min_region_area: int = 1
    frames: list[GoodFrame]
    trimmed: list[GoodFrame] = []
    cross_validated: CrossValidation | None = None
    checked: list[dict[str, float]] = []
    responses: list[Response] = []
    n_qualified: int = 0

    def to_scores(self) -> Scores:
        """Scores by part of the frame."""
        return {part: np.array([frame.scores[part] for frame in self.frames]) for part in self.frames[0].scores}

    def to_peaks(self) -> Peaks | None:
        """Peaks of each frame; None where scores are not peaks: regions have a least area, or zones weigh them."""
        if self.min_region_area > 1 or set(self.frames[0].scores) != {REST}:
            return None
        return [np.array(frame.peaks) for frame in self.frames]

    def qualify(self, threshold: float) -> Qualification | None:
        """What a threshold catches of the artificial defects; None where none was tried."""
        if not self.responses:
            return None
        return build_qualification(self.responses, threshold, self.n_qualified)


def load_scores(folder: Path) -> ScoreRecord:
    """Read `folder`/scores.json.

    Raises:
        TrainingError: there is none.
        RecipeError: it cannot be read as such.
    """
    path = folder / SCORES_FILE
    try:
        scores = ScoreRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise TrainingError(
            f"{path}: required if GOOD_DIR is not given; `inspector train` and `inspector calibrate RECIPE "
            "GOOD_DIR` write it"
        ) from None
    except (OSError, ValidationError) as error:
        raise RecipeError(f"{path}: must be scores written by training or calibration: {error}") from error
    if not scores.frames:
        raise RecipeError(f"{path}: frames: must be at least one, got none")
    return scores


def write_scores(scores: ScoreRecord, folder: Path) -> None:
    """Write `folder`/scores.json, whole or not at all.

    Raises:
        InspectorError: it cannot be written.
    """
    write_whole(folder / SCORES_FILE, scores.model_dump_json(indent=1).encode())
