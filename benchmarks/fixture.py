"""What it costs to find a moved part and warp its frame: milliseconds of one core a frame of 5 megapixels.

    python benchmarks/fixture.py [--rounds 20]

Each round prepares the same frame without and with the fixture, in turn. No recipe and no data are needed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import torch

from inspector.config import FixtureLimits, Preprocessing
from inspector.detection.fixture import Fixture, reduce_grey
from inspector.detection.preprocessing import Pixels, prepare, scale
from inspector.testing.moving_part import draw_mask, draw_part, move
from inspector.types import PixelFormat

FRAME_HW = (2048, 2448)
MOVES = {"still": (0, 0, 0), "shifted": (120, -80, 0), "turned": (60, 40, 10)}
"""Right and down in pixels, and degrees."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="Times that each frame is prepared.")
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"{'scale':>6} {'format':>6} {'part':>8} {'without':>8} {'with':>8} {'pose':>8}   ms, medians")
    for factor in (1.0, 0.5):
        for pixel_format in (PixelFormat.RGB8, PixelFormat.MONO8):
            for name in MOVES:
                without, with_fixture, pose = _measure(factor, pixel_format, name, rounds)
                print(f"{factor:6} {pixel_format:>6} {name:>8} {without:8.1f} {with_fixture:8.1f} {pose:8.1f}")


def _measure(factor: float, pixel_format: PixelFormat, name: str, rounds: int) -> tuple[float, float, float]:
    """Medians: prepared without, with, and of the latter what finding the pose takes."""
    preprocessing = Preprocessing(frame_hw=FRAME_HW, scale=factor, pixel_format=pixel_format)
    reference = _to_format(cv2.resize(draw_part(), FRAME_HW[::-1]), pixel_format)
    frame = move(reference, *MOVES[name])
    mask = cv2.resize(draw_mask(), FRAME_HW[::-1])
    image = scale(reference, pixel_format, preprocessing)
    limits = FixtureLimits(min_score=0.8)
    fixture = Fixture(limits, reduce_grey(image), mask, FRAME_HW, preprocessing.scale_hw(FRAME_HW))
    moved = scale(frame, pixel_format, preprocessing)
    taken: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        times = [time.thread_time()]
        for work in (
            lambda: prepare(frame, pixel_format, preprocessing, None),
            lambda: prepare(frame, pixel_format, preprocessing, fixture),
            lambda: fixture.locate(moved),
        ):
            work()
            times.append(time.thread_time())
        taken.append((times[1] - times[0], times[2] - times[1], times[3] - times[2]))
    without, with_fixture, pose = (statistics.median(column) * 1e3 for column in zip(*taken, strict=True))
    return without, with_fixture, pose


def _to_format(pixels: Pixels, pixel_format: PixelFormat) -> Pixels:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixel_format is PixelFormat.MONO8 else pixels


if __name__ == "__main__":
    main()
