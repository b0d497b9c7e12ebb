"""The docs' pictures are made of what the demo leaves."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

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


def test_white_edge_is_cut_off_but_for_a_margin(script: dict[str, Any]) -> None:
    image = Image.new("RGB", (200, 100), "white")
    image.paste((10, 20, 30), (50, 40, 60, 55))
    cut = script["trim"](image, margin=8)
    assert cut.size == (10 + 16, 15 + 16)
    assert cut.getpixel((8, 8)) == (10, 20, 30)
    assert script["trim"](Image.new("RGB", (20, 10), "white")).size == (20, 10)


def test_terminal_is_drawn_with_its_colours(script: dict[str, Any]) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    plain = script["draw_terminal"]("inspector tail", "PASS\n")
    red = script["draw_terminal"]("inspector tail", "PASS\n\x1b[31mFAIL\x1b[0m\n")
    assert red.width == plain.width
    assert 10 <= red.height - plain.height <= 24

    def is_red(image: Image.Image) -> bool:
        pixels = np.asarray(image).astype(int)
        return bool((pixels[..., 0] - pixels[..., 1] > 100).any())

    assert (is_red(plain), is_red(red)) == (False, True)


def test_pictures_of_pages_are_refused_without_a_browser(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"chromium: needed to draw .* \(apt-get install chromium\)"):
        script["draw_page"](tmp_path / "page.html", (100, 100))


def test_picture_is_saved_with_few_colours(script: dict[str, Any], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    script["save"](Image.fromarray(noise), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == "P"
        assert len(saved.getcolors() or ()) <= script["COLOURS"]
