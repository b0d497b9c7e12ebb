"""Commands on files: train, calibrate, evaluate, inspect. Heavy imports wait until one is called."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from inspector.config import Recipe
    from inspector.detector import Detector

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0

RecipeDir = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe folder.")]
RoiMask = Annotated[
    Path | None, typer.Option(help="Grey image of a frame's aspect: anomalies count where it is not black.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def train(
    good_dir: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="Folder of good frames.")],
    out: Annotated[Path, typer.Option(help="The recipe folder to write.")],
    backbone: Annotated[str, typer.Option(help="resnet18 … wide_resnet101_2; a timm tag may follow.")] = "resnet18",
    encoder_weights: Annotated[str, typer.Option(help="pretrained, none, or a .pth/.safetensors file.")] = "pretrained",
    tile_size: Annotated[int, typer.Option(min=32, help="Tile side in pixels, a multiple of 32.")] = 256,
    stride: Annotated[int | None, typer.Option(min=1, help="Step between tiles; the tile size by default.")] = None,
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Frames are shrunk by this before tiling.")] = 1.0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many batches (3000 if no limit).")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after so long.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Tiles per step.")] = 16,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    bottleneck_width: Annotated[Literal["official", "anomalib"], typer.Option(help="Whose student.")] = "official",
    holdout: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of frames kept for calibration.")] = 0.2,
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target for the threshold.")] = 0.01,
    sigma: Annotated[float, typer.Option(min=0, help="Of the map's Gaussian, in tile pixels.")] = 4.0,
    anomaly_map_mode: Annotated[Literal["add", "multiply"], typer.Option(help="How layers are fused.")] = "add",
    map_normalisation: Annotated[
        Literal["position", "none"],
        typer.Option(help="Distances relative to what good tiles show there, or the paper's (multiply needs these)."),
    ] = "position",
    mono16_range: Annotated[tuple[int, int], typer.Option(help="Black and white of 16-bit frames.")] = (0, 65_535),
    roi_mask: RoiMask = None,
    recipe_id: Annotated[str | None, typer.Option(help="Name of the recipe; the folder's by default.")] = None,
) -> None:
    """Train on good frames and calibrate on those kept aside: one command gives a usable recipe."""
    from inspector.training.train import TrainingProgress, TrainOptions
    from inspector.training.train import train as run_training

    options = TrainOptions(
        backbone=backbone,
        encoder_weights=encoder_weights,
        tile_size=tile_size,
        stride=stride,
        scale=scale,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        batch_size=batch_size,
        device=device,
        seed=seed,
        bottleneck_width=bottleneck_width,
        anomaly_map_mode=anomaly_map_mode,
        sigma=sigma,
        map_normalisation=map_normalisation,
        holdout=holdout,
        false_reject_rate=false_reject_rate,
        mono16_range=mono16_range,
        roi_mask=roi_mask,
        recipe_id=recipe_id,
    )
    with _progress() as update:

        def report(progress: TrainingProgress) -> None:
            text = f"step {progress.steps} loss {progress.loss:.4f} {progress.tiles_per_second:.1f} tiles/s"
            update(progress.stage, progress.share, text if progress.stage == "train" else "")

        recipe = run_training(good_dir, out, options, report)
    _show_recipe(recipe, out)


def calibrate(
    recipe: RecipeDir,
    good_dir: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="Good frames that training never saw.")],
    false_reject_rate: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Target.")] = 0.01,
    defects: Annotated[Path | None, typer.Option(help="Defective frames: measures escapes, moves nothing.")] = None,
    roi_mask: RoiMask = None,
    device: Device = "auto",
) -> None:
    """Set a recipe's threshold from good frames."""
    from inspector.training.calibrate import calibrate as run_calibration

    with _progress() as update:
        calibrated = run_calibration(
            recipe,
            good_dir,
            false_reject_rate=false_reject_rate,
            defects_dir=defects,
            roi_mask=roi_mask,
            device=device,
            advance=lambda done, total: update("calibrate", done / total, f"{done} of {total}"),
        )
    _show_recipe(calibrated, recipe)


