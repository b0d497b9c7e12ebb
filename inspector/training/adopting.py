"""Masks that become part of a recipe's folder."""

from __future__ import annotations

from pathlib import Path

from inspector.config import Recipe, Zone
from inspector.errors import TrainingError
from inspector.files import compute_sha256, write_whole
from inspector.recipe.masks import read_roi


def adopt_roi(recipe: Recipe, mask: Path, folder: Path) -> Recipe:
    """Copy a region-of-interest mask into the recipe's folder, named by its content; the recipe that uses it.

    Raises:
        RecipeError: no usable mask.
        InspectorError: it cannot be written.
    """
    read_roi(mask)
    name, sha256 = _adopt(mask, folder, "roi")
    return recipe.model_copy(update={"roi_mask": name, "roi_mask_sha256": sha256})


def adopt_zone(recipe: Recipe, zone: str, mask: Path, folder: Path) -> Recipe:
    """Copy a zone's mask into the recipe's folder, named by its content; the recipe with that zone added or replaced.

    Raises:
        RecipeError: no usable mask.
        InspectorError: it cannot be written, or the zone's name breaks its rule.
    """
    read_roi(mask, f"zone {zone}")
    name, sha256 = _adopt(mask, folder, "zone")
    try:
        zones = {each.name: each for each in recipe.zones} | {zone: Zone(name=zone, mask=name, mask_sha256=sha256)}
    except ValueError as error:
        raise TrainingError(f"--zone: {error}") from error
    return recipe.model_copy(update={"zones": tuple(zones.values())})


def _adopt(mask: Path, folder: Path, kind: str) -> tuple[str, str]:
    sha256 = compute_sha256(mask)
    name = f"{kind}-{sha256[:12]}{mask.suffix}"
    if not (folder / name).exists():
        write_whole(folder / name, mask.read_bytes())
    return name, sha256
