"""Files as frames: what is found, how it is decoded, what is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.errors import BadFrameError, TrainingError
from inspector.training.data.datasets import FrameSet, list_images, read_image, split, survey
from inspector.training.data.tiles import TileStream
from inspector.types import PixelFormat

RANGE = (0, 65_535)


def _write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def _grey(height: int, width: int, value: int = 0) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def test_images_are_listed_sorted_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpeg", "deep/er/c.Tif", "d.webp", "notes.txt", "recipe.yaml"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / name for name in ("a.jpeg", "b.PNG", "d.webp", "deep/er/c.Tif")]
    assert list_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadFrameError, match=r"pipe\.png: file: must be a regular file, got a pipe"):
        read_image(tmp_path / "pipe.png")


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.bmp", _grey(4, 6))
    real_open = os.open

    def open_and_write(name: Path, *rest: Any) -> int:
        descriptor = real_open(name, *rest)
        with path.open("ab") as file:
            file.write(b"more")
        return descriptor

    monkeypatch.setattr("inspector.files.os.open", open_and_write)
    with pytest.raises(BadFrameError, match=r"a\.bmp: file: must not change while it is read"):
        read_image(path)


def test_colour_comes_out_as_rgb_when_the_file_is_blue(tmp_path: Path) -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 200  # OpenCV writes BGR
    pixels, pixel_format = read_image(_write(tmp_path / "blue.png", blue))
    assert pixel_format is PixelFormat.RGB8
    assert pixels.shape == (4, 6, 3)
    assert pixels[0, 0].tolist() == [0, 0, 200]


def test_alpha_is_dropped_when_it_is_opaque(tmp_path: Path) -> None:
    bgra = np.zeros((4, 6, 4), np.uint8)
    bgra[...] = (10, 20, 30, 255)
    pixels, pixel_format = read_image(_write(tmp_path / "alpha.png", bgra))
    assert pixel_format is PixelFormat.RGB8
    assert pixels[3, 5].tolist() == [30, 20, 10]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"), [(np.uint8, 200, PixelFormat.MONO8), (np.uint16, 51_234, PixelFormat.MONO16)]
)
def test_grey_keeps_its_depth_when_read(tmp_path: Path, dtype: type, value: int, expected: PixelFormat) -> None:
    pixels, pixel_format = read_image(_write(tmp_path / "grey.png", np.full((4, 6), value, dtype)))
    assert (pixel_format, pixels.dtype, pixels.shape) == (expected, dtype, (4, 6))
    assert int(pixels[2, 3]) == value


def test_file_is_refused_by_name_when_it_is_missing_or_no_image_or_of_another_depth(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_bytes(b"no image")
    deep = _write(tmp_path / "deep.tiff", np.zeros((4, 6), np.float32))
    for path in (text, deep, tmp_path / "missing.png"):
        with pytest.raises(BadFrameError, match=path.name):
            read_image(path)


def test_split_repeats_with_the_seed_and_loses_no_frame() -> None:
    paths = [Path(f"{number:02}.png") for number in range(20)]
    parts = split(paths, 0.25, 0.1, seed=1)
    assert [len(part) for part in (parts.training, parts.validation, parts.calibration)] == [13, 2, 5]
    assert sorted(parts.training + parts.validation + parts.calibration) == paths
    assert split(paths[::-1], 0.25, 0.1, seed=1) == parts
    assert split(paths, 0.25, 0.1, seed=2) != parts


def test_split_keeps_enough_aside_for_a_threshold_when_frames_are_few() -> None:
    paths = [Path(f"{number}.png") for number in range(4)]
    parts = split(paths, 0.01, 0.01, seed=0)
    assert [len(part) for part in (parts.training, parts.validation, parts.calibration)] == [1, 1, 2]
    with pytest.raises(TrainingError, match=r"at least 4 are needed .*, got 3"):
        split(paths[:3], 0.2, 0.1, seed=0)


def test_split_keeps_groups_together() -> None:
    paths = [Path(f"{lot}/{number}.png") for lot in "abcde" for number in range(4)]
    groups = {path: path.parts[0] for path in paths}
    for seed in range(10):
        parts = split(paths, 0.2, 0.1, seed, groups)
        lots = [{groups[path] for path in part} for part in (parts.training, parts.validation, parts.calibration)]
        assert [len(part) for part in lots] == [3, 1, 1]
        assert set.union(*lots) == set("abcde")
    with pytest.raises(TrainingError, match=r"groups: at least 3 are needed .*, got \['a', 'b'\]"):
        split(paths[:8], 0.2, 0.1, 0, groups)


def test_split_is_refused_when_it_leaves_one_frame_to_calibrate_on() -> None:
    paths = [Path(f"{lot}/{number}.png") for lot, count in (("a", 1), ("b", 20), ("c", 20)) for number in range(count)]
    groups = {path: path.parts[0] for path in paths}
    sizes = []
    for seed in range(20):
        try:
            sizes.append(len(split(paths, 0.2, 0.1, seed, groups).calibration))
        except TrainingError as error:
            assert "at least 2 frames must be left to calibrate on" in str(error)  # noqa: PT017
            sizes.append(0)
    assert set(sizes) == {0, 20}


def test_every_part_has_a_group_when_one_group_is_most_of_the_frames() -> None:
    paths = [Path(f"{lot}/{number}.png") for lot, count in (("a", 30), ("b", 2), ("c", 2)) for number in range(count)]
    for seed in range(10):
        parts = split(paths, 0.2, 0.1, seed, {path: path.parts[0] for path in paths})
        assert min(len(part) for part in (parts.training, parts.validation, parts.calibration)) >= 1


def test_preprocessing_names_the_size_only_when_all_frames_share_it(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{number}.png", _grey(20, 30)) for number in range(2)]
    shared = survey(paths, 0.5, RANGE)[0]
    assert (shared.pixel_format, shared.frame_hw, shared.scale) == (PixelFormat.MONO8, (20, 30), 0.5)
    paths.append(_write(tmp_path / "other.png", _grey(21, 30)))
    assert survey(paths, 0.5, RANGE)[0].frame_hw is None


@pytest.mark.parametrize(
    ("highest", "white"),
    [(0, 1023), (1023, 1023), (1024, 4095), (4080, 4095), (16_383, 16_383), (16_384, 65_535), (65_520, 65_535)],
)
def test_white_of_sixteen_bits_is_that_of_the_fewest_that_hold_the_highest_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, highest: int, white: int
) -> None:
    caplog.set_level("INFO", logger="inspector")
    values = [highest // 2, highest]
    paths = [_write(tmp_path / f"{n}.png", np.full((20, 30), value, np.uint16)) for n, value in enumerate(values)]
    preprocessing, looks = survey(paths, 1.0, None)
    assert preprocessing.mono16_range == (0, white)
    assert f"the highest value is {highest}" in caplog.text
    assert f"(mono16_range 0 to {white}); --mono16-range sets another range" in caplog.text
    assert looks[paths[1]].statistics["brightness"] == pytest.approx(255 * highest / white, abs=1)


def test_white_of_sixteen_bits_is_the_users_when_it_is_given_and_what_it_cuts_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [_write(tmp_path / "0.png", np.full((20, 30), 5000, np.uint16))]
    assert survey(paths, 1.0, (10, 4095))[0].mono16_range == (10, 4095)
    assert "--mono16-range: white is 4095, and values up to 5000 are all treated as white" in caplog.text
    caplog.clear()
    assert survey(paths, 1.0, (0, 5000))[0].mono16_range == (0, 5000)
    assert caplog.text == ""


def test_eight_bits_have_no_range_to_choose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="inspector")
    paths = [_write(tmp_path / "0.png", _grey(20, 30))]
    assert survey(paths, 1.0, None)[0].mono16_range == RANGE
    assert caplog.text == ""


def test_frames_are_the_same_when_they_no_longer_fit_the_cache(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{number}.png", _grey(20, 30, 40 * number)) for number in range(3)]
    preprocessing = survey(paths, 1.0, RANGE)[0]
    kept, read_again = FrameSet(paths, preprocessing), FrameSet(paths, preprocessing, cache_bytes=0)
    assert all(torch.equal(kept[index], read_again[index]) for index in range(3))
    assert read_again[2].unique().tolist() == [80]
    for path in paths:
        path.unlink()
    assert kept[2].unique().tolist() == [80]
    with pytest.raises(BadFrameError, match=r"2\.png"):
        read_again[2]


def test_frames_are_refused_when_none_is_usable(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "0.png", _grey(20, 30))]
    preprocessing = survey(paths, 1.0, RANGE)[0]
    paths[0].write_bytes(b"no image")
    with pytest.raises(TrainingError, match="none of 1 is"):
        FrameSet(paths, preprocessing)
    with pytest.raises(TrainingError, match="none of 1 is"):
        survey(paths, 1.0, RANGE)[0]


def test_tile_is_filled_by_reflection_when_the_frame_is_smaller(tmp_path: Path) -> None:
    rising = np.tile(np.arange(40, dtype=np.uint8), (20, 1))
    paths = [_write(tmp_path / "0.png", rising)]
    frames = FrameSet(paths, survey(paths, 1.0, RANGE)[0])
    tile = TileStream(frames, 64, seed=0)[0].clean[0]
    assert tile[0].tolist() == [*range(40), *range(38, 14, -1)]
    assert tile[63].tolist() == tile[0].tolist()


def test_images_are_refused_when_the_folder_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere: no such file or folder"):
        list_images(tmp_path / "nowhere")
