"""Good frames judged for a threshold, each by a network that never saw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspector.config import CrossValidation, PrecisionChoice, Recipe
from inspector.detection.detector import Detector
from inspector.device import choose_device
from inspector.engine.build import build_engine
from inspector.model import ReverseDistillation
from inspector.recipe.fixture import load_fixture
from inspector.recipe.masks import load_roi, load_zones
from inspector.recipe.network import load_model
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import list_images
from inspector.training.data.good_frames import choose_frames
from inspector.training.data.record import FoldRecord, TrainingRecord, load_record
from inspector.training.optimise.cross_validation import choose_compared, compute_gains, describe_folds
from inspector.training.optimise.fold_networks import has_folds, load_folds
from inspector.training.thresholds.proving import ProbeCollector, adopt_probe, adopt_quantised, score_proved
from inspector.training.thresholds.score_record import GoodFrame, ScoreRecord
from inspector.training.thresholds.scoring import Advance, FrameScore, score_parts


@dataclass(slots=True)
class Judged:
    """Good frames as they were judged.

    Attributes:
        recipe: by which; with the precision that the scores were made in.
        detector: its.
        records: the scores at each region area.
        new: frames that its network was not trained on.
    """

    recipe: Recipe
    detector: Detector
    records: dict[int, ScoreRecord]
    new: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who scores which frame.

    Attributes:
        hashes: SHA-256 of each frame that can be used.
        new: frames that the network that judges was not trained on.
        compared: some of the others, that folds are brought to its scale by.
        folds: those whose networks are there and needed.
        numbers: the fold of each frame that has one.
    """

    hashes: Mapping[Path, str]
    new: Sequence[Path]
    compared: Sequence[Path]
    folds: Sequence[FoldRecord]
    numbers: Mapping[Path, int]


_Row = tuple[FrameScore, dict[int, dict[str, float]]]
"""What a frame scores, and by region area what its parts do."""
_Score = Callable[[Detector, Sequence[Path], ProbeCollector | None], dict[Path, _Row]]


def judge_good_frames(
    folder: Path, recipe: Recipe, good_dir: Path, areas: Sequence[int], device: str, advance: Advance
) -> Judged:
    """Judge good frames, by the recipe's network or, where it was trained on one, by that of the frame's fold.

    Args:
        folder: the recipe's.
        recipe: how to judge; its threshold is not looked at.
        good_dir: good frames, or one.
        areas: minimum region areas to score at.
        device: as for `choose_device`.
        advance: told frames done and frames in all, for each network anew.

    Raises:
        RecipeError, TrainingError: the recipe or the frames cannot be used.
    """
    paths = list_images(good_dir)
    plan = _plan(folder, paths)
    model = load_model(folder, recipe)
    if recipe.precision == "int8" and recipe.quantised is None:
        recipe = adopt_quantised(recipe, model, paths, folder)  # those that training saw may serve here

    def load(candidate: Recipe) -> Detector:
        unset = candidate.model_copy(update={"threshold": None})  # the thresholds of before must not weigh maps
        return open_detector(folder, device=choose_device(device), recipe=unset, proved=False)

    def score(detector: Detector, paths: Sequence[Path], collector: ProbeCollector | None) -> dict[Path, _Row]:
        frames, parts = score_parts(detector, paths, areas, advance, collector)
        return {
            path: (frame, {area: {name: float(values[row]) for name, values in parts[area].items()} for area in areas})
            for row, (path, frame) in enumerate(frames.items())
        }

    recipe, detector, rows, probe = score_proved(
        recipe, model, load, lambda judge, collector: score(judge, [*plan.new, *plan.compared], collector)
    )
    recipe = adopt_probe(recipe, probe, folder)
    by_folds, gains = _score_by_folds(folder, recipe, plan, rows, device, score) if plan.folds else ({}, [])
    new = {path: rows[path] for path in plan.new if path in rows}
    root = good_dir if good_dir.is_dir() else good_dir.parent
    records = {
        area: ScoreRecord(
            min_region_area=area,
            frames=_describe(root, plan, new | by_folds, area),
            cross_validated=_describe_folds(plan.folds, gains, by_folds, new) if gains else None,
            checked=[parts[area] for _, parts in new.values()] if gains else [],
        )
        for area in areas
    }
    return Judged(recipe, detector, records, list(new))


