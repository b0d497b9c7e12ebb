"""Fuzz targets: whatever comes in, pixels or a named refusal come out.

By itself: `fuzzing.py file|wire [libFuzzer's options]`.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from inspector.codec import Bounds, Picture, read_picture
from inspector.config import Camera
from inspector.errors import BadFrameError, FrameMismatchError, UnidentifiedFrameError
from inspector.sources.wire import FrameDecoder
from inspector.types import PixelFormat

MAX_BYTES = 2**22
_DECODER = FrameDecoder({"top": Camera()}, max_bytes=MAX_BYTES)
_DTYPES = {
    PixelFormat.RGB8: (np.uint8, 3), PixelFormat.BGR8: (np.uint8, 3), PixelFormat.MONO8: (np.uint8, 2),
    PixelFormat.MONO16: (np.uint16, 2),
}  # fmt: skip


def try_file(data: bytes) -> Picture | None:
    """The picture, its promises checked; None where it is refused. What else is raised is a fault."""
    try:
        picture = read_picture(data, Bounds(MAX_BYTES))
    except (BadFrameError, FrameMismatchError):
        return None
    check(picture.pixels, picture.pixel_format)
    assert 0 < picture.end <= len(data)
    return picture


def try_message(data: bytes) -> None:
    """A message: the length of its header in two bytes, that header, pixels; once more with a header that is good."""
    length = int.from_bytes(data[:2], "big")
    head, pixels = data[2 : 2 + length], data[2 + length :]
    for header in (
        head,
        json.dumps({"camera": "top", "frame_id": "x", "encoding": ["jpeg", "png"][length % 2]}).encode(),
    ):
        try:
            frame = _DECODER.decode([header, memoryview(pixels)])
        except UnidentifiedFrameError:
            continue
        assert (frame.pixels is None) == (frame.error is not None)
        if frame.pixels is not None:
            check(frame.pixels, frame.pixel_format)


def check(pixels: np.ndarray, pixel_format: PixelFormat) -> None:
    assert (pixels.dtype, pixels.ndim) == _DTYPES[pixel_format]
    assert pixels.ndim == 2 or pixels.shape[2] == 3
    assert 0 < pixels.nbytes <= MAX_BYTES


TARGETS = {"file": try_file, "wire": try_message}

if __name__ == "__main__":
    import atheris

    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_func(target)
    for name in ("image", "jpeg", "png", "tiff", "tags", "webp", "plain", "raw", "picture"):
        module = sys.modules[f"inspector.codec.{name}"]
        for attribute, value in list(vars(module).items()):
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and hasattr(value, "__code__"):
                setattr(module, attribute, atheris.instrument_func(value))
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
