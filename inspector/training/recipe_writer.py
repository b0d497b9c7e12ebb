"""A recipe folder is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from inspector.config import RECIPE_FILE, WEIGHTS_FILE, Recipe, dump_recipe, seal
from inspector.detection.looks import Look
from inspector.engine.probe import Probe
from inspector.errors import TrainingError
from inspector.model import ReverseDistillation
from inspector.model.checkpoint import save_weights
from inspector.training.adopting import adopt_roi
from inspector.training.data.record import TrainingRecord, write_record
from inspector.training.expectations import adopt_expectation
from inspector.training.fixture import NewFixture
from inspector.training.optimise.fold_networks import save_fold
from inspector.training.thresholds.proving import adopt_probe
from inspector.training.thresholds.score_record import ScoreRecord, write_scores

OUTLINED_FILE = "fixture-mask.jpg"
"""The reference of a fixture with the outline of its mask: whether they belong together is for people to see."""
SUSPECTS_DIR = "suspects"
"""Pictures of good frames that stand out."""


def check_out(out: Path) -> None:
    """See that `out` can become a recipe folder.

    Raises:
        TrainingError: it is something else, or cannot be written or replaced there.
    """
    if out.exists() and not (out / RECIPE_FILE).is_file() and (out.is_file() or any(out.iterdir())):
        raise TrainingError(f"--out: must be a new folder or a recipe to replace, got {out}")
    if out.is_mount():
        raise TrainingError(f"--out: must not be a mount point, since a new recipe could not replace it, got {out}")
    try:  # now rather than after hours of training
        out.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent)).rmdir()
    except OSError as error:
        raise TrainingError(f"--out: must be in a folder that can be written, got {out}: {error}") from error


@dataclass(frozen=True, slots=True)
class Extras:
    """What lies in a recipe's folder beside the recipe and its weights.

    Attributes:
        roi_mask: file to copy.
        fixture: the reference picture that the recipe names, and the same for people.
        record: of the training.
        scores: that the threshold was set from.
        probe: of the network.
        looks: of the good frames.
        pictures: JPEG by name, of good frames that stand out.
        folds: the networks of the record's folds.
    """

    roi_mask: Path | None = None
    fixture: NewFixture | None = None
    record: TrainingRecord | None = None
    scores: ScoreRecord | None = None
    probe: Probe | None = None
    looks: Sequence[Look] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    folds: Sequence[ReverseDistillation] = ()


def write_recipe(recipe: Recipe, model: ReverseDistillation, out: Path, extras: Extras | None = None) -> Recipe:
    """Write the folder beside `out`, then swap it in: never half a recipe.

    Raises:
        TrainingError: the disk does not take it; what was at `out` is still there.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise TrainingError(f"--out: {out} cannot be written: {error}") from error
    try:
        recipe = recipe.model_copy(update={"weights_sha256": save_weights(model, new / WEIGHTS_FILE)})
        recipe = seal(_add(recipe, extras or Extras(), new))
        (new / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
        new.chmod(0o755)
        _swap(new, out)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"--out: {out} cannot be written, so nothing there was changed: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return recipe


def _add(recipe: Recipe, extras: Extras, folder: Path) -> Recipe:
    """Write what there is into the folder; the recipe that uses it."""
    if extras.roi_mask is not None:
        recipe = adopt_roi(recipe, extras.roi_mask, folder)
    if extras.fixture is not None and recipe.fixture is not None:
        (folder / recipe.fixture.reference).write_bytes(extras.fixture.picture)
        (folder / OUTLINED_FILE).write_bytes(extras.fixture.outlined)
    if extras.probe is not None:
        recipe = adopt_probe(recipe, extras.probe, folder)
    if extras.looks:
        recipe = adopt_expectation(recipe, extras.looks, folder)
    if extras.record is not None:
        for number, model in enumerate(extras.folds):
            extras.record.folds[number].weights_sha256 = save_fold(model, number, folder)
        write_record(extras.record, folder)
    if extras.scores is not None:
        write_scores(extras.scores, folder)
    for name, picture in extras.pictures.items():
        (folder / SUSPECTS_DIR).mkdir(exist_ok=True)
        (folder / SUSPECTS_DIR / name).write_bytes(picture)
    return recipe


def _swap(new: Path, out: Path) -> None:
    """Put folder `new` in the place of `out`; what was there comes back if that fails."""
    if not out.exists():
        new.rename(out)
        return
    # A folder of its own each time: what a killed run left behind must not stop this one.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        old = out.rename(aside / out.name)
        try:
            new.rename(out)
        except OSError:
            old.rename(out)
            raise
    finally:
        if out.exists():  # else what is aside is the only copy
            shutil.rmtree(aside, ignore_errors=True)
