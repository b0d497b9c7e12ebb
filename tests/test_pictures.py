"""The docs' pictures are made of what the demo leaves."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "make_pictures.py"
GREY, RED = (90, 90, 90), (40, 40, 220)


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def leave(demo: Path, number: int, frame_id: str, verdict: str) -> None:
    """What the demo leaves of a frame: evidence with its result, and an overlay where it failed."""
    evidence = demo / "state/demo/evidence/top/2026-01-31"
    for folder in (evidence, demo / "overlays"):
        folder.mkdir(parents=True, exist_ok=True)
    stem = f"{number:06}-{verdict}-{frame_id}"
    cv2.imwrite(str(evidence / f"{stem}.png"), np.full((840, 1000, 3), GREY, np.uint8))
    (evidence / f"{stem}.json").write_text(json.dumps({"frame_id": frame_id, "verdict": verdict}))
    if verdict == "FAIL":
        cv2.imwrite(str(demo / "overlays" / f"{frame_id}.jpg"), np.full((420, 500, 3), RED, np.uint8))


def test_overlay_is_the_first_frame_that_failed_beside_what_was_published(
    script: dict[str, Any], tmp_path: Path
) -> None:
    leave(tmp_path, 1, "ok", "PASS")
    leave(tmp_path, 2, "scratch", "FAIL")
    picture = script["make_overlay"](tmp_path)
    assert picture.shape == (420, 500 + 8 + 500, 3)
    assert picture[200, 250].tolist() == list(GREY)
    assert picture[200, 504].tolist() == [255, 255, 255]
    assert np.abs(picture[200, 800].astype(int) - RED).max() < 8  # JPEG


def test_demo_without_a_frame_that_failed_is_refused(script: dict[str, Any], tmp_path: Path) -> None:
    leave(tmp_path, 1, "ok", "PASS")
    with pytest.raises(SystemExit, match="no frame that failed"):
        script["make_overlay"](tmp_path)
