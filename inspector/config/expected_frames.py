"""What a recipe says of the frames it may judge: measured on good frames, see `inspector.detection.looks`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from inspector.strict.base import Sha256, Share, Size, Strict

Expected = Literal[
    "height", "width", "brightness", "contrast", "sharpness", "red", "blue", "black_share", "white_share",
    "repeated_share", "texture", "layout",
]  # fmt: skip
EXPECTATIONS: tuple[str, ...] = get_args(Expected)
"""What is measured on each frame and bounded: see `inspector.detection.looks`."""


class Bound(Strict):
    """The lowest and highest value that may be judged; one of them may be left open."""

    low: float | None = None
    """The lowest value. null: any."""
    high: float | None = None
    """The highest value. null: any."""

    def is_within(self, other: Bound | None) -> bool:
        """Whether it lets through no more than another one; True where there is none."""
        if other is None:
            return True
        lower = other.low is None or (self.low is not None and self.low >= other.low)
        return lower and (other.high is None or (self.high is not None and self.high <= other.high))

    @model_validator(mode="after")
    def _bounds_something(self) -> Bound:
        if self.low is None and self.high is None:
            raise ValueError("low or high must be given; to disable this bound, add it to expected_frames.off")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must be at most high ({self.high}), got {self.low}")
        return self


class ExpectedFrames(Strict):
    """What good frames show. A frame outside never passes: it is answered ERROR, or FAIL where a defect explains it.

    May be edited by hand.

    height, width: in pixels. brightness, contrast: mean and standard deviation of the grey levels, 0 to 255.
    sharpness: mean difference of neighbouring pixels, in grey levels. red, blue: mean level above green's.
    black_share, white_share: share of pixels up to 5, and from 250 on. repeated_share: share of pixels equal to the one
    below, as in lost lines and synthetic pictures. texture, layout: distances from the good frames.
    """

    sizes_hw: Annotated[tuple[tuple[Size, Size], ...], Field(min_length=1)] | None = None
    """Sizes (height, width) of the good frames; all others are refused. null: any, since nearly each had its own."""
    bounds: dict[Expected, Bound]
    """The bounds in force, each value's by its name."""
    measured: dict[Expected, Bound] = Field(default_factory=dict)
    """The bounds as the good frames gave them: they show which ones were edited."""
    off: tuple[Expected | Literal["sizes_hw", "repeated"], ...] = ()
    """Bounds that are not applied; also `sizes_hw`, and `repeated`: a frame equal to its camera's last one."""
    references: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    """File in the recipe's folder that texture and layout are compared with."""
    references_sha256: Sha256
    """Checksum of that file."""
    n_good: Annotated[int, Field(ge=1)]
    """Good frames that were measured."""
    n_outside: Annotated[int, Field(ge=0)]
    """Of these, how many lie outside bounds that were set without them (ten folds)."""
    false_error_bound: Share
    """Upper 95 % Clopper–Pearson bound on the share of good frames that are refused."""

    def list_widened(self) -> list[str]:
        """Bounds that were edited and now let more through than the good frames gave."""
        return [name for name, bound in self.bounds.items() if not bound.is_within(self.measured.get(name))]

    @field_validator("bounds")
    @classmethod
    def _all_there(cls, value: dict[Expected, Bound]) -> dict[Expected, Bound]:
        if missing := [name for name in EXPECTATIONS if name not in value]:
            raise ValueError(f"each value must have a bound (to disable one, add it to off), got none for {missing}")
        return value
