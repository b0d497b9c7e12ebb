"""Which engine runs a recipe on a device; built, proved on the recipe's probe, falling back loudly."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inspector.config import Recipe
from inspector.engine import cache as engine_cache
from inspector.engine.base import Engine, Precision, choose_precision
from inspector.engine.build_cuda import TUNING_S, CudaOrder, Prove, build_cuda_engine
from inspector.engine.eager import EagerEngine
from inspector.engine.graphs import compute_network_key, convert, state_facts, tile_dtype
from inspector.engine.layer_choice import Budget
from inspector.engine.probe import MAX_DRIFT, MAX_SHIFT, Probe, load_probe, score_tiles
from inspector.errors import RecipeError, ScoreShiftError
from inspector.files import read_verified
from inspector.model import ReverseDistillation
from inspector.types import Fallback

logger = logging.getLogger(__name__)

_NOISE_TILES = 4

LoadModel = Callable[[], ReverseDistillation]


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be built."""

    recipe: Recipe
    load_model: LoadModel
    device: torch.device
    batch: int | None
    folder: Path | None
    cache: Path | None
    budget: Budget


def build_engine(
    recipe: Recipe,
    load_model: LoadModel,
    *,
    device: torch.device,
    batch: int | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
    proved: bool = True,
    timed: bool = True,
) -> Engine:
    """The engine for a recipe on a device, in the recipe's precision, or the device's fastest for `auto`.

    Before it is returned it has reproduced the scores of the recipe's probe within `MAX_SHIFT`. For `auto` a precision
    that does not is replaced by float32, with a warning; so is one that a recipe without a probe cannot prove.

    Args:
        recipe: what to judge.
        load_model: gives the trained network; not called where a compiled one is in the cache.
        device: where to run.
        batch: tiles at once; None: what suits the device.
        folder: the recipe's folder, with probe and quantised network; None: not written yet.
        cache: where compiled artefacts are kept; None: nowhere.
        proved: False: the caller has the means to prove it, the probe in the recipe is not used.
        timed: False: a GPU runs another recipe meanwhile, so nothing is timed on it that is not remembered.

    Raises:
        RecipeError: the precision the recipe asks for cannot be had on this device, or moves the scores too far.
    """
    order = _Order(recipe, load_model, device, batch, folder, cache, Budget(TUNING_S if timed else 0.0))
    if not proved:
        chosen = choose_precision(device) if recipe.precision == "auto" else Precision(recipe.precision)
        return _build(order, chosen, lambda engine: engine)
    probe = None
    if folder is not None and recipe.probe and recipe.probe_sha256:
        probe = load_probe(folder / recipe.probe, recipe.probe_sha256)
    prove = functools.partial(_prove, probe=probe, order=order)
    if recipe.precision != "auto":
        return _build(order, Precision(recipe.precision), prove)
    best = choose_precision(device)
    fallback = Fallback.NONE
    if probe is None and best is not Precision.FP32:
        fallback = Fallback.NO_PROBE
        logger.warning(
            "recipe %s has no probe to check %s with, so it runs in fp32, which is slower; `inspector "
            "calibrate` adds a probe",
            recipe.recipe_id, best,
        )  # fmt: skip
    elif best is not Precision.FP32:
        try:
            return _build(order, best, prove)
        except RecipeError as error:
            fallback = Fallback.PRECISION_REFUSED
            logger.warning("%s; it runs in fp32 instead, which is slower", error)
    engine = _build(order, Precision.FP32, prove)
    if fallback is not Fallback.NONE and engine.fallback in {Fallback.NONE, Fallback.NOT_FUSED}:
        engine.fallback = fallback  # what costs most is said
    return engine


def build_eager(
    recipe: Recipe, model: torch.nn.Module, *, device: torch.device | None = None, batch: int | None = None
) -> EagerEngine:
    """The reference engine, on the CPU by default."""
    mean, std = recipe.preprocessing.normalisation.mean, recipe.preprocessing.normalisation.std
    return EagerEngine(
        model,
        mean,
        std,
        side=recipe.tiling.tile_size,
        dtype=tile_dtype(recipe),
        device=device or torch.device("cpu"),
        batch=batch or 8,
    )