def _plan(folder: Path, paths: Sequence[Path]) -> _Plan:
    training = load_record(folder) or TrainingRecord()
    folds = training.folds if has_folds(folder) else []
    by_hash = {sha256: number for number, fold in enumerate(folds) for sha256 in fold.frames.values()}
    hashes = choose_frames(folder, paths, by_hash)
    trained = set(training.frames.values())
    learned = [path for path, sha256 in hashes.items() if sha256 in trained]
    new = [path for path, sha256 in hashes.items() if sha256 not in trained]
    if not learned:  # one network does
        return _Plan(hashes, new, (), (), {})
    numbers = {path: by_hash[sha256] for path, sha256 in hashes.items() if sha256 in by_hash}
    return _Plan(hashes, new, choose_compared(learned), folds, numbers)


def _score_by_folds(
    folder: Path, recipe: Recipe, plan: _Plan, rows: Mapping[Path, _Row], device: str, score: _Score
) -> tuple[dict[Path, _Row], list[float]]:
    """Each frame's scores by the network of its fold, on the scale of the one that judges; the folds' gains."""
    seen: list[dict[Path, float]] = []
    found: list[dict[Path, _Row]] = []
    for number, model in enumerate(load_folds(folder, recipe, plan.folds)):
        detector = _build_detector(folder, recipe, model, device)
        own = [path for path in plan.numbers if plan.numbers[path] == number]
        scored = score(detector, [*own, *(path for path in plan.compared if plan.numbers[path] != number)], None)
        found.append({path: scored.pop(path) for path in own if path in scored})
        seen.append({path: frame.score for path, (frame, _) in scored.items()})
    judged = {path: frame.score for path, (frame, _) in rows.items()}
    gains = compute_gains(seen, judged, set(plan.compared))
    return {
        path: _scale(row, gain) for part, gain in zip(found, gains, strict=True) for path, row in part.items()
    }, gains


def _scale(row: _Row, gain: float) -> _Row:
    frame, areas = row
    return frame.scale(gain), {
        area: {name: value * gain for name, value in parts.items()} for area, parts in areas.items()
    }


def _build_detector(folder: Path, recipe: Recipe, model: ReverseDistillation, device: str) -> Detector:
    """What judges by a fold's network, as in training: not quantised, its engine kept nowhere."""
    precision: PrecisionChoice = "auto" if recipe.precision == "int8" else recipe.precision
    recipe = recipe.model_copy(
        update={"threshold": None, "precision": precision, "quantised": None, "quantised_sha256": {}}
    )
    engine = build_engine(recipe, lambda: model, device=choose_device(device), proved=False)
    roi = load_roi(folder, recipe)
    fixture = load_fixture(folder, recipe, roi)
    return Detector(recipe, engine, roi=roi, zones=load_zones(folder, recipe), fixture=fixture)


def _describe(root: Path, plan: _Plan, rows: Mapping[Path, _Row], area: int) -> list[GoodFrame]:
    return [
        GoodFrame(
            path=path.relative_to(root).as_posix(),
            sha256=sha256,
            scores=rows[path][1][area],
            peaks=list(rows[path][0].peaks),
            xy=rows[path][0].xy,
            fold=plan.numbers.get(path),
        )
        for path, sha256 in plan.hashes.items()
        if path in rows
    ]


def _describe_folds(
    folds: Sequence[FoldRecord], gains: Sequence[float], by_folds: Mapping[Path, _Row], new: Mapping[Path, _Row]
) -> CrossValidation:
    unseen, checked = ({path: frame.score for path, (frame, _) in rows.items()} for rows in (by_folds, new))
    return describe_folds([fold.steps for fold in folds], gains, unseen, checked)
