"""What a recipe says of frames before they are judged: what they must be, how they are scaled and cut."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from inspector.strict.base import Size, Strict
from inspector.types import PixelFormat


class Tiling(Strict):
    """How a frame is cut into tiles, in pixels of the scaled frame."""

    tile_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 256
    """Side of a tile."""
    stride: Annotated[int, Field(ge=1, le=4096)] = 256
    """Step from one tile to the next, at most `tile_size`. Maps of tiles that overlap are blended."""

    @model_validator(mode="after")
    def _no_gaps(self) -> Tiling:
        if self.stride > self.tile_size:
            raise ValueError(f"stride must be at most tile_size ({self.tile_size}), got {self.stride}")
        return self


class Normalisation(Strict):
    """What is taken from each channel, and what it is divided by; ImageNet's values by default."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of red, green and blue, in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green and blue, in [0, 1]."""


ShortSide = Annotated[int, Field(ge=32, le=4096)]
"""Not below the smallest tile: there, rounding the longer side would change the aspect by more than a mask may have."""


class Preprocessing(Strict):
    """What a frame must be and how it becomes the network's input; the same in training and in the daemon."""

    pixel_format: PixelFormat = PixelFormat.RGB8
    """What a frame must be. Of RGB8 and BGR8 each takes the other; else it is answered ERROR FRAME_MISMATCH."""
    frame_hw: tuple[Size, Size] | None = None
    """Height and width that a frame must have. null: any."""
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Every frame is shrunk by this factor. At most one of `scale`, `resize_hw` and `short_side` is given."""
    resize_hw: tuple[Size, Size] | None = None
    """Height and width that every frame is squeezed to, whatever its aspect."""
    short_side: ShortSide | None = None
    """Pixels of the shorter side that every frame is scaled to, up or down; its aspect stays."""
    mono16_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=65_535)]] = (0, 65_535)
    """Values of 16-bit frames that become black and white."""
    normalisation: Normalisation = Normalisation()
    """How pixels become the network's input."""

    @field_validator("mono16_range")
    @classmethod
    def _rising(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] >= value[1]:
            raise ValueError(f"the low end must be below the high end, got {list(value)}")
        return value

    @property
    def map_hw(self) -> tuple[int, int] | None:
        """The size of the maps; None where it follows each frame's."""
        return self.resize_hw or (self.frame_hw and self.scale_hw(self.frame_hw))

    def scale_hw(self, frame_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the map of a frame."""
        factor = self.short_side / min(frame_hw) if self.short_side else self.scale
        height, width = (max(1, round(side * factor)) for side in frame_hw)
        return self.resize_hw or (height, width)

    @model_validator(mode="after")
    def _one_way_to_scale(self) -> Preprocessing:
        given = {name: getattr(self, name) for name in ("scale", "resize_hw", "short_side")}
        chosen = {name: value for name, value in given.items() if value not in (None, 1.0)}
        if len(chosen) > 1:
            named = ", ".join(f"{name} {value}" for name, value in chosen.items())
            raise ValueError(f"at most one of {', '.join(given)} may be given, got {named}")
        return self
