"""What an image file is, and what the network sees of it, in words: `inspector inspect --explain`."""

from __future__ import annotations

from pathlib import Path

from inspector.codec import Picture, read_picture
from inspector.config import Preprocessing
from inspector.detection.preprocessing import preprocess
from inspector.errors import FrameError
from inspector.files import read_whole
from inspector.types import PixelFormat


def explain_file(path: Path, preprocessing: Preprocessing) -> dict[str, str]:
    """Texts by subject: file, assumed, frame, network; `refused` instead of those that it does not come to."""
    texts: dict[str, str] = {}
    try:
        picture = read_picture(read_whole(path))
        height, width = picture.pixels.shape[:2]
        texts["file"] = f"{picture.kind}, {picture.stored}"
        texts["assumed"] = "; ".join(_list_assumed(picture))
        texts["frame"] = (
            f"{height} × {width} {picture.pixel_format}, values {picture.pixels.min()} to {picture.pixels.max()}"
        )
        texts["network"] = _explain_network(picture, preprocessing)
    except (OSError, FrameError) as error:
        texts["refused"] = str(error)
    return texts


def _list_assumed(picture: Picture) -> tuple[str, ...]:
    profile = ("gamma or colour profile ignored",) if picture.has_profile else ()
    return ("orientation ignored, pixels as stored", *picture.assumed, *profile)


def _explain_network(picture: Picture, preprocessing: Preprocessing) -> str:
    image = preprocess(picture.pixels, picture.pixel_format, preprocessing)
    _, height, width = image.shape
    order = "red, green, blue" if picture.pixel_format is PixelFormat.RGB8 else "grey repeated three times"
    text = f"{height} × {width}, channels {order}, values {image.min():.5g} to {image.max():.5g} of 0 to 255"
    if picture.pixel_format is PixelFormat.MONO16:
        text += " ({} to {} of the frame)".format(*preprocessing.mono16_range)
    mean, std = preprocessing.normalisation.mean, preprocessing.normalisation.std
    return f"{text}; then divided by 255, {mean} subtracted, divided by {std}"
