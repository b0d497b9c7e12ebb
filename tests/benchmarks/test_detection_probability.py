"""Real defects are measured as artificial ones are defined."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.config.qualification import DefectKind, DetectionCurve, Qualification

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "detection_probability.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("detection_probability_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their types
    spec.loader.exec_module(module)
    return module


def draw(shape: str) -> Any:
    mask = np.zeros((100, 120), dtype=np.uint8)
    if shape == "disc":
        cv2.circle(mask, (60, 50), 8, 1, -1)
    else:
        mask[48:53, 20:100] = 1
    return mask


@pytest.mark.parametrize(("shape", "size", "kind"), [("disc", 17, DefectKind.SPOT), ("bar", 5, DefectKind.LINE)])
def test_region_has_its_width_contrast_area_and_kind(script: Any, shape: str, size: float, kind: DefectKind) -> None:
    mask = draw(shape)
    grey = np.where(mask > 0, 70, 100).astype(np.float32)
    [region] = script.find_regions(mask)
    found = script.measure_shape(grey, mask, region)
    assert found.size_px == pytest.approx(size, abs=2)
    assert (found.contrast, found.area, found.kind) == (30, int(mask.sum()), kind)


def test_regions_are_told_apart_and_slips_of_the_pen_left_out(script: Any) -> None:
    mask = draw("disc")
    mask[5:8, 5:8] = 1
    mask[90, 90] = 1
    regions = script.find_regions(mask)
    assert (regions[0].top, regions[0].left, int(regions[0].mask.sum())) == (5, 5, 9)
    assert len(regions) == 2


def test_prediction_is_its_kinds_and_that_of_the_largest_tried_beyond(script: Any) -> None:
    curve = DetectionCurve.model_validate(
        {
            "n": 10,
            "caught": 5,
            "size_px": {"low": 1.0, "high": 32.0},
            "contrast": {"low": 5.0, "high": 120.0},
            "coefficients": (-14.0, 2.5, 3.0),
            "covariance": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        }
    )
    never = curve.model_copy(update={"coefficients": (-100.0, 0.0, 0.0)})
    qualification = Qualification(threshold=1.0, n_frames=1, kinds={DefectKind.LINE: never, DefectKind.SPOT: curve})

    def predict(kind: DefectKind, size: float, contrast: float) -> float:
        return float(script.predict(qualification, script.Shape(kind, size, contrast, 100)))

    assert predict(DefectKind.SPOT, 3.0, 30.0) == pytest.approx(curve.compute_probability(3.0, 30.0))
    assert predict(DefectKind.SPOT, 300.0, 20.0) == pytest.approx(curve.compute_probability(32.0, 20.0))
    assert predict(DefectKind.LINE, 3.0, 30.0) == pytest.approx(0)
    assert predict(DefectKind.SPOT, 3.0, 0.0) == pytest.approx(curve.compute_probability(3.0, 1.0))
