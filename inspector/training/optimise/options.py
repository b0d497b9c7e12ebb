"""What can be chosen about a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inspector.config import Policy
from inspector.errors import TrainingError
from inspector.model.encoder import PRETRAINED

OFFICIAL_STEPS = 3000
"""The official 200 epochs on an MVTec category of 240 images, in steps of 16."""

FEWEST_STEPS = 50
"""Of a fold: with fewer, scores grow with every step, so that the folds' lie below those of the network that judges.

Measured on random draws of 16 good frames: with 10 steps a fold the stated bound held in 10 of 16.
"""
HOLDOUT = 0.2
_FOLDS = 2
"""Each is trained for as many epochs as the network that judges: two double the time, three triple it."""

REFERENCE: dict[str, Any] = {
    "schedule": "constant",
    "average_decay": 0.0,
    "pseudo_defect_share": 0.0,
    "keep": "last",
    "map_normalisation": "none",
    "precision": "fp32",
}
"""The options that make training and maps those of the paper's official code."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Training ends at the first of epochs, steps, minutes and plateau that is reached.

    Attributes:
        epochs: of gapless, randomly shifted grids over all training frames.
        steps: batches; `OFFICIAL_STEPS` where no limit is given.
        minutes: of training; such a run does not repeat exactly.
        patience: validations in a row without a better validation loss.
        learning_rate: of Adam with betas (0.5, 0.999); the peak, where there is a schedule.
        schedule: constant, or onecycle: a tenth of the run up, then down along a cosine.
        average_decay: of the weights' moving average that is validated and kept; 0: the weights themselves.
        pseudo_defect_share: of the tiles that the student sees with a pseudo-defect; 0: none.
        keep: the weights with the lowest validation loss, or the last.
        precision: of the network; auto is bf16 where the device has it.
        folds: so many networks more, each trained without a part of the frames, score that part for the threshold. 0:
            frames are held aside for it instead. None: 2 where the frames held aside would be too few for the target.
        holdout: share of the frames that calibrate the threshold, never trained on nor validated with; given, no
            folds are trained.
        validation: share of the frames that the validation loss is measured on.
        groups: frames that share a group stay together when frames are kept aside: `folder`, or a regular expression
            with one group over the path below the folder.
        policy: how the threshold is set where frames are too few for the target, see `compute_threshold`.
        trim: leave good frames out that stand out, and train the folds anew without them.
        keep_outliers: take those for good as the others are: the threshold lies above them.
        fixture: parts move under the camera: the good frame that each is warped onto, on which `roi_mask` is drawn.
        qualification: artificial defects of each kind that the recipe is tried on; 0: none.
    """

    backbone: str = "resnet18"
    encoder_weights: str = PRETRAINED
    tile_size: int = 256
    stride: int | None = None
    scale: float = 1.0
    resize_hw: tuple[int, int] | None = None
    short_side: int | None = None
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    patience: int | None = None
    batch_size: int = 16
    learning_rate: float = 0.005
    schedule: Literal["constant", "onecycle"] = "onecycle"
    average_decay: float = 0.98
    pseudo_defect_share: float = 0.5
    keep: Literal["best", "last"] = "best"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    seed: int = 0
    bottleneck_width: Literal["official", "anomalib"] = "official"
    student: Literal["full", "light"] = "full"
    anomaly_map_mode: Literal["add", "multiply"] = "add"
    sigma: float = 4.0
    map_normalisation: Literal["none", "position"] = "position"
    folds: int | None = None
    holdout: float | None = None
    validation: float = 0.1
    groups: str | None = None
    false_reject_rate: float = 0.01
    policy: Policy = "near"
    trim: bool = False
    keep_outliers: bool = False
    qualification: int = 120
    mono16_range: tuple[int, int] | None = None
    roi_mask: Path | None = None
    fixture: str | None = None
    recipe_id: str | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.folds == 1 or (self.folds or 0) < 0:
            raise TrainingError(f"--folds: must be 0 or at least 2, got {self.folds}")
        if self.folds and self.holdout:
            raise TrainingError(
                f"--holdout: must not be given with --folds {self.folds}, since no frame is held out then"
            )
        if self.trim and self.keep_outliers:
            raise TrainingError("--trim: must not be given with --keep-outliers, which treats them as good")

    def choose_folds(self, count: int, steps: float) -> int:
        """Folds for so many frames and a run of so many steps; 0: hold frames aside.

        Two where too few for the target would be held aside, and each fold is trained for long enough.
        """
        if self.folds is not None:
            return self.folds
        if self.holdout is not None or count * HOLDOUT * self.false_reject_rate >= 1:
            return 0
        return _FOLDS if steps * (_FOLDS - 1) / _FOLDS >= FEWEST_STEPS else 0
