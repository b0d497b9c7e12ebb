"""`inspector inspect`: images judged offline, as the daemon would."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspector.cli.terminal.options import Device, RecipeDir
from inspector.logs.lines import escape

if TYPE_CHECKING:
    from inspector.detection.detector import Detector


def inspect(
    recipe: RecipeDir,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images or folders of images.")],
    overlays: Annotated[Path | None, typer.Option(help="Write overlays to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show what each file contains, what was assumed, and what the network sees."),
    ] = False,
    device: Device = "auto",
) -> None:
    """Judge images offline, as the daemon would. Exits 1 if an image could not be judged."""
    from inspector.cli.terminal.explanation import explain_file
    from inspector.device import choose_device
    from inspector.errors import InspectorError
    from inspector.recipe.opening import open_detector
    from inspector.training.data.datasets import list_images

    files = [file for folder in paths for file in list_images(folder)]
    if not files:
        raise InspectorError(f"PATH: must be images or folders of images, found none in {[str(p) for p in paths]}")
    detector = open_detector(recipe, device=choose_device(device))
    failed = False
    for path, name in zip(files, _name_overlays(files), strict=True):
        record = _inspect_one(detector, path, overlays / name if overlays else None)
        failed |= record["verdict"] == "ERROR"
        if explain:
            record |= {"explanation": explain_file(path, detector.recipe.preprocessing)}
        typer.echo(json.dumps(record) if as_json else _line(record))
        for subject, text in record.get("explanation", {}).items() if not as_json else ():
            typer.echo(f"      {subject}: {text}")
    if failed:
        raise typer.Exit(1)


def _name_overlays(files: list[Path]) -> list[str]:
    """A picture's name for each image: its stem, numbered where several share it (test/good/000, test/dent/000)."""
    names: dict[str, None] = {}
    for file in files:
        numbered = (f"{file.stem}-{number}.jpg" for number in itertools.count(2))
        names[next(name for name in itertools.chain([f"{file.stem}.jpg"], numbered) if name not in names)] = None
    return list(names)


def _inspect_one(detector: Detector, path: Path, overlay: Path | None) -> dict[str, Any]:
    """Judge one image; `overlay` is the picture to write, if any, named in the record."""
    import cv2

    from inspector.errors import FrameError, InspectorError
    from inspector.files import write_whole
    from inspector.sinks.overlays import render_overlay
    from inspector.training.data.datasets import read_image

    threshold = detector.recipe.threshold.value if detector.recipe.threshold else None
    record: dict[str, Any] = {
        "path": str(path),
        "verdict": "ERROR",
        "score": None,
        "threshold": threshold,
        "warn": False,
    }
    try:
        pixels, pixel_format = read_image(path)
        judgement = detector.judge(pixels, pixel_format)
    except FrameError as error:
        return record | {"regions": [], "message": str(error)}
    decision = judgement.decision
    if overlay is not None:
        try:
            overlay.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InspectorError(f"--overlays: cannot write {overlay.parent}: {error}") from error
        text = f"{'WARN ' * decision.warn}score {decision.score:.4g} / {threshold:.4g}  {path.name}"
        picture = render_overlay(
            pixels, pixel_format, judgement.anomaly_map, text, threshold, decision.regions, decision.verdict
        )
        # Not by OpenCV, which ends the process over a name that is no UTF-8.
        write_whole(overlay, cv2.imencode(".jpg", picture)[1].tobytes())
        record["overlay"] = str(overlay)
    regions = [{"xyxy": r.xyxy, "peak": r.peak, "area": r.area} for r in decision.regions]
    return record | {
        "verdict": decision.verdict.value,
        "score": decision.score,
        "warn": decision.warn,
        "regions": regions,
        **({"pose": dataclasses.asdict(judgement.pose)} if judgement.pose else {}),
    }


def _line(record: dict[str, Any]) -> str:
    """A record in one line, as text: its file's name comes from elsewhere."""
    if record["score"] is None:
        return escape(f"ERROR {record['path']}: {record['message']}")
    scores = f"score {record['score']:.4g}/{record['threshold']:.4g}"
    warning = " WARN" if record["warn"] else ""
    return escape(f"{record['verdict']:<5} {record['path']} {scores} {len(record['regions'])} region(s){warning}")
