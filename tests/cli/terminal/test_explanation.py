"""`inspector inspect --explain`: what a file is, and what the network sees of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.cli.terminal.explanation import explain_file
from inspector.config import Preprocessing


def explain(path: Path, pixels: Any, **preprocessing: Any) -> dict[str, str]:
    cv2.imwrite(str(path), pixels)
    return explain_file(path, Preprocessing.model_validate(preprocessing))


def test_explanation_names_file_assumptions_values_and_what_the_network_sees(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 4), 255, np.uint8)
    pixels[..., :3] = (10, 20, 30)
    assert explain(tmp_path / "a.png", pixels, scale=0.5) == {
        "file": "PNG, 8 bits, colours and alpha",
        "assumed": "orientation ignored, pixels as stored; alpha: opaque, ignored",
        "frame": "40 × 60 RGB8, values 10 to 30",
        "network": "20 × 30, channels red, green, blue, values 10 to 30 of 0 to 255; then divided by 255, "
        "(0.485, 0.456, 0.406) subtracted, divided by (0.229, 0.224, 0.225)",
    }


def test_explanation_names_the_range_of_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.linspace(0, 4095, 40 * 60).reshape(40, 60).astype(np.uint16)
    texts = explain(tmp_path / "a.png", pixels, pixel_format="Mono16", mono16_range=[0, 4095])
    assert texts["file"] == "PNG, 16 bits, grey"
    assert texts["frame"] == "40 × 60 Mono16, values 0 to 4095"
    assert texts["network"].startswith(
        "40 × 60, channels grey repeated three times, values 0 to 255 of 0 to 255 (0 to 4095 of the frame)"
    )


def test_explanation_says_why_when_a_file_is_refused(tmp_path: Path) -> None:
    texts = explain(tmp_path / "a.png", np.zeros((40, 60), np.uint8))
    assert texts["file"] == "PNG, 8 bits, grey"
    assert texts["refused"] == "pixel_format: the recipe expects RGB8, got Mono8"
    (tmp_path / "a.png").write_bytes(b"GIF89a")
    assert explain_file(tmp_path / "a.png", Preprocessing()) == {
        "refused": "image: must be JPEG, PNG, TIFF, WebP, BMP or PNM, got GIF"
    }
