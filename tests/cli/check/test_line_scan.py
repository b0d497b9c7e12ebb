"""What `inspector check` finds of cameras that scan lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inspector.cli.check import line_scan
from inspector.cli.check.line_scan import check_line_scans
from inspector.config import Station

LINES = {"frame_lines": 128, "overlap_lines": 32}


def make_station(**camera: Any) -> Station:
    return Station.model_validate({"schema": 1, "station": "foil", "cameras": {"top": camera, "other": {}}})


@pytest.fixture
def recipe_hw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_scan, "_read_frame_hw", lambda recipe: (128, 160))


def test_frames_that_the_recipe_expects_are_well(recipe_hw: None) -> None:
    (finding,) = check_line_scans(make_station(recipe="foil", line_scan=LINES))
    assert (finding.what, finding.result) == ("cameras.top.line_scan", "ok")
    assert finding.detail == "frames of 128 lines, the last 32 of which are in the next one too"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"line_scan": LINES | {"frame_lines": 256}}, "256 lines of any number of pixels"),
        ({"line_scan": LINES, "source": {"type": "gige", "width": 320}}, "128 lines of 320 pixels"),
    ],
)
def test_frames_of_another_size_than_the_recipe_s_are_a_fault_that_says_the_size(
    recipe_hw: None, changes: dict[str, Any], found: str
) -> None:
    (finding,) = check_line_scans(make_station(recipe="foil", **changes))
    assert finding.result == "FAIL"
    assert found in str(finding.problem)
    assert "the recipe's are 128 × 160" in str(finding.problem)
    assert "frame_lines: 128" in finding.fix


def test_frames_that_do_not_overlap_are_a_warning(tmp_path: Path) -> None:
    (finding,) = check_line_scans(make_station(recipe=str(tmp_path), line_scan=LINES | {"overlap_lines": 0}))
    assert (finding.what, finding.result) == ("cameras.top.line_scan.overlap_lines", "WARN")
