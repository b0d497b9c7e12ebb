"""The last frame of each camera, for people who adjust it: in any state, judged or not."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cv2

from inspector.sinks.overlays import to_bgr
from inspector.types import Frame

_WIDTH, _QUALITY = 1280, 90
WIDTHS = range(16, 8193)
Renew = Callable[[str, Frame | None], None]


class Snapshots:
    """Holds one frame a camera. Any thread notes frames, one answers requests."""

    def __init__(self, cameras: Iterable[str], renew: Renew = lambda camera, last: None) -> None:
        """`renew` has a camera of which people want a picture after the last one take it; must not wait."""
        self._cameras = list(cameras)
        self.renew = renew
        self._last: dict[str, Frame] = {}

    def note(self, frame: Frame) -> None:
        """A frame came; one without pixels shows nothing."""
        if frame.pixels is not None:
            self._last[frame.camera] = frame

    def last(self, camera: str) -> Frame | None:
        """The last frame with pixels; None: none came yet."""
        return self._last.get(camera)

    def answer(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """The last frame as a JPEG in base64, at most `width` pixels wide, and which frame it is.

        Who asks is not made to wait, and nobody behind: what `renew` brings is the last frame of a request to come.

        Raises:
            ValueError: a field that breaks its rule, or no frame came yet.
        """
        del who
        camera, width = request.get("camera"), request.get("width", _WIDTH)
        if camera not in self._cameras:
            raise ValueError(f"camera: must be one of {self._cameras}, got {camera!r:.80}")
        if type(width) is not int or width not in WIDTHS:
            raise ValueError(f"width: must be a whole number from {WIDTHS[0]} to {WIDTHS[-1]}, got {width!r:.80}")
        frame = self.last(str(camera))
        self.renew(str(camera), frame)
        if frame is None:
            raise ValueError(f"camera {camera}: no frame with pixels has come yet")
        return {
            "camera": camera,
            "frame_id": frame.frame_id,
            "captured_utc_ns": frame.captured_utc_ns,
            "received_utc_ns": frame.received_utc_ns,
            "jpeg": base64.b64encode(encode_jpeg(frame, width)).decode(),
        }


def encode_jpeg(frame: Frame, width: int) -> bytes:
    """The frame's pixels, shrunk to `width` where they are wider.

    Raises:
        ValueError: too many rows for a JPEG.
    """
    assert frame.pixels is not None  # noqa: S101 (`note`)
    pixels, (rows, columns) = frame.pixels, frame.pixels.shape[:2]
    if columns > width:
        size = (width, max(1, round(rows * width / columns)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", to_bgr(pixels, frame.pixel_format), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError(f"frame of {rows} x {columns} pixels: too many rows for a JPEG of this width")
    return jpeg.tobytes()