def evaluate(
    recipe: RecipeDir,
    dataset_dir: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="A data set in MVTec layout.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the metrics here, too.")] = None,
    device: Device = "auto",
) -> None:
    """Measure a recipe on labelled frames."""
    from rich.console import Console
    from rich.table import Table

    from inspector.training.evaluate import evaluate as run_evaluation

    with _progress() as update:
        metrics = run_evaluation(
            recipe,
            dataset_dir,
            device=device,
            advance=lambda done, total: update("evaluate", done / total, f"{done} of {total}"),
        )
    table = Table("metric", "value")
    for name, value in metrics.items():
        for label, number in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{number:.4f}" if isinstance(number, float) else str(number)
            table.add_row(f"{name} {label}".strip(), shown)
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(metrics, indent=1), encoding="utf-8")


def inspect(
    recipe: RecipeDir,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images or folders of images.")],
    overlays: Annotated[Path | None, typer.Option(help="Write overlays here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: Device = "auto",
) -> None:
    """Judge images offline, as the daemon would; exits 1 when one could not be judged."""
    from inspector.detector import Detector, choose_device
    from inspector.errors import InspectorError
    from inspector.training.datasets import list_images

    files = [file for folder in paths for file in list_images(folder)]
    if not files:
        raise InspectorError(f"PATH: must be images or folders with images, found none in {[str(p) for p in paths]}")
    detector = Detector.load(recipe, device=choose_device(device))
    failed = False
    for path, name in zip(files, _name_overlays(files), strict=True):
        record = _inspect_one(detector, path, overlays / name if overlays else None)
        failed |= record["verdict"] == "ERROR"
        typer.echo(json.dumps(record) if as_json else _line(record))
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
    from inspector.sinks.overlays import render_overlay
    from inspector.training.datasets import read_image

    threshold = detector.recipe.threshold.value if detector.recipe.threshold else None
    record: dict[str, Any] = {"path": str(path), "verdict": "ERROR", "score": None, "threshold": threshold}
    try:
        pixels, pixel_format = read_image(path)
        judgement = detector.judge(pixels, pixel_format)
    except FrameError as error:
        return record | {"regions": [], "message": str(error)}
    decision = judgement.decision
    if overlay is not None:
        overlay.parent.mkdir(parents=True, exist_ok=True)
        text = f"score {decision.score:.4g} / {threshold:.4g}  {path.name}"
        picture = render_overlay(
            pixels, pixel_format, judgement.anomaly_map, text, threshold, decision.regions, decision.verdict
        )
        if not cv2.imwrite(str(overlay), picture):
            raise InspectorError(f"--overlays: cannot write {overlay}")
        record["overlay"] = str(overlay)
    regions = [{"xyxy": r.xyxy, "peak": r.peak, "area": r.area} for r in decision.regions]
    return record | {"verdict": decision.verdict.value, "score": decision.score, "regions": regions}


def _line(record: dict[str, Any]) -> str:
    if record["score"] is None:
        return f"ERROR {record['path']}: {record['message']}"
    scores = f"score {record['score']:.4g}/{record['threshold']:.4g}"
    return f"{record['verdict']:<5} {record['path']} {scores} {len(record['regions'])} region(s)"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, float, str], None]]:
    """A bar a stage, with ETA; on stderr, so that stdout stays for results. Log lines where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_progress()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, share: float, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0, note=note)
            bar.update(tasks[stage], completed=share, note=note)

        yield update


def _log_progress() -> Callable[[str, float, str], None]:
    """Progress for a log file: a line every `_LOG_EVERY_S`, and one at the end of each stage."""
    last = time.monotonic()

    def update(stage: str, share: float, note: str) -> None:
        nonlocal last
        if share >= 1 or time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            logger.info("%s %.0f %% %s", stage, 100 * share, note)

    return update


def _show_recipe(recipe: Recipe, folder: Path) -> None:
    threshold = recipe.threshold
    typer.echo(f"recipe {recipe.recipe_id} in {folder}")
    if recipe.training:
        facts = recipe.training
        typer.echo(f"trained: {facts['steps']} steps, {facts['tiles_seen']} tiles, {facts['seconds']} s")
    if threshold is not None:
        typer.echo(
            f"threshold {threshold.value:.5g} ({threshold.method}, {threshold.n_good} good frames never trained on); "
            f"false rejects at most {threshold.false_reject_bound:.1%} at 95 % confidence"
        )
        if threshold.escape_rate is not None:
            typer.echo(f"escapes: {threshold.escape_rate:.1%} of {threshold.n_defective} defective frames")
