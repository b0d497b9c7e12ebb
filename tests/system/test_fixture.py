"""A real station whose recipe has a fixture: a moved part is judged, another one or one beyond limits never passes."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from inspector.config import FixtureReference, dump_recipe, load_recipe
from inspector.detection.fixture import reduce_grey
from inspector.testing.moving_part import FRAME_HW, add_noise, draw_mask, draw_part, move
from inspector.testing.station_process import StartStation, base_config, next_result, send_frame, write_recipe
from inspector.training.adopting import adopt_roi


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that lets every frame pass by its score."""
    folder = write_recipe(tmp_path_factory.mktemp("recipes") / "following", threshold=1e6, frame_hw=FRAME_HW)
    cv2.imwrite(str(folder / "mask.png"), draw_mask())
    recipe = adopt_roi(load_recipe(folder), folder / "mask.png", folder)
    picture = cv2.imencode(".png", reduce_grey(draw_part()))[1].tobytes()
    (folder / "fixture.png").write_bytes(picture)
    sha256 = hashlib.sha256(picture).hexdigest()
    fixture = FixtureReference(
        min_score=0.8, max_angle_deg=12, reference="fixture.png", reference_sha256=sha256, n_good=9, lowest_score=0.9
    )
    recipe = recipe.model_copy(update={"fixture": fixture})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


def test_moved_part_is_judged_and_another_part_or_one_beyond_limits_is_an_error(
    start: StartStation, following: Path
) -> None:
    station = start(config=base_config(following))
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    time.sleep(0.3)
    frames = {
        "still": draw_part(noise=1),
        "moved": move(draw_part(noise=2), 20, -12, 6),
        "another part": draw_part(holes=5, noise=3),
        "turned too far": move(draw_part(noise=4), angle_deg=20),
        "out of the frame": move(draw_part(noise=5), dx_px=100),
        "no part": add_noise(np.full((*FRAME_HW, 3), 70, np.uint8), 6),
        "last": draw_part(noise=7),
    }
    for name, frame in frames.items():
        send_frame(push, frame, name)
    got = {result["frame_id"]: result for result in (next_result(results) for _ in frames)}
    judged, refused = ("PASS", "OK", 0), ("ERROR", "NOT_LOCATED", 17)
    assert {name: (result["verdict"], result["reason"], result["reason_code"]) for name, result in got.items()} == {
        "still": judged,
        "moved": judged,
        "another part": refused,
        "turned too far": refused,
        "out of the frame": refused,
        "no part": refused,
        "last": judged,
    }
    pose = got["moved"]["pose"]
    assert (pose["dx_px"], pose["dy_px"], pose["angle_deg"]) == pytest.approx((20, -12, 6), abs=0.5)
    assert pose["score"] > 0.9
    assert got["another part"]["pose"] is None
    assert got["another part"]["score"] is None
    assert "pose: score must be at least 0.8" in got["another part"]["message"]
    assert station.metric("inspector_results_total", camera="top", reason="NOT_LOCATED") == 4
    assert station.stop() == 0
