"""The reference picture in a recipe's folder that frames are warped onto."""

from __future__ import annotations

from pathlib import Path

from inspector.codec import decode_image
from inspector.config import Recipe
from inspector.detection.decision import Mask
from inspector.detection.fixture import Fixture
from inspector.errors import BadFrameError, RecipeError
from inspector.files import read_verified


def load_fixture(folder: Path, recipe: Recipe, roi: Mask | None) -> Fixture | None:
    """What the recipe in `folder` warps frames onto, its checksum verified; None where they stay as they lie.

    Raises:
        RecipeError: the picture is missing, altered, or does not fit the frames and the region of interest.
    """
    settings, frame_hw = recipe.fixture, recipe.preprocessing.frame_hw
    if settings is None or frame_hw is None or roi is None:
        return None  # the last two belong to the first: the recipe says so where it is read
    path = folder / settings.reference
    try:
        reference, _ = decode_image(read_verified(path, settings.reference_sha256))
    except BadFrameError as error:
        raise RecipeError(f"{path}: fixture.reference: must be an image that can be read: {error}") from error
    return Fixture(settings, reference, roi, frame_hw, recipe.preprocessing.scale_hw(frame_hw))
