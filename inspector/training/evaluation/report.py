"""The evaluation as one HTML file that needs nothing else: to read, to print, to keep with the recipe."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

import inspector
from inspector.codec import Pixels
from inspector.config import RECIPE_FILE, Recipe, describe_qualification
from inspector.detection.detector import Detector
from inspector.detection.run import Judgement
from inspector.files import compute_sha256, write_whole
from inspector.training.data.datasets import read_image
from inspector.training.data.record import load_record
from inspector.training.evaluation.charts import (
    colour_kinds,
    draw_detection,
    draw_histogram,
    draw_roc,
    draw_trade_off,
    draw_training,
)
from inspector.training.evaluation.evaluate import Evaluation
from inspector.training.evaluation.ground_truth import read_mask
from inspector.training.evaluation.image_metrics import GOOD
from inspector.training.evaluation.samples import Sample
from inspector.training.thresholds.score_record import SCORES_FILE, load_scores
from inspector.training.thresholds.trade_off import TradeOff, compute_trade_off
from inspector.types import PixelFormat, Verdict

Array = np.ndarray[Any, Any]
DrawOverlay = Callable[[Pixels, PixelFormat, Judgement], Array]
"""Frame and judgement → picture (H, W, 3) uint8 BGR."""

MOST_PICTURES = 8
_WIDTH = 640
"""Pictures are no wider, in pixels: the file stays a few megabytes."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """One frame to look at; pictures are data URIs.

    Attributes:
        crop: the original around its defect, or around the peak of its map where that is not known.
        crop_xyxy: where the crop was taken, in the frame's pixels.
    """

    name: str
    kind: str
    score: float
    verdict: str
    right: bool
    overlay: str
    mask: str | None
    crop: str
    crop_xyxy: tuple[int, int, int, int]


def write_report(path: Path, evaluation: Evaluation, folder: Path, detector: Detector, draw: DrawOverlay) -> None:
    """Write the report: whole, or not at all.

    Args:
        path: the HTML file.
        evaluation, folder: what was measured, and the recipe it was measured on.
        detector: of that recipe; judges the frames that are shown once more, for their maps.
        draw: draws them.

    Raises:
        InspectorError: the file cannot be written, or a frame no longer be judged.
    """
    escapes, rejects = select_escapes(evaluation.samples), select_false_rejects(evaluation.samples)
    record = load_record(folder)
    qualification = evaluation.recipe.qualification
    trade_off = _find_trade_off(folder, evaluation.recipe)
    kinds = [sample.kind for sample in evaluation.samples if sample.is_scored]
    scores = [sample.score for sample in evaluation.samples if sample.is_scored]
    page = _build_template().render(
        recipe=evaluation.recipe,
        facts=list(flatten(_state_once(evaluation.recipe))),
        recipe_sha256=compute_sha256(folder / RECIPE_FILE),
        dataset=evaluation.dataset_dir.resolve().name,
        date=datetime.datetime.now(datetime.UTC),
        version=inspector.__version__,
        metrics=evaluation.metrics,
        threshold=evaluation.threshold,
        bound=describe_bound(evaluation.recipe),
        colours=colour_kinds(kinds),
        roc=Markup(draw_roc(kinds, scores, evaluation.threshold)),  # noqa: S704 (no text from outside)
        histogram=Markup(draw_histogram(kinds, scores, evaluation.threshold)),  # noqa: S704
        trade_off=trade_off,
        trade_off_chart=Markup(draw_trade_off(trade_off)) if trade_off else None,  # noqa: S704
        qualified=describe_qualification(qualification) if qualification else [],
        detection=Markup(draw_detection(qualification)) if qualification else None,  # noqa: S704
        training=Markup(draw_training(record.history)) if record and record.history else None,  # noqa: S704
        escaped=any(sample.verdict is Verdict.PASS for sample in escapes),
        escapes=[_picture(evaluation, sample, detector, draw) for sample in escapes],
        rejected=any(sample.verdict is Verdict.FAIL for sample in rejects),
        rejects=[_picture(evaluation, sample, detector, draw) for sample in rejects],
    )
    write_whole(path, page.encode("utf-8", "replace"))  # odd file names may hold what UTF-8 has not


def _state_once(recipe: Recipe) -> dict[str, Any]:
    """Without what the threshold was set with: the settings themselves, or the recipe would not have loaded.

    Nor what artificial defects showed, which is drawn.
    """
    return recipe.model_dump(mode="json", by_alias=True, exclude={"threshold": {"set_with"}, "qualification": True})


def _find_trade_off(folder: Path, recipe: Recipe) -> list[TradeOff]:
    """What other thresholds would cost, where that is known: each zone has one of its own."""
    if recipe.threshold is None or recipe.zones or not (folder / SCORES_FILE).is_file():
        return []
    return compute_trade_off(load_scores(folder), recipe.threshold.value)


def select_escapes(samples: Sequence[Sample]) -> list[Sample]:
    """Defective frames that pass, lowest score first; where there are none, the four nearest to the threshold."""
    defective = sorted(
        (sample for sample in samples if sample.kind != GOOD and sample.is_scored), key=lambda sample: sample.score
    )
    return [sample for sample in defective if sample.verdict is Verdict.PASS][:MOST_PICTURES] or defective[:4]


def select_false_rejects(samples: Sequence[Sample]) -> list[Sample]:
    """Good frames that fail, highest score first; where there are none, the four nearest to the threshold."""
    good = sorted(
        (sample for sample in samples if sample.kind == GOOD and sample.is_scored), key=lambda sample: -sample.score
    )
    return [sample for sample in good if sample.verdict is Verdict.FAIL][:MOST_PICTURES] or good[:4]


def describe_bound(recipe: Recipe) -> str:
    """What the recipe promises about false rejects, in words."""
    threshold = recipe.threshold
    if threshold is None or threshold.false_reject_bound is None or threshold.set_by == "hand":
        return "The threshold was set manually: the recipe states no bound on false rejects."
    seen = f"{threshold.n_good} good frames not used in training"
    if threshold.cross_validated is not None:
        seen = f"{threshold.n_good} good frames, each scored by a network not trained on it"
    how = {
        "order_statistic": f"on {seen}, as an order statistic of their scores",
        "near_highest": f"on {seen}, near the highest plausible score",
        "generalised_pareto": f"on {seen}, with a generalised Pareto distribution fitted to their highest scores",
        "gumbel": f"on {seen}, with a Gumbel distribution fitted to their scores",
        "defects": f"on defective frames, and checked on {seen}",
    }
    return (
        f"The threshold was set {how.get(threshold.method, f'manually, and checked on {seen}')}. These frames alone "
        f"support this bound: at most {format_percent(threshold.false_reject_bound)} of good parts are "
        "rejected, at 95 % "
        "confidence."
    )


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested keys as `outer.inner` and their values as text."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{key}", "–" if value is None or text in {"", "{}"} else text


def format_percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _build_template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = format_percent
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.4f}"
    return environment.from_string(
        resources.files("inspector.training.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    )


def _picture(evaluation: Evaluation, sample: Sample, detector: Detector, draw: DrawOverlay) -> Pictures:
    pixels, pixel_format = read_image(sample.path)
    judgement = detector.judge(pixels, pixel_format, any_frame=True)
    mask = None if sample.mask_path is None else read_mask(sample.mask_path, sample.frame_hw)
    xyxy = _choose_crop(mask, judgement.anomaly_map, sample.frame_hw)
    left, top, right, bottom = xyxy
    return Pictures(
        name=evaluation.name(sample.path),
        kind=sample.kind,
        score=sample.score,
        verdict=sample.verdict.value,
        right=(sample.kind == GOOD) is (sample.verdict is Verdict.PASS),
        overlay=_encode(draw(pixels, pixel_format, judgement), ".jpg"),
        mask=None if mask is None else _encode(_draw_mask(mask, xyxy), ".png"),
        crop=_encode(_to_bgr(pixels)[top:bottom, left:right], ".jpg"),
        crop_xyxy=xyxy,
    )


def _choose_crop(mask: Array | None, anomaly_map: Array, frame_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box about all defects, or about the map's peak: left, top, right, bottom in frame pixels."""
    height, width = frame_hw
    if mask is not None and mask.any():
        x, y, box_width, box_height = cv2.boundingRect(mask)
        centre, extents = (x + box_width / 2, y + box_height / 2), (box_width, box_height)
    else:
        row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
        centre = (float(column * width / anomaly_map.shape[1]), float(row * height / anomaly_map.shape[0]))
        extents = (0, 0)
    least = max(96.0, min(frame_hw) / 6, max(extents) / 2)  # no narrow strips
    left, right = _span(centre[0], max(least, 1.5 * extents[0]), width)
    top, bottom = _span(centre[1], max(least, 1.5 * extents[1]), height)
    return left, top, right, bottom


