"""A test frame as it was judged: what all metrics of an evaluation are made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from inspector.types import Verdict


@dataclass(frozen=True, slots=True)
class Sample:
    """One test frame as it was judged.

    Attributes:
        kind: `good` or the kind of defect.
        score: NaN where the part was not found in it.
        verdict: ERROR where the recipe refuses the frame, whatever it scores.
        mask_path: where its defects are marked; None where that is not known.
        labels: of its defects, see `ground_truth.read_labels`; none where there is no mask.
        frame_hw: its height and width in pixels.
        seconds: spent on reading and judging it.
    """

    path: Path
    kind: str
    score: float
    verdict: Verdict
    mask_path: Path | None
    frame_hw: tuple[int, int]
    seconds: float
    labels: frozenset[int] = frozenset()

    @property
    def is_scored(self) -> bool:
        """Whether it has a score and a map."""
        return not math.isnan(self.score)
