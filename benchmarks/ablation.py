"""Would other maps find more? A nearest-neighbour map, line filters and other weights beside Reverse Distillation.

    python benchmarks/ablation.py DATASET RECIPE [RECIPE ...] --json FILE

DATASET is in MVTec layout, RECIPES were trained on its train/good, one for each seed. Nothing is trained and no recipe
is changed: the maps are made from the features of each recipe's own network, in float32, tile by tile.

The neighbour map is the distance to the nearest of some features of good tiles (layer2 and layer3, averaged over 3×3
places, chosen by greedy k-center: PatchCore, arXiv 2106.08265). A good tile is never compared with its own frame. Each
map is normalised by position on the frames that the recipe was trained on, as those of Reverse Distillation are.
Differences are given with a 95 % interval: frames drawn again and again, the same for both, the mean over recipes.
AUPRO is measured on maps reduced to `_SIDE` pixels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _ablation_maps import BASE, Array, Maps
from _rates import compute_true_threshold, format_range
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from inspector.detection.preprocessing import preprocess
from inspector.files import compute_sha256
from inspector.training.data.datasets import list_images, read_image
from inspector.training.data.record import load_record
from inspector.training.evaluation.ground_truth import find_mask, read_mask
from inspector.training.evaluation.image_metrics import GOOD
from inspector.training.evaluation.pixel_metrics import compute_pixel_curves

_SIDE = 512
_RATES = (0.01, 0.02)
_DRAWS = 1000


def measure(folder: Path, dataset: Path, n_neighbours: int) -> dict[str, Any]:
    """By variant: each test frame's score, and AUPRO. `kinds` has each frame's kind."""
    record = load_record(folder)
    if record is None:
        raise SystemExit(f"{folder}: training.json: must be there, it says which frames trained the recipe")
    learned, seen = set(record.frames.values()), record.name_all()
    good = [path for path in list_images(dataset / "train" / GOOD) if compute_sha256(path) in learned]
    maps = Maps(folder, good, n_neighbours)
    paths = [path for path in list_images(dataset / "test") if compute_sha256(path) not in seen]
    scores: dict[str, list[float]] = {}
    reduced: dict[str, list[Array]] = {}
    masks = []
    for path in paths:
        pixels, pixel_format = read_image(path)
        made = maps.make(preprocess(pixels, pixel_format, maps.recipe.preprocessing))
        mask_path = find_mask(dataset, path)
        mask = read_mask(mask_path, pixels.shape[:2]) if mask_path else np.zeros(pixels.shape[:2], np.uint8)
        masks.append((_reduce(mask.astype(np.float32)) > 0).astype(np.uint8))
        for name, values in made.items():
            scores.setdefault(name, []).append(float(values.max()))
            small = cv2.resize(values, masks[-1].shape[::-1], interpolation=cv2.INTER_AREA)
            reduced.setdefault(name, []).append(small)
    aupro = {name: compute_pixel_curves(values, masks).aupro(0.3) for name, values in reduced.items()}
    return {"recipe": folder.name, "kinds": [path.parent.name for path in paths], "scores": scores, "aupro": aupro}


def _reduce(values: Array) -> Array:
    scale = min(1.0, _SIDE / max(values.shape))
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def compute_auroc(kinds: Array, scores: Array, kind: str | None = None) -> float:
    """Of good frames against those of one kind, or of all."""
    chosen = (kinds == GOOD) | (kinds == kind if kind else True)
    return float(roc_auc_score(kinds[chosen] != GOOD, scores[chosen]))


def compute_gain(runs: Sequence[dict[str, Any]], name: str, kind: str | None = None) -> tuple[float, float, float]:
    """Gain in AUROC over Reverse Distillation, mean over recipes, and its 95 % interval over frames."""
    kinds = np.array(runs[0]["kinds"])
    good = np.flatnonzero(kinds == GOOD)
    groups = [np.flatnonzero(kinds == each) for each in ([kind] if kind else sorted({*kinds} - {GOOD}))]
    order = np.concatenate(groups)
    # Each defective frame against each good one: an AUROC of drawn frames is a mean of drawn rows and columns.
    wins = np.mean([_compare(run, name, order, good) - _compare(run, BASE, order, good) for run in runs], axis=0)
    generator = np.random.default_rng(0)
    places = np.split(np.arange(len(order)), np.cumsum([len(group) for group in groups])[:-1])
    drawn = []
    for _ in range(_DRAWS):
        rows = np.concatenate([generator.choice(place, len(place)) for place in places])
        drawn.append(wins[rows][:, generator.integers(len(good), size=len(good))].mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(wins.mean()), float(low), float(high)


def _compare(run: dict[str, Any], name: str, defective: Array, good: Array) -> Array:
    """(defective, good): 1 where the defective frame scores higher, a half where both score the same."""
    scores = np.array(run["scores"][name])
    above, below = scores[defective][:, None], scores[good]
    return np.asarray((above > below) + 0.5 * (above == below))


def _escape(run: dict[str, Any], name: str, rate: float) -> float:
    scores = np.array(run["scores"][name])
    defective = scores[np.array(run["kinds"]) != GOOD]
    return float((defective <= compute_true_threshold(run["kinds"], run["scores"][name], rate)).mean())


def print_runs(title: str, runs: Sequence[dict[str, Any]]) -> None:
    """A line for each variant."""
    kinds = sorted({*runs[0]["kinds"]} - {GOOD})
    escapes = [f"escapes at {rate:.0%}" for rate in _RATES]
    table = Table("variant", "image AUROC", "gain (95 %)", *kinds, "AUPRO", *escapes, title=title)
    for name in runs[0]["scores"]:
        by_kind = [
            [compute_auroc(np.array(run["kinds"]), np.array(run["scores"][name]), kind) for run in runs]
            for kind in [None, *kinds]
        ]
        whole, *rest = (format_range(values, "{:.3f}") for values in by_kind)
        aupro = format_range([run["aupro"][name] for run in runs], "{:.3f}")
        passed = [format_range([_escape(run, name, rate) for run in runs], "{:.1%}") for rate in _RATES]
        table.add_row(name, whole, _describe_gain(runs, name, kinds), *rest, aupro, *passed)
    Console(width=260).print(table)


def _describe_gain(runs: Sequence[dict[str, Any]], name: str, kinds: Sequence[str]) -> str:
    gains = {kind or "all": compute_gain(runs, name, kind) for kind in ([None, *kinds] if len(kinds) > 1 else [None])}
    return "\n".join(f"{kind} {gain:+.3f} ({low:+.3f} to {high:+.3f})" for kind, (gain, low, high) in gains.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--neighbours", type=int, default=1000, help="features of good tiles that are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = [measure(folder, options.dataset, options.neighbours) for folder in options.recipes]
    if options.json:
        options.json.write_text(json.dumps(runs), encoding="utf-8")
    print_runs(options.dataset.name, runs)


if __name__ == "__main__":
    main()
