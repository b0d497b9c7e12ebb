"""Pictures of the docs from what `make demo` left: `make pictures`.

    python docs/make_pictures.py demo-output docs/images

overlay.jpg: the first defective frame, as the evidence keeps it, beside the overlay that the station published for it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT = 420
GAP = 8
QUALITY = 85


def make_overlay(demo: Path) -> np.ndarray[Any, Any]:
    """Frame and overlay side by side, (HEIGHT, W, 3) uint8 BGR.

    Raises:
        SystemExit: the demo left no frame that failed.
    """
    for result in sorted(demo.glob("state/*/evidence/*/*/*.json"), key=lambda path: path.name):
        described = json.loads(result.read_text(encoding="utf-8"))
        overlay = demo / "overlays" / f"{described['frame_id']}.jpg"
        if described["verdict"] == "FAIL" and overlay.exists():
            pictures = [cv2.imread(str(path)) for path in (result.with_suffix(".png"), overlay)]
            return _put_side_by_side([picture for picture in pictures if picture is not None])
    raise SystemExit(f"{demo}: no frame that failed, with its overlay: run make demo")


def _put_side_by_side(pictures: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    scaled = [
        cv2.resize(picture, (round(picture.shape[1] * HEIGHT / picture.shape[0]), HEIGHT), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    return np.concatenate([scaled[0], gap, *scaled[1:]], axis=1)


def main(demo: Path, images: Path) -> None:
    """Write all pictures into a folder."""
    cv2.imwrite(str(images / "overlay.jpg"), make_overlay(demo), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
