"""What the decision on a frame costs on this CPU: PASS, FAIL, areas and zones, from the map to the verdict.

    python benchmarks/deciding.py --frame-hw 3000 4096 --repeats 20

The decision as the detector makes it, beside the same from the whole map, in milliseconds: the fastest of all repeats.
The maps are smooth, as the network's are; a defect of 60 × 40 pixels makes the FAIL. Kinds alternate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.detection.run import FrameRun
from inspector.engine.eager import EagerEngine

_SIDE = 256
_THRESHOLD = 1.0
_DEFECT = (slice(1000, 1040), slice(1500, 1560))

Map = np.ndarray[Any, np.dtype[np.float32]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frame-hw", type=int, nargs=2, default=[3000, 4096], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    good = make_map((options.frame_hw[0], options.frame_hw[1]))
    bad = good.copy()
    bad[_DEFECT] += 2
    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "PASS": build_steps(good),
        "FAIL": build_steps(bad),
        "PASS, min_region_area 20": build_steps(good, min_region_area=20),
        "FAIL, min_region_area 20": build_steps(bad, min_region_area=20),
        "PASS, a zone": build_steps(good, zone=True),
        "FAIL, a zone": build_steps(bad, zone=True),
    }
    durations: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in steps}
    for repeat in range(options.repeats + 1):  # the first one warms up
        for name, pair in steps.items():
            for step, noted in zip(pair, durations[name], strict=True):
                started = time.perf_counter()
                step()
                if repeat:
                    noted.append((time.perf_counter() - started) * 1e3)
    print_table({name: tuple(map(min, noted)) for name, noted in durations.items()})


def make_map(frame_hw: tuple[int, int]) -> Map:
    """A map (h, w) as the network makes them of good frames: noise on the layers' grid, enlarged, then the Gaussian."""
    height, width = frame_hw
    coarse = np.random.default_rng(0).gamma(4.0, 0.02, (height // 4, width // 4)).astype(np.float32)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(enlarged, (0, 0), 4.0), np.float32)


def build_steps(anomaly_map: Map, *, min_region_area: int = 1, zone: bool = False) -> tuple[Callable[[], object], ...]:
    """The decision on a map by the detector, and from the whole map."""
    zones = [{"name": "left", "mask": "left.png", "mask_sha256": "0" * 64}] if zone else []
    recipe = Recipe.model_validate(
        {
            "recipe_id": "benchmark",
            "backbone": "resnet18",
            "weights_sha256": "0" * 64,
            "preprocessing": {"pixel_format": "Mono8"},
            "tiling": {"tile_size": _SIDE, "stride": _SIDE},
            "threshold": {"value": _THRESHOLD, "method": "manual"},
            "min_region_area": min_region_area,
            "zones": zones,
        }
    )
    mask = np.zeros(anomaly_map.shape, np.uint8)
    mask[:, : mask.shape[1] // 3] = 255
    engine = EagerEngine(torch.nn.Identity(), (0, 0, 0), (1, 1, 1), side=_SIDE, device=torch.device("cpu"), batch=1)
    detector = Detector(recipe, engine, zones={"left": mask} if zone else None)
    grid = detector.tiler.grid((anomaly_map.shape[0], anomaly_map.shape[1]))
    run = FrameRun(torch.zeros(1), grid, (), grid.frame_hw)
    run.canvas = torch.from_numpy(anomaly_map)[None]

    def decide_now() -> object:
        run.summary = None
        return detector.finish(run).decision

    if decide_now() != detector.decide(anomaly_map, _THRESHOLD, grid.frame_hw):
        raise RuntimeError("the two ways decide differently")
    return decide_now, lambda: detector.decide(anomaly_map, _THRESHOLD, grid.frame_hw)


def print_table(fastest: dict[str, tuple[float, ...]]) -> None:
    """A row per kind of frame."""
    table = Table(title="decision on one map, ms")
    for heading in ("frame", "now", "of PASS", "from the whole map"):
        table.add_column(heading, justify="left" if heading == "frame" else "right")
    passed = fastest["PASS"][0]
    for name, (now, whole) in fastest.items():
        table.add_row(name, f"{now:.1f}", f"{now / passed:.2f}", f"{whole:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
