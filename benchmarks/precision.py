"""What each precision does to accuracy: one recipe, calibrated and evaluated in each.

    python benchmarks/precision.py RECIPE DATASET_DIR --precisions fp32 bf16 int8 --json precision.json

The recipe is copied; for int8 it is quantised on DATASET_DIR/train/good. Differences are to the first precision.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from inspector.device import choose_device
from inspector.engine.build import build_engine
from inspector.engine.probe import load_probe, score_tiles
from inspector.recipe.network import load_model as load_network
from inspector.training.calibrate import calibrate
from inspector.training.evaluation.evaluate import evaluate

METRICS = ("image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("dataset", type=Path, help="a data set in MVTec layout")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    results = {precision: _measure(precision, arguments) for precision in arguments.precisions}
    _print(f"{arguments.recipe.name} on {arguments.dataset.name}", results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _measure(precision: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(arguments.recipe, Path(temporary) / arguments.recipe.name))
        recipe = calibrate(
            folder,
            arguments.dataset / "train/good",
            precision=precision,
            device=arguments.device,
            false_reject_rate=0.1,
        )
        metrics = evaluate(folder, arguments.dataset, device=arguments.device).metrics
        engine = build_engine(
            recipe, lambda: load_network(folder, recipe), device=choose_device(arguments.device), folder=folder
        )
        probe = load_probe(folder / str(recipe.probe), str(recipe.probe_sha256))
        shift = probe.compare(score_tiles(engine, probe.tiles), probe.reference)
    names = (*METRICS, "frames_per_second", "threshold")
    return {name: metrics[name] for name in names} | {"engine": engine.name, "probe_shift": shift}


def _print(title: str, results: dict[str, dict[str, Any]]) -> None:
    table = Table("precision", *METRICS, "largest shift of a probe's score", "frames/s", title=title)
    first = next(iter(results.values()))
    for precision, result in results.items():
        cells = [f"{result[name]:.4f} ({result[name] - first[name]:+.4f})" for name in METRICS]
        table.add_row(precision, *cells, f"{result['probe_shift']:.2%}", f"{result['frames_per_second']:.2f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
