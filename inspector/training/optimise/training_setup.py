"""What all networks of one training share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from inspector.config import Recipe
from inspector.detection.decision import Mask
from inspector.detection.detector import Detector
from inspector.detection.fixture import Fixture
from inspector.engine.build import build_engine
from inspector.model import ReverseDistillation
from inspector.training.data.datasets import FrameSet
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.trainer import StepReport


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where training stands. `share` is of the nearest limit of the stage, 0 to 1."""

    stage: str
    share: float
    steps: int = 0
    loss: float = math.nan
    tiles_per_second: float = math.nan


Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What all networks of one training share.

    Attributes:
        recipe: what they are like.
        frames: all good frames.
        hashes: SHA-256 of each.
        options: how they learn.
        device: where.
        roi: where anomalies count; None: everywhere.
        workspace: folder for the states of training.
        report: told where it stands.
        fixture: what frames are warped onto; None: they stay as they lie.
    """

    recipe: Recipe
    frames: FrameSet
    hashes: Mapping[Path, str]
    options: TrainOptions
    device: torch.device
    roi: Mask | None
    workspace: Path
    report: Report
    fixture: Fixture | None = None

    def build_detector(self, model: ReverseDistillation, recipe: Recipe) -> Detector:
        """What judges frames by one of the networks."""
        engine = build_engine(recipe, lambda: model, device=self.device, proved=False)
        return Detector(recipe, engine, roi=self.roi, fixture=self.fixture)

    def tell_step(self, stage: str) -> Callable[[StepReport], None]:
        """Report steps of training."""
        return lambda step: self.report(
            TrainingProgress(stage, step.share, step.step, step.loss, step.tiles_per_second)
        )

    def tell_share(self, stage: str) -> Callable[[int, int], None]:
        """Report how many of a total are done."""
        return lambda done, total: self.report(TrainingProgress(stage, done / total))
