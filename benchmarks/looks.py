"""What it costs to see whether a frame shows what good frames show: milliseconds a frame on one core, by frame size.

    python benchmarks/looks.py [--references 500]

No recipe and no data are needed: the figures do not depend on what frames show.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from inspector.config import Preprocessing, Recipe
from inspector.detection.looks import compute_look
from inspector.recipe.references import load_expectation
from inspector.training.expectations import adopt_expectation
from inspector.types import PixelFormat

SIZES_HW = ((256, 256), (1080, 1920), (2048, 2448), (3000, 4096), (6464, 9344))
_ROUNDS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=500, help="Good frames that each is compared with.")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    print(f"{'frame':>14} {'format':>6} {'min ms':>8} {'median ms':>10}")
    for hw in SIZES_HW:
        for pixel_format, shape in ((PixelFormat.RGB8, (*hw, 3)), (PixelFormat.MONO8, hw)):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            recipe = Recipe(recipe_id="r", backbone="resnet18", weights_sha256="0" * 64)
            looks = [compute_look(pixels, pixel_format)] * arguments.references
            with tempfile.TemporaryDirectory() as folder:
                expectation = load_expectation(adopt_expectation(recipe, looks, Path(folder)), Path(folder))
            assert expectation is not None  # noqa: S101 (it was just written)
            taken = []
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                expectation.check(pixels, pixel_format, Preprocessing())
                taken.append((time.perf_counter() - started) * 1e3)
            print(f"{hw[1]:>8}×{hw[0]:<5} {pixel_format:>6} {min(taken):8.2f} {sorted(taken)[_ROUNDS // 2]:10.2f}")


if __name__ == "__main__":
    main()
