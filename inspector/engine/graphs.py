"""A recipe's network as OpenVINO's graphs: converted, quantised, and told apart by what they were made from."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import inspector
from inspector.config import Recipe
from inspector.engine.network import DistanceNetwork, MapNetwork
from inspector.errors import RecipeError
from inspector.files import compute_sha256, verify_sha256
from inspector.model import ReverseDistillation
from inspector.types import PixelFormat


def verify_files(recipe: Recipe, folder: Path) -> None:
    """See that probe and quantised network, where the recipe has them, are as they were written.

    Raises:
        RecipeError: missing or altered.
    """
    if recipe.probe and recipe.probe_sha256:
        verify_sha256(folder / recipe.probe, recipe.probe_sha256)
    for name, sha256 in recipe.quantised_sha256.items():
        verify_sha256(folder / str(recipe.quantised) / name, sha256)


def convert(recipe: Recipe, model: ReverseDistillation) -> dict[str, Any]:
    """OpenVINO's graphs of a recipe's network."""
    from inspector.engine import openvino

    normalisation = recipe.preprocessing.normalisation
    return openvino.convert(
        DistanceNetwork(model, normalisation.mean, normalisation.std),
        MapNetwork(model.anomaly_map),
        side=recipe.tiling.tile_size,
        dtype=tile_dtype(recipe),
    )


def write_quantised(recipe: Recipe, model: ReverseDistillation, tiles: Tensor, folder: Path) -> dict[str, str]:
    """Quantise a recipe's network on tiles (n, 3, t, t) of good frames, into an empty folder; SHA-256 by file.

    Raises:
        RecipeError: the extra `int8` is not installed.
        OSError: it cannot be written.
    """
    from inspector.engine import openvino

    graphs = convert(recipe, model)
    pixels = tiles.permute(0, 2, 3, 1).contiguous().numpy()
    try:
        graphs[openvino.DISTANCES] = openvino.quantise(graphs[openvino.DISTANCES], pixels)
    except ImportError as error:
        raise RecipeError(f"--precision int8: needs NNCF: pip install 'inspector[int8]' ({error})") from error
    openvino.write(graphs, folder)
    return {path.name: compute_sha256(path) for path in sorted(folder.iterdir())}


def tile_dtype(recipe: Recipe) -> torch.dtype:
    """Of the tiles that its engine takes."""
    return torch.float32 if recipe.preprocessing.pixel_format is PixelFormat.MONO16 else torch.uint8


def compute_network_key(recipe: Recipe) -> str:
    """Says, in 12 hex digits, which network a recipe describes: another one for other weights or parameters."""
    return hashlib.sha256(json.dumps(_state_network(recipe), sort_keys=True).encode()).hexdigest()[:12]


def _state_network(recipe: Recipe) -> dict[str, object]:
    names = {"backbone", "layers", "bottleneck_width", "anomaly_map_mode", "sigma", "map_normalisation"}
    if recipe.student != "full":  # left out of the others, whose int8 networks are named by this from before
        names.add("student")
    return recipe.model_dump(mode="json", include=names) | {
        "weights": recipe.weights_sha256,
        "tile_size": recipe.tiling.tile_size,
        "normalisation": recipe.preprocessing.normalisation.model_dump(mode="json"),
        "dtype": str(tile_dtype(recipe)),
    }


def state_facts(recipe: Recipe) -> dict[str, object]:
    """All that a compiled network depends on beside the machine."""
    versions = {"inspector": inspector.__version__, "torch": torch.__version__, "timm": version("timm")}
    return _state_network(recipe) | versions | {"code": _hash_code()}


@functools.cache
def _hash_code() -> str:
    """Of what says how a network is converted, so that a changed line is not answered from the cache."""
    root = Path(inspector.__file__).parent
    files = [*sorted((root / "model").glob("*.py")), root / "engine/network.py", root / "engine/openvino.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
