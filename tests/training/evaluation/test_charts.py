"""Charts: what is drawn where, and that they fit any page."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from inspector.config.qualification import DefectKind, DetectionCurve, Qualification
from inspector.training.data.record import HistoryPoint
from inspector.training.evaluation.charts import (
    GOOD_COLOUR,
    KIND_COLOURS,
    OTHER_COLOUR,
    colour_kinds,
    draw_detection,
    draw_histogram,
    draw_roc,
    draw_training,
)

KINDS = ["good"] * 6 + ["dent"] * 3 + ["hole"] * 2


def _texts(svg: str) -> set[str]:
    return {"".join(node.itertext()) for node in ET.fromstring(svg).iter() if node.tag.endswith("text")}  # noqa: S314


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.4, 1.6, 1.8, 2.0, 2.2],
        [0.01, 0.02, 0.1, 0.1, 0.2, 0.3, 1.0, 5.0, 8.0, 90.0, 100.0],  # logarithmic
        [-1.0, 0.0, 0.1, 0.1, 0.2, 0.3, 1.0, 5.0, 8.0, 90.0, 100.0],  # cannot be
        [1.5] * 11,
    ],
    ids=["near", "wide", "negative", "all the same"],
)
@pytest.mark.parametrize("draw", [draw_roc, draw_histogram])
def test_chart_is_drawn_in_the_pages_ink_whatever_the_scores(draw: object, scores: list[float]) -> None:
    svg = draw(KINDS, scores, 1.5)  # type: ignore[operator]
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "#000000" not in svg.replace("currentColor", "")
    assert "threshold" in " ".join(_texts(svg))


def test_histogram_is_logarithmic_only_when_scores_range_wide() -> None:
    assert "score" in _texts(draw_histogram(["good", "dent"], [1.0, 2.0], 1.5))
    assert "score (logarithmic)" in _texts(draw_histogram(["good", "dent"], [1.0, 200.0], 1.5))


def test_histogram_uses_the_colours_of_the_legend() -> None:
    svg = draw_histogram(KINDS, [float(n) for n in range(1, 12)], 6.5)
    assert all(colour in svg for colour in colour_kinds(KINDS).values())
    assert colour_kinds(KINDS) == {"good": GOOD_COLOUR, "dent": KIND_COLOURS[0], "hole": KIND_COLOURS[1]}


def test_kinds_past_the_palette_share_a_colour() -> None:
    colours = colour_kinds(["good", *(f"kind {number:02}" for number in range(11))])
    assert len(colours) == 12
    assert [colours[f"kind {number:02}"] for number in (7, 8, 10)] == [KIND_COLOURS[7], OTHER_COLOUR, OTHER_COLOUR]


def test_training_curve_shows_what_is_known() -> None:
    bare = [HistoryPoint(tiles_seen=16 * n, loss=1 / n) for n in (1, 2, 3)]
    assert not {"validation", "learning rate"} & _texts(draw_training(bare))
    full = [point.model_copy(update={"validation_loss": 1.0, "learning_rate": 0.005}) for point in bare]
    assert {"training", "validation", "learning rate", "tiles seen"} <= _texts(draw_training(full))


def qualification_of(**kinds: bool) -> Qualification:
    curves = {
        DefectKind(kind): DetectionCurve.model_validate(
            {
                "n": 120,
                "caught": 70,
                "size_px": {"low": 1.0, "high": 32.0},
                "contrast": {"low": 5.0, "high": 120.0},
                "coefficients": (-14.0, 2.5, 3.0),
                "covariance": ((4.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.2)),
                "rises": rises,
                "a90_95": [{"contrast": contrast, "size_px": None} for contrast in (15.0, 120.0)],
            }
        )
        for kind, rises in kinds.items()
    }
    return Qualification(threshold=1.0, n_frames=8, kinds=curves)


def test_detection_is_drawn_for_each_kind_and_contrast_in_the_pages_ink() -> None:
    svg = draw_detection(qualification_of(line=True, spot=True))
    wanted = {"lines, 70 of 120 caught", "spots, 70 of 120 caught", "15 grey levels", "120 grey levels"}
    assert wanted <= _texts(svg)
    assert {"width (sensor px)", "diameter (sensor px)", "caught", "20"} <= _texts(svg)
    assert "currentColor" in svg
    assert "#000000" not in svg


def test_detection_that_does_not_rise_says_so_and_shows_no_curve() -> None:
    svg = draw_detection(qualification_of(dent=False))
    assert "are not caught more often" in " ".join(_texts(svg))
    assert "15 grey levels" not in _texts(svg)
