"""Who judges which camera now. A switch takes effect between two frames: one under way keeps its judge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector.config import RECIPE_FILE, Station, Threshold, list_doubts
from inspector.detection.detector import Detector
from inspector.device import Device, choose_devices
from inspector.errors import RecipeError
from inspector.files import compute_sha256
from inspector.recipe.conversion import convert_aside
from inspector.recipe.golden import prove_golden
from inspector.recipe.opening import open_detector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A detector that is warm and has proved itself, and what results say of its recipe."""

    detector: Detector
    folder: Path
    recipe_sha256: str

    @property
    def refuses_repeats(self) -> bool:
        """Whether a frame byte for byte its camera's last one must not be judged."""
        expectation = self.detector.expectation
        return expectation is not None and expectation.refuses_repeats

    @property
    def threshold(self) -> float:
        """Threshold of the recipe."""
        return self._threshold.value

    @property
    def threshold_set_by(self) -> str:
        """How the threshold was set: `calibration`, `hand` or `unknown`."""
        return self._threshold.set_by

    @property
    def _threshold(self) -> Threshold:
        threshold = self.detector.recipe.threshold
        assert threshold is not None  # noqa: S101 (`load_judge` refused: a recipe without one never becomes a judge)
        return threshold

    @property
    def identity(self) -> dict[str, Any]:
        """The result's fields `recipe_id`, `recipe_sha256` and `model_sha256`."""
        recipe = self.detector.recipe
        return {
            "recipe_id": recipe.recipe_id,
            "recipe_sha256": self.recipe_sha256,
            "model_sha256": recipe.weights_sha256,
        }


class Judges:
    """The judge of each camera that has one. Shared by all threads."""

    def __init__(self) -> None:
        self._by_camera: Mapping[str, Judge] = {}
        self._loaded = threading.Event()

    @property
    def are_loaded(self) -> bool:
        """Whether the first set is there; before, no frame can be judged."""
        return self._loaded.is_set()

    def get(self, camera: str) -> Judge | None:
        """The camera's judge now."""
        return self._by_camera.get(camera)

    def find_frame_hw(self, camera: str) -> tuple[int, int] | None:
        """The frame size that the camera's recipe expects now; None where it takes any, or there is none yet."""
        judge = self.get(camera)
        return None if judge is None else judge.detector.recipe.preprocessing.frame_hw

    def switch(self, judges: Mapping[str, Judge]) -> None:
        """Replace the judges of these cameras, all at once."""
        self._by_camera = {**self._by_camera, **judges}  # one assignment: readers see the old set or the new
        self._loaded.set()

    def __iter__(self) -> Iterator[tuple[str, Judge]]:
        return iter(self._by_camera.items())


def load_judges(
    station: Station, cache: Path, progress: Callable[[int, int], None] = lambda done, count: None
) -> dict[str, Judge]:
    """A judge for each camera that has a recipe; cameras with the same folder and device share one.

    Args:
        station: whose cameras, devices and tile batch.
        cache: where compiled networks are kept.
        progress: told how many recipes are ready, of how many, at the start and after each.

    Raises:
        RecipeError: a recipe that cannot be used.
    """
    devices, places = choose_devices(station.devices), station.places
    wanted = {
        name: (camera.recipe.resolve(), places[name])
        for name, camera in station.cameras.items()
        if camera.recipe is not None
    }
    count = len(set(wanted.values()))
    progress(0, count)
    loaded: dict[tuple[Path, int], Judge] = {}
    for name, (folder, place) in wanted.items():
        if (folder, place) in loaded:
            continue
        try:
            loaded[folder, place] = load_judge(folder, devices[place], station.tile_batch, cache)
        except RecipeError as error:
            raise RecipeError(f"cameras.{name}.recipe: {error}", field=("cameras", name, "recipe")) from error
        progress(len(loaded), count)
    return {name: loaded[key] for name, key in wanted.items()}


def load_judge_aside(folder: Path, device: Device, tile_batch: int | None, cache: Path) -> Judge:
    """As `load_judge`, beside a flow that judges: what would take cores and lock for seconds is done elsewhere.

    On a GPU nothing is timed: it would hold frames up, and they would falsify it.
    """
    if device.of_torch.type == "cpu":
        convert_aside(folder, cache)
    return load_judge(folder, device, tile_batch, cache, timed=False)


def load_judge(folder: Path, device: Device, tile_batch: int | None, cache: Path, *, timed: bool = True) -> Judge:
    """Load a recipe, every checksum verified, warm it up and let it prove itself on its golden frames.

    `timed`: as for `build_engine`.

    Raises:
        RecipeError: it cannot be used, or does not hold what it promises.
    """
    path = folder / RECIPE_FILE
    recipe_sha256 = _compute_sha256(path)
    with device.as_current():
        detector = open_detector(folder, device=device.of_torch, tile_batch=tile_batch, cache=cache, timed=timed)
        if detector.recipe.threshold is None:
            raise RecipeError(f"{path}: threshold: required to judge frames; run inspector calibrate")
        detector.warm_up()
        prove_golden(detector, folder)
    if _compute_sha256(path) != recipe_sha256:
        # Results would name another recipe.
        raise RecipeError(f"{path}: changed while it was loaded", transient=True)
    for doubt in list_doubts(detector.recipe):
        logger.warning("recipe %s: %s", detector.recipe.recipe_id, doubt)
    return Judge(detector, folder, recipe_sha256)


def _compute_sha256(path: Path) -> str:
    try:
        return compute_sha256(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