def _span(centre: float, length: float, whole: int) -> tuple[int, int]:
    """Start and end of a piece of a side, moved inward at the edges."""
    size = min(round(length), whole)
    start = min(max(0, round(centre - size / 2)), whole - size)
    return start, start + size


def _draw_mask(mask: Array, xyxy: tuple[int, int, int, int]) -> Array:
    """Defects white, the crop outlined."""
    picture = np.asarray(cv2.cvtColor(mask * 255, cv2.COLOR_GRAY2BGR))
    left, top, right, bottom = xyxy
    thickness = max(1, mask.shape[1] // 320)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), (58, 133, 232), thickness)
    return picture


def _to_bgr(pixels: Pixels) -> Array:
    if pixels.dtype == np.uint16:
        pixels = cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR))


def _encode(picture: Array, suffix: str) -> str:
    """Picture (H, W, 3) uint8 BGR → data URI, shrunk where it is wider than `_WIDTH`."""
    height, width = picture.shape[:2]
    if width > _WIDTH:
        size = _WIDTH, max(1, round(height * _WIDTH / width))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    data = cv2.imencode(suffix, picture)[1].tobytes()
    return f"data:image/{suffix.strip('.').replace('jpg', 'jpeg')};base64,{base64.b64encode(data).decode()}"
