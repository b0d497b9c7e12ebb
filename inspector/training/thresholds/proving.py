"""Scores in the precision the line will judge in, and the probe that proves it there."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from inspector.config import Recipe
from inspector.detection.decision import Map
from inspector.detection.detector import Detector
from inspector.detection.fixture import Fixture
from inspector.detection.preprocessing import preprocess
from inspector.detection.tiling import Tiler
from inspector.engine.base import Engine
from inspector.engine.build import build_eager
from inspector.engine.graphs import compute_network_key, write_quantised
from inspector.engine.probe import MAX_SHIFT, Probe, dump_probe, score_tiles
from inspector.errors import FrameError, TrainingError
from inspector.files import write_whole
from inspector.model import ReverseDistillation
from inspector.recipe.fixture import load_fixture
from inspector.recipe.masks import load_roi
from inspector.training.data.datasets import logger, read_image

PROBE_TILES = 16
_RANGE_TILES = 300

_T = TypeVar("_T")


class ProbeCollector:
    """Keeps, of the frames it is shown, the tiles with the highest peaks: those a change of scores hits first."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, int, Tensor]] = []
        self._order = itertools.count()

    def offer(self, detector: Detector, image: Tensor, anomaly_map: Map) -> None:
        """Look at a preprocessed frame (3, h, w) and its map (h, w)."""
        peak = int(anomaly_map.argmax())
        entry = (float(anomaly_map.flat[peak]), next(self._order))
        if len(self._kept) == PROBE_TILES and entry < self._kept[0][:2]:
            return
        height, width = image.shape[-2:]
        padded, side = detector.tiler.grid((height, width)).pad(image), detector.recipe.tiling.tile_size
        top, left = (
            min(max(0, place - side // 2), extent - side)
            for place, extent in zip(divmod(peak, width), padded.shape[-2:], strict=True)
        )
        heapq.heappush(self._kept, (*entry, padded[:, top : top + side, left : left + side].clone()))
        if len(self._kept) > PROBE_TILES:
            heapq.heappop(self._kept)

    def build(self, recipe: Recipe, model: ReverseDistillation, engine: Engine) -> Probe:
        """The probe: those tiles, their scores by the reference engine, and by the one that judged the frames.

        Raises:
            TrainingError: no frame was offered.
        """
        if not self._kept:
            raise TrainingError("good frames: at least one must be usable, got none")
        tiles = torch.stack([tile for _, _, tile in sorted(self._kept)])
        reference = score_tiles(build_eager(recipe, model, device=engine.device), tiles)
        return Probe(tiles, reference, score_tiles(engine, tiles))


def score_proved(
    recipe: Recipe,
    model: ReverseDistillation,
    load: Callable[[Recipe], Detector],
    score: Callable[[Detector, ProbeCollector], _T],
) -> tuple[Recipe, Detector, _T, Probe]:
    """Score good frames, then see that the precision did not move the scores.

    Args:
        recipe: whose precision counts.
        model: its trained network.
        load: gives the detector of a recipe.
        score: judges the good frames and offers each to the collector.

    Returns:
        The recipe, in fp32 where it was `auto` and the device's own precision moves scores too far; its detector;
        what `score` gave; the probe.

    Raises:
        TrainingError: the precision asked for moves scores too far.
    """
    detector = load(recipe)
    collector = ProbeCollector()
    scores = score(detector, collector)
    probe, precision = collector.build(recipe, model, detector.engine), detector.engine.precision
    shift, limit = probe.compare(probe.calibrated, probe.reference), MAX_SHIFT[precision]
    logger.info(
        "%s changes the scores of good tiles by at most %.3f%% (limit %.1f%%)", precision, shift * 100, limit * 100
    )
    if shift <= limit:
        recipe = recipe.model_copy(update={"calibrated_in": precision.value})
        return recipe, detector, scores, probe
    message = (
        f"precision: {precision} changes the scores of good tiles by {shift:.2%} of the highest, limit {limit:.1%}"
    )
    if recipe.precision != "auto":
        raise TrainingError(message)
    logger.warning("%s: this recipe runs in fp32, which is slower", message)
    return score_proved(recipe.model_copy(update={"precision": "fp32"}), model, load, score)


def adopt_probe(recipe: Recipe, probe: Probe, folder: Path) -> Recipe:
    """Write a probe into the recipe's folder, named by its content; the recipe that uses it.

    Raises:
        InspectorError: it cannot be written.
    """
    content = dump_probe(probe)
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"probe-{sha256[:12]}.safetensors"
    write_whole(folder / name, content)
    return recipe.model_copy(update={"probe": name, "probe_sha256": sha256})


def adopt_quantised(recipe: Recipe, model: ReverseDistillation, paths: Sequence[Path], folder: Path) -> Recipe:
    """Quantise the network on good frames, into a folder of its own in the recipe's; the recipe that uses it.

    Raises:
        RecipeError: the extra `int8` is not installed.
        TrainingError: no frame can be used, or it cannot be written.
    """
    tiles = _cut_tiles(recipe, paths, load_fixture(folder, recipe, load_roi(folder, recipe)))
    logger.info("int8: ranges of all features are measured on %d tiles", len(tiles))
    new = None
    try:
        new = Path(tempfile.mkdtemp(prefix=f"int8-{compute_network_key(recipe)}-", dir=folder))
        sums = write_quantised(recipe, model, tiles, new)
        new.chmod(0o755)
        for path in new.iterdir():
            path.chmod(0o644)
    except BaseException as error:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError):
            raise TrainingError(f"{folder}: the int8 network cannot be written: {error}") from error
        raise
    return recipe.model_copy(update={"quantised": new.name, "quantised_sha256": sums})


def drop_unused(folder: Path, recipe: Recipe) -> None:
    """Remove probes, references and quantised networks that a recipe no longer names."""
    named = {recipe.probe, recipe.expected_frames.references if recipe.expected_frames else None}
    for path in itertools.chain(folder.glob("probe-*.safetensors"), folder.glob("references-*.safetensors")):
        if path.name not in named:
            path.unlink(missing_ok=True)
    for path in folder.glob("int8-*"):
        if path.name != recipe.quantised:
            shutil.rmtree(path, ignore_errors=True)


def _cut_tiles(recipe: Recipe, paths: Sequence[Path], fixture: Fixture | None) -> Tensor:
    """Tiles (n, 3, t, t), about `_RANGE_TILES`, from all over the frames."""
    per_frame = math.ceil(_RANGE_TILES / max(1, len(paths)))
    tiles: list[Tensor] = []
    for path in paths[:: math.ceil(len(paths) / _RANGE_TILES) or 1]:
        try:
            image = preprocess(*read_image(path), recipe.preprocessing, fixture)
        except FrameError:
            continue  # named when it is scored
        height, width = image.shape[-2:]
        grid = Tiler(recipe.tiling.tile_size, recipe.tiling.stride).grid((height, width))
        indices = range(0, len(grid), math.ceil(len(grid) / per_frame))
        tiles += [grid.tile(image, index, index + 1)[0] for index in indices]
    if not tiles:
        raise TrainingError(f"good frames: at least one must be usable for int8, got {len(paths)} unusable ones")
    return torch.stack(tiles[:_RANGE_TILES])
