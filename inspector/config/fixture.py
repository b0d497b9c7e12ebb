"""What a recipe says of where the part lies: see `inspector.detection.fixture`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inspector.strict.base import Sha256, Strict


class FixtureLimits(Strict):
    """What the pose of a part must keep to; a frame beyond is answered ERROR NOT_LOCATED."""

    min_score: Annotated[float, Field(gt=0, lt=1)]
    """Lowest correlation with the reference; below the good frames' by a margin."""
    max_angle_deg: Annotated[float, Field(gt=0, le=180)] = 20.0
    """The part may be turned by so much either way."""
    max_scale_change: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """The part may be larger or smaller by this share."""


class FixtureReference(FixtureLimits):
    """The picture that each frame is warped onto before it is judged, and how well a frame must fit it."""

    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    """File in the recipe's folder: the reduced grey picture of one good frame, PNG."""
    reference_sha256: Sha256
    """Checksum of that file."""
    n_good: Annotated[int, Field(ge=1)]
    """Good frames whose fit `min_score` was set from."""
    n_not_located: Annotated[int, Field(ge=0)] = 0
    """Good frames that did not fit at all, and were left out."""
    lowest_score: float
    """The good frames' poorest fit."""