def _prove(engine: Engine, probe: Probe | None, order: _Order) -> Engine:
    """See that the engine reproduces the probe's scores, or, in float32, at least the reference's on noise."""
    recipe, precision = order.recipe, engine.precision
    if probe is None:
        if precision is not Precision.FP32:
            raise RecipeError(
                f"recipe {recipe.recipe_id}: precision: {precision} must be checked with the recipe's probe, "
                "but it has "
                "none; run inspector calibrate"
            )
        probe = _make_noise_probe(order)
    elif probe.tiles.shape[1:] != engine.tiles.shape[1:] or probe.tiles.dtype != engine.tiles.dtype:
        raise RecipeError(
            f"recipe {recipe.recipe_id}: probe: must have tiles {tuple(engine.tiles.shape[1:])} "
            f"{engine.tiles.dtype}, got {tuple(probe.tiles.shape[1:])} {probe.tiles.dtype}; run inspector calibrate"
        )
    scores = score_tiles(engine, probe.tiles)
    limits = {"float32": (probe.reference, MAX_SHIFT[precision])}
    if recipe.calibrated_in == precision.value:
        limits["the engine that its threshold was set with"] = (probe.calibrated, MAX_DRIFT[precision])
    elif recipe.calibrated_in is not None:
        logger.warning(
            "recipe %s: its threshold was set in %s and it runs in %s: scores differ, so defects may pass or good "
            "parts may fail; run `inspector calibrate` on this machine to set it again",
            recipe.recipe_id, recipe.calibrated_in, precision,
        )  # fmt: skip
    for other, (expected, limit) in limits.items():
        shift = probe.compare(scores, expected)
        if not shift <= limit:
            raise ScoreShiftError(
                f"recipe {recipe.recipe_id}: precision: {precision} on {engine.name} changes the scores of good "
                "tiles by "
                f"{shift:.2%} of the highest score compared with {other}, must be at most {limit:.1%}; run "
                "inspector calibrate here"
            )
    shift = probe.compare(scores, probe.reference)
    logger.info("recipe %s: %s, %s; scores changed by %.3f%%", recipe.recipe_id, precision, engine.name, shift * 100)
    return engine


def _make_noise_probe(order: _Order) -> Probe:
    """For recipes without one: noise shows a wrong conversion as well, though not what a precision costs."""
    side = order.recipe.tiling.tile_size
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, (_NOISE_TILES, 3, side, side), generator=generator).to(tile_dtype(order.recipe))
    scores = score_tiles(build_eager(order.recipe, order.load_model(), device=order.device), tiles)
    return Probe(tiles, scores, scores)


def _build(order: _Order, precision: Precision, prove: Prove) -> Engine:
    """The engine, proved."""
    if precision is Precision.INT8 and order.device.type != "cpu":
        raise RecipeError(
            f"recipe {order.recipe.recipe_id}: precision: int8 runs on the CPU, got {order.device}; set device: cpu, "
            "or run inspector calibrate --precision auto"
        )
    if order.device.type == "cuda":
        cuda_order = CudaOrder(
            order.recipe, order.load_model(), precision, order.device, order.batch, order.cache, prove, order.budget
        )
        return build_cuda_engine(cuda_order)
    if precision is Precision.FP16:
        raise RecipeError(f"recipe {order.recipe.recipe_id}: precision: fp16 runs on CUDA, got {order.device}")
    try:
        engine = _build_openvino(order, precision)
    except (ImportError, RuntimeError) as error:
        if order.recipe.precision not in {"auto", "fp32"}:  # asked for, and its threshold was set with its scores
            raise RecipeError(f"recipe {order.recipe.recipe_id}: precision: {precision} cannot run: {error}") from error
        logger.warning(
            "OpenVINO cannot run this recipe: it runs in eager mode in fp32, several times slower: %s", error
        )
        engine = build_eager(order.recipe, order.load_model(), device=order.device, batch=order.batch)
        engine.fallback = Fallback.EAGER
    return prove(engine)


def _build_openvino(order: _Order, precision: Precision) -> Engine:
    from inspector.engine import openvino

    graphs = _read_quantised(order) if precision is Precision.INT8 else _fetch_graphs(order)
    side = order.recipe.tiling.tile_size
    return openvino.OpenVinoEngine(graphs, precision, side=side, dtype=tile_dtype(order.recipe), batch=order.batch)


def is_converted(recipe: Recipe, cache: Path) -> bool:
    """Whether a CPU would find the recipe's graphs in `cache`, or needs none from there."""
    return recipe.precision == Precision.INT8.value or engine_cache.has(cache, _compute_cache_key(recipe))


def fill_cache(recipe: Recipe, load_model: LoadModel, cache: Path) -> engine_cache.Files | None:
    """The files of the recipe's graphs for a CPU, converted where they were not in `cache`; None: it takes nothing."""
    from inspector.engine import openvino

    key = _compute_cache_key(recipe)
    return engine_cache.fetch(cache, key, lambda new: openvino.write(convert(recipe, load_model()), new))


def _compute_cache_key(recipe: Recipe) -> str:
    from inspector.engine import openvino

    return engine_cache.compute_key(state_facts(recipe) | {"openvino": openvino.VERSION})


def _fetch_graphs(order: _Order) -> dict[str, Any]:
    """The recipe's graphs out of the cache, or converted and put there."""
    from inspector.engine import openvino

    files = None if order.cache is None else fill_cache(order.recipe, order.load_model, order.cache)
    return openvino.read(files) if files else convert(order.recipe, order.load_model())


def _read_quantised(order: _Order) -> dict[str, Any]:
    from inspector.engine import openvino

    recipe = order.recipe
    if order.folder is None or recipe.quantised is None:
        raise RecipeError(
            f"recipe {recipe.recipe_id}: quantised: required with precision int8; "
            "run inspector calibrate --precision int8"
        )
    if not recipe.quantised.startswith(f"int8-{compute_network_key(recipe)}-"):
        raise RecipeError(
            f"recipe {recipe.recipe_id}: quantised: {recipe.quantised} was made for other weights or parameters; "
            "run inspector calibrate --precision int8"
        )
    folder = order.folder / recipe.quantised
    return openvino.read({name: read_verified(folder / name, sha) for name, sha in recipe.quantised_sha256.items()})
