"""What a recipe says of the defects it misses: the model refuses what cannot be, its sentences say what it holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inspector.config.qualification import DetectionCurve, Qualification, describe_qualification

CURVE: dict[str, Any] = {
    "n": 120,
    "caught": 70,
    "size_px": {"low": 1.0, "high": 31.7},
    "contrast": {"low": 5.0, "high": 119.0},
    "coefficients": [-14.0, 2.5, 3.0],
    "covariance": [[0.01, 0.0, 0.0], [0.0, 0.01, 0.0], [0.0, 0.0, 0.0025]],
    "a90_95": [{"contrast": 15.0, "size_px": None}, {"contrast": 60.0, "size_px": 7.94}],
}


def qualification_of(**kinds: Any) -> Qualification:
    return Qualification.model_validate({"threshold": 1.5, "n_frames": 8, "kinds": kinds})


def test_curve_is_the_logistic_of_log_size_and_log_contrast() -> None:
    curve = DetectionCurve.model_validate(CURVE)
    predictor = -14 + 2.5 * math.log(3) + 3 * math.log(30)
    assert curve.compute_probability(3, 30) == pytest.approx(1 / (1 + math.exp(-predictor)))
    error = math.sqrt(0.01 + 0.01 * math.log(3) ** 2 + 0.0025 * math.log(30) ** 2)
    assert curve.compute_lower_bound(3, 30) == pytest.approx(1 / (1 + math.exp(1.644854 * error - predictor)), rel=1e-5)
    assert curve.compute_lower_bound(3, 30, 0.5) == pytest.approx(curve.compute_probability(3, 30))
    steep = curve.model_copy(update={"coefficients": (-5000.0, 1.0, 1.0)})
    assert steep.compute_probability(3, 30) == 0


def test_summary_says_what_is_caught_and_from_which_size_on() -> None:
    assert describe_qualification(qualification_of(line=CURVE, dent=CURVE)) == [
        "a line 3 px wide of 30 grey levels is caught 26 % of the time (at least 19 %, at 95 % confidence)",
        "a90/95 of lines: 60 grey levels from 7.9 px on; 15 grey levels at no tested size (1 to 32 px)",
        "a dent 3 px across of 30 grey levels is caught 26 % of the time (at least 19 %, at 95 % confidence)",
        "a90/95 of dents: 60 grey levels from 7.9 px on; 15 grey levels at no tested size (1 to 32 px)",
    ]


def test_summary_says_that_nothing_can_be_stated_when_the_fit_does_not_rise() -> None:
    assert describe_qualification(qualification_of(spot=CURVE | {"rises": False})) == [
        "spots: 70 of 120 caught, but larger and stronger ones are not caught more often: no size can be stated"
    ]


def test_example_stays_within_what_was_tried() -> None:
    lines = describe_qualification(qualification_of(spot=CURVE | {"size_px": {"low": 1.0, "high": 2.5}}))
    assert lines[0].startswith("a spot 2.5 px across of 30 grey levels")


def test_qualification_survives_yaml() -> None:
    qualification = qualification_of(line=CURVE, spot=CURVE)
    text = yaml.safe_dump(qualification.model_dump(mode="json"))
    assert Qualification.model_validate(yaml.safe_load(text)) == qualification


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caught": 121}, r"caught must be at most n \(120\), got 121"),
        ({"covariance": [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}, "must not have a variance below 0"),
        ({"size_px": {"low": 5.0, "high": 1.0}}, r"high must be at least low \(5.0\), got 1.0"),
        ({"coefficients": [math.inf, 1.0, 1.0]}, "finite"),
        ({"coefficients": [1.0, 1.0]}, "coefficients"),
        ({"n": 0, "caught": 0}, "greater than or equal to 1"),
        ({"sort": "line"}, "Extra inputs"),
    ],
)
def test_curve_is_refused_when_it_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DetectionCurve.model_validate(CURVE | change)


def test_kinds_are_those_known_and_at_least_one() -> None:
    with pytest.raises(ValidationError, match="'line', 'spot' or 'dent'"):
        qualification_of(crack=CURVE)
    with pytest.raises(ValidationError, match="at least 1"):
        qualification_of()
