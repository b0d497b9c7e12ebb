"""Overlays: the heat map on the frame, regions outlined, verdict and score written. For people, best effort."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import zmq

from inspector.detection.decision import Map
from inspector.security.sockets import MAX_TOPIC_BYTES, bind
from inspector.types import PixelFormat, Region, Verdict

Picture = np.ndarray[Any, Any]

_COLOURS = {Verdict.PASS: (80, 160, 40), Verdict.FAIL: (40, 40, 210), Verdict.ERROR: (0, 140, 230)}  # BGR
_OUTLINE = (255, 255, 255)


def render_overlay(
    pixels: Picture,
    pixel_format: PixelFormat,
    anomaly_map: Map | None,
    result_text: str,
    threshold: float | None,
    regions: Sequence[Region],
    verdict: Verdict,
    width: int = 1280,
) -> Picture:
    """Draw one frame for a person.

    Args:
        pixels, pixel_format: the frame, as in `Frame`.
        anomaly_map: (h, w) float32 of any size with the frame's aspect; None draws none.
        result_text: written in the banner, after the verdict.
        threshold: where the heat map turns opaque; below half of it nothing is tinted.
        regions: outlined; in the frame's pixels.
        verdict: the banner's colour.
        width: of the picture, in pixels; height follows the frame's aspect.

    Returns:
        (height, width, 3) uint8 BGR, ready for `cv2.imencode`.
    """
    scale = width / pixels.shape[1]
    height = max(1, round(pixels.shape[0] * scale))
    picture = cv2.resize(to_bgr(pixels, pixel_format), (width, height), interpolation=cv2.INTER_AREA)
    if anomaly_map is not None and threshold:
        picture = _blend_heat(picture, cv2.resize(anomaly_map, (width, height)), threshold)
    for region in regions:
        _outline(picture, region, scale, verdict)
    return _write_banner(picture, f"{verdict.value}  {result_text}", _COLOURS[verdict])


def to_bgr(pixels: Picture, pixel_format: PixelFormat) -> Picture:
    """(H, W, 3) uint8 BGR of a frame's pixels; 16 bits are stretched to what the frame holds."""
    if pixel_format is PixelFormat.BGR8:
        return pixels
    if pixel_format is PixelFormat.RGB8:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if pixel_format is PixelFormat.MONO16:
        pixels = cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))


def _blend_heat(picture: Picture, anomaly_map: Map, threshold: float) -> Picture:
    # Tinted from half the threshold on, so that a quiet frame stays a photograph.
    strength = np.clip(anomaly_map / threshold - 0.5, 0, 1)
    heat = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = (0.55 * np.clip(strength * 2, 0, 1))[..., None]
    return np.asarray(picture * (1 - alpha) + heat * alpha, dtype=np.uint8)


def _outline(picture: Picture, region: Region, scale: float, verdict: Verdict) -> None:
    margin = max(3, picture.shape[1] // 200)
    left, top, right, bottom = (round(value * scale) for value in region.xyxy)
    corners = (left - margin, top - margin), (right + margin, bottom + margin)
    thickness = max(1, picture.shape[1] // 640)
    cv2.rectangle(picture, *corners, _OUTLINE, thickness + 2)
    cv2.rectangle(picture, *corners, _COLOURS[verdict], thickness)


def _write_banner(picture: Picture, text: str, colour: tuple[int, int, int]) -> Picture:
    height = max(24, picture.shape[1] // 32)
    text = text.encode("utf-8", "replace").decode()  # OpenCV ends the process over text that is not UTF-8
    banner = np.full((height, picture.shape[1], 3), colour, dtype=np.uint8)
    size = height / 40
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    size *= min(1.0, (picture.shape[1] - height) / max(1, text_width))
    place = (height // 2, round(height * 0.68))
    cv2.putText(banner, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(1, height // 24), cv2.LINE_AA)
    return np.vstack([banner, picture])


class OverlaysSocket:
    """PUB with a small high-water mark: a slow viewer loses pictures. Used by one thread; bound at `binding`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret_key: bytes | None = None) -> None:
        """Bind, with the station's secret key where it has one.

        Raises:
            ConfigError: the endpoint cannot be bound.
        """
        self._socket = context.socket(zmq.PUB)
        self._socket.sndhwm = 8
        self._socket.maxmsgsize = MAX_TOPIC_BYTES
        self._socket.linger = 1000
        self.binding = bind(self._socket, endpoint, "sockets.overlays", secret_key)

    def publish(self, camera: str, result: Mapping[str, Any], picture: Picture, quality: int) -> None:
        """Send `[overlay/<camera>, result JSON, JPEG]`."""
        encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not encoded:
            raise ValueError(f"overlay of {picture.shape} could not be encoded")
        self._socket.send_multipart([f"overlay/{camera}".encode(), json.dumps(result).encode(), jpeg.tobytes()])

    def publish_live(self, camera: str, message: Mapping[str, Any], jpeg: bytes) -> None:
        """Send `[live/<camera>, message JSON, JPEG]`."""
        self._socket.send_multipart([f"live/{camera}".encode(), json.dumps(message).encode(), jpeg])

    def close(self) -> None:
        """Unbind; what was sent still goes out for a moment."""
        self._socket.close()
