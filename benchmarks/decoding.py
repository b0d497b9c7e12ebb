"""What it costs to decode a frame of 5 megapixels, beside the plain decoder on the same bytes, in turns.

    python benchmarks/decoding.py [--rounds 15]

A ratio of 1 means that the checks cost nothing. Plain is simplejpeg (strict) for JPEG, `cv2.imdecode` and a change of
colour order for the others, `numpy.frombuffer` for raw pixels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import simplejpeg

from inspector.codec import decode_image, decode_raw
from inspector.types import PixelFormat

HEIGHT, WIDTH = 2048, 2448


def draw(channels: int) -> np.ndarray[Any, Any]:
    """A textured part on a dark ground, with a sensor's noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.where(np.hypot(y - HEIGHT / 2, x - WIDTH / 2) < 900, 140 + 20 * np.sin(x / 9) * np.cos(y / 13), 12.0)
    image = image[..., None] * np.array([1.0, 0.85, 0.6])[:channels] + random.normal(0, 2, (HEIGHT, WIDTH, channels))
    return np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8).squeeze())


def decode_plainly(data: bytes) -> np.ndarray[Any, Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def decode_jpeg_plainly(data: bytes) -> np.ndarray[Any, Any]:
    simplejpeg.decode_jpeg_header(data, strict=True)
    return simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False, strict=True)


def measure(rounds: int, *ways: Callable[[], Any]) -> list[float]:
    """Median milliseconds of processor time of each way, taken in turns: what else the machine does hits them alike."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, taken in zip(ways, times, strict=True):
            started = time.process_time()
            way()
            taken.append((time.process_time() - started) * 1e3)
    return [statistics.median(taken[1:]) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    colours, grey = draw(3), draw(1)
    bgr = cv2.cvtColor(colours, cv2.COLOR_RGB2BGR)
    shape = list(colours.shape)

    def encode(suffix: str, pixels: np.ndarray[Any, Any], *options: int) -> bytes:
        return bytes(cv2.imencode(suffix, pixels, options)[1])

    raw = colours.tobytes()
    progressive = (cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    files: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
        "JPEG, colours": (encode(".jpg", bgr, cv2.IMWRITE_JPEG_QUALITY, 90), decode_jpeg_plainly),
        "JPEG, progressive": (encode(".jpg", bgr, *progressive), decode_jpeg_plainly),
        "PNG, colours": (encode(".png", bgr), decode_plainly),
        "PNG, grey": (encode(".png", grey), decode_plainly),
        "TIFF, LZW": (encode(".tiff", bgr), decode_plainly),
        "BMP, colours": (encode(".bmp", bgr), decode_plainly),
        "WebP, lossless": (encode(".webp", bgr, cv2.IMWRITE_WEBP_QUALITY, 101), decode_plainly),
    }
    print(f"{'':20} {'plain ms':>9} {'ours ms':>9} {'ratio':>6}")
    for name, (data, plainly) in files.items():
        plain, ours = measure(
            rounds, lambda data=data, plainly=plainly: plainly(data), lambda data=data: decode_image(data)
        )
        print(f"{name:20} {plain:9.2f} {ours:9.2f} {ours / plain:6.2f}")
    plain, ours = measure(
        1000,
        lambda: np.frombuffer(raw, np.uint8).reshape(shape),
        lambda: decode_raw(raw, "uint8", shape, PixelFormat.RGB8),
    )
    print(f"{'raw, a view':20} {plain:9.4f} {ours:9.4f}")


if __name__ == "__main__":
    main()
