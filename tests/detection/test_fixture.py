"""The fixture: where it finds a part, what it refuses, and how what is found on the warped frame gets back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inspector.config import FixtureLimits, Preprocessing, Recipe
from inspector.detection.detector import Detector
from inspector.detection.fixture import Fixture, reduce_grey, unwarp_map, unwarp_place, unwarp_region
from inspector.detection.preprocessing import prepare, preprocess
from inspector.engine.build import build_eager
from inspector.errors import NotLocatedError, RecipeError
from inspector.recipe.network import build_model
from inspector.testing.moving_part import FRAME_HW, PART_XYXY, add_noise, draw_mask, draw_part, move
from inspector.types import PixelFormat, Pose, Region

LIMITS = FixtureLimits(min_score=0.8, max_angle_deg=15.0)
SHA = "0" * 64


def build(limits: FixtureLimits = LIMITS, reference: Any = None, roi: Any = None) -> Fixture:
    picture = reduce_grey(draw_part() if reference is None else reference)
    return Fixture(limits, picture, draw_mask() if roi is None else roi, FRAME_HW, FRAME_HW)


@pytest.mark.parametrize(
    ("dx", "dy", "angle"), [(0, 0, 0), (20, -12, 0), (-25, 14, 3), (9, 11, -10), (-16, -12, 14), (0.5, 0.25, 0)]
)
def test_pose_is_the_shift_and_angle_that_the_part_was_moved_by(dx: float, dy: float, angle: float) -> None:
    pose = build().locate(add_noise(move(draw_part(), dx, dy, angle), 3))
    assert (pose.dx_px, pose.dy_px) == pytest.approx((dx, dy), abs=0.3)
    assert pose.angle_deg == pytest.approx(angle, abs=0.3)
    assert pose.scale == pytest.approx(1, abs=0.01)
    assert 0.9 < pose.score <= 1


def test_pose_has_the_scale_when_the_part_is_nearer_to_the_camera() -> None:
    pose = build().locate(move(draw_part(), 5, 3, 2, 1.03))
    assert pose.scale == pytest.approx(1.03, abs=0.01)


def test_pose_is_in_sensor_pixels_when_frames_are_scaled_down() -> None:
    preprocessing = Preprocessing(frame_hw=FRAME_HW, scale=0.5)
    half = (FRAME_HW[0] // 2, FRAME_HW[1] // 2)
    reference = preprocess(draw_part(), PixelFormat.RGB8, preprocessing)
    fixture = Fixture(LIMITS, reduce_grey(reference.permute(1, 2, 0).numpy()), draw_mask(), FRAME_HW, half)
    _, pose = prepare(move(draw_part(), 20, -12, 5), PixelFormat.RGB8, preprocessing, fixture)
    assert pose is not None
    assert (pose.dx_px, pose.dy_px, pose.angle_deg) == pytest.approx((20, -12, 5), abs=0.6)


def test_background_that_stays_does_not_hold_the_part() -> None:
    ground = np.random.default_rng(8).integers(40, 100, (*FRAME_HW, 3), dtype=np.uint8)
    left, top, right, bottom = PART_XYXY

    def draw(dx: int, dy: int) -> Any:
        frame = ground.copy()
        frame[top + dy : bottom + dy, left + dx : right + dx] = draw_part()[top:bottom, left:right]
        return frame

    pose = build(FixtureLimits(min_score=0.6), reference=draw(0, 0), roi=draw_mask(-2)).locate(draw(18, 11))
    assert (pose.dx_px, pose.dy_px) == pytest.approx((18, 11), abs=0.3)


def test_aligned_frame_is_the_reference_again_where_the_part_is() -> None:
    fixture, frame = build(), move(draw_part(), 15, -10, 8)
    aligned = fixture.align(frame, fixture.locate(frame))
    left, top, right, bottom = PART_XYXY
    off = np.abs(aligned.astype(int) - draw_part().astype(int))[top:bottom, left:right]
    assert off.mean() < 3  # two interpolations of the noise and of the holes' edges
    assert np.abs(frame.astype(int) - draw_part().astype(int))[top:bottom, left:right].mean() > 15


@pytest.mark.parametrize(
    ("frame", "message"),
    {
        "another part": (draw_part(holes=5), "score must be at least 0.8"),
        "no part": (np.full((*FRAME_HW, 3), 70, np.uint8), "score must be at least 0.8"),
        "noise": (np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8), "score must be at least"),
        "upside down": (draw_part()[::-1, ::-1].copy(), "score must be at least|angle must be at most"),
        "turned too far": (move(draw_part(), angle_deg=18), "angle must be at most 15°, got 1[78]"),
        "too large": (move(draw_part(), scale=1.09), "scale must be within 1 ± 0.05, got 1.0"),
        "half out": (move(draw_part(), dx_px=120), "score must be at least|must lie in the frame"),
        "one edge out": (move(draw_part(), dx_px=90), "the region of interest must lie in the frame, reaches 6 px"),
    }.values(),
)  # fmt: skip
def test_frame_is_refused_when_the_part_is_not_in_it_as_a_whole_and_within_limits(frame: Any, message: str) -> None:
    with pytest.raises(NotLocatedError, match=message):
        build().locate(frame)


def test_part_at_the_very_edge_is_located_and_one_pixel_on_refused() -> None:
    roi = draw_mask(0)
    room = FRAME_HW[1] - PART_XYXY[2]
    assert build(roi=roi).locate(move(draw_part(), dx_px=room - 1)).dx_px == pytest.approx(room - 1, abs=0.3)
    with pytest.raises(NotLocatedError, match="must lie in the frame"):
        build(roi=roi).locate(move(draw_part(), dx_px=room + 2))


@pytest.mark.parametrize("level", [0, 70, 255])
def test_reference_without_texture_is_refused(level: int) -> None:
    with pytest.raises(RecipeError, match=r"must show texture in the region of interest.*got 0"):
        build(reference=np.full((*FRAME_HW, 3), level, np.uint8))


def test_reference_of_another_size_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the reference must be \(240, 320\), .* got \(100, 100\)"):
        Fixture(LIMITS, np.zeros((100, 100), np.uint8), draw_mask(), FRAME_HW, FRAME_HW)


def test_places_regions_and_map_get_back_to_where_they_were_in_the_frame() -> None:
    pose = Pose(20.0, -12.0, 90.0, 1.0, 1.0)
    middle = (160, 120)
    assert unwarp_place(middle, pose, FRAME_HW) == (180, 108)
    assert unwarp_place((170, 120), pose, FRAME_HW) == (180, 118)  # what was on the right is below after a right turn
    region = unwarp_region(Region((160, 120, 180, 130), 5.0, 200), pose, FRAME_HW)
    assert region == Region((170, 108, 180, 128), 5.0, 200)
    anomaly_map = np.zeros(FRAME_HW, np.float32)
    anomaly_map[120:130, 160:180] = 5
    rows, columns = np.nonzero(unwarp_map(anomaly_map, pose, FRAME_HW) > 2.5)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (170, 108, 180, 128)


def test_region_that_reaches_over_the_edge_is_cut_there() -> None:
    region = unwarp_region(Region((300, 200, 320, 240), 5.0, 800), Pose(10.0, 10.0, 0.0, 1.0, 1.0), FRAME_HW)
    assert region.xyxy == (310, 210, 320, 240)


# ---------------------------------------------------------------- in the detector


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.model_validate({
        "recipe_id": "moving", "backbone": "resnet18", "sigma": 2.0, "precision": "fp32",
        "preprocessing": {"frame_hw": FRAME_HW}, "tiling": {"tile_size": 64, "stride": 64},
        "threshold": {"value": 1e-6, "method": "manual"}, "weights_sha256": SHA,
        "roi_mask": "roi.png", "roi_mask_sha256": SHA,
        "fixture": {"min_score": 0.8, "reference": "fixture.png", "reference_sha256": SHA, "n_good": 9,
                    "lowest_score": 0.9},
    })  # fmt: skip


@pytest.fixture(scope="module")
def detector(recipe: Recipe) -> Detector:
    torch.manual_seed(3)
    engine = build_eager(recipe, build_model(recipe).eval(), device=torch.device("cpu"))
    return Detector(recipe, engine, roi=draw_mask(), fixture=build())


def test_detector_finds_the_moved_part_as_it_does_the_part_and_says_where_it_lay(detector: Detector) -> None:
    still = detector.judge(draw_part(), PixelFormat.RGB8)
    moved = detector.judge(move(draw_part(), 24, -15), PixelFormat.RGB8)
    assert still.pose is not None
    assert moved.pose is not None
    assert (moved.pose.dx_px, moved.pose.dy_px) == pytest.approx((24, -15), abs=0.2)
    assert moved.decision.score == pytest.approx(still.decision.score, rel=0.02)
    # All of the part is above this threshold: the region is the mask's, where the part lies in the frame.
    assert still.decision.regions[0].xyxy == pytest.approx((84, 64, 236, 176), abs=1)
    assert moved.decision.regions[0].xyxy == pytest.approx((108, 49, 260, 161), abs=2)
    shifted = np.roll(still.anomaly_map, (-15, 24), (0, 1))[49:161, 108:260]
    assert np.abs(moved.anomaly_map[49:161, 108:260] - shifted).mean() < 0.1 * shifted.mean()


def test_detector_refuses_a_frame_whose_part_is_another_even_when_any_frame_is_wanted(detector: Detector) -> None:
    for any_frame in (False, True):
        with pytest.raises(NotLocatedError):
            detector.judge(draw_part(holes=5), PixelFormat.RGB8, any_frame=any_frame)


def test_warm_up_runs_all_the_way_though_a_blank_frame_shows_no_part(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []
    monkeypatch.setattr(detector, "_waits", False)
    whole = detector.finish
    monkeypatch.setattr(detector, "finish", lambda run: finished.append(run) or whole(run))
    detector.warm_up()
    assert len(finished) == detector.engine.frames_in_flight


@pytest.mark.parametrize("like", [np.zeros((*FRAME_HW, 3), np.uint8), np.zeros(FRAME_HW, np.uint16)])
def test_frame_drawn_for_a_benchmark_is_located_where_it_lies(like: Any) -> None:
    frame = build().draw_frame(like)
    assert (frame.shape, frame.dtype) == (like.shape, like.dtype)
    pose = build().locate(frame if frame.dtype == np.uint8 else (frame / 257).astype(np.float32))
    assert pose.score > 0.95
    assert (pose.dx_px, pose.dy_px) == pytest.approx((0, 0), abs=0.2)


def test_recipe_with_a_fixture_is_never_judged_without_it_nor_the_other_way_round(
    detector: Detector, recipe: Recipe
) -> None:
    with pytest.raises(RecipeError, match="fixture"):
        Detector(recipe, detector.engine, roi=draw_mask())
    with pytest.raises(RecipeError, match="fixture"):
        Detector(recipe.model_copy(update={"fixture": None}), detector.engine, fixture=build())


@pytest.mark.parametrize(
    "lacking", [{"roi_mask": None, "roi_mask_sha256": None}, {"preprocessing": {}},
                {"preprocessing": {"frame_hw": FRAME_HW, "resize_hw": (64, 64)}}]
)  # fmt: skip
def test_recipe_is_refused_when_its_fixture_lacks_what_it_needs(recipe: Recipe, lacking: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fixture must be given with roi_mask and preprocessing.frame_hw"):
        Recipe.model_validate(recipe.model_dump(by_alias=True) | lacking)
