"""Frames and what was known of them, on disk: nothing lost of a frame, nothing half of one."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.codec import decode_image
from inspector.errors import BadFrameError, InspectorError
from inspector.sources.base import build_frame
from inspector.sources.recording import INDEX, RecordedFrame, RecordingWriter, read_recording
from inspector.types import Frame, PixelFormat, Web

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3)


def make(frame_id: str, pixels: Any = GREY, pixel_format: PixelFormat = PixelFormat.MONO8, **details: Any) -> Frame:
    return build_frame("top", frame_id, pixels, pixel_format, **details)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RecordingWriter]:
    made = RecordingWriter(tmp_path / "new" / "rec")
    yield made
    made.close()


@pytest.fixture
def folder(writer: RecordingWriter, tmp_path: Path) -> Path:
    return tmp_path / "new" / "rec"


def test_frame_is_recorded_with_its_ids_and_times(writer: RecordingWriter, folder: Path) -> None:
    writer.write(make("a/1", captured_utc_ns=7, received_utc_ns=9, part_id="part", trigger_id="trigger"))
    writer.write(make("2", None, received_utc_ns=11, error="lost packets"))
    first, second = read_recording(folder)
    expected = {"camera": "top", "frame_id": "a/1", "captured_utc_ns": 7, "received_utc_ns": 9, "part_id": "part",
                "trigger_id": "trigger", "file": "000001-a_1.png", "error": None,
                "encoder_value": None, "web": None}  # fmt: skip
    assert first.model_dump() == expected
    assert (second.frame_id, second.file, second.error) == ("2", None, "lost packets")
    assert writer.count == 2


def test_lines_of_a_web_are_recorded_with_their_frame(writer: RecordingWriter, folder: Path) -> None:
    web = Web(2, (6, 14), (8, 14), encoder_value=-5, line_pitch_um=12.5)
    writer.write(make("1", web=web, encoder_value=3))
    (read,) = read_recording(folder)
    assert (read.web, read.encoder_value) == (web, 3)


@pytest.mark.parametrize(
    ("pixels", "pixel_format", "expected"),
    [
        (GREY, PixelFormat.MONO8, PixelFormat.MONO8),
        (np.array([[0, 1, 65_535]], np.uint16), PixelFormat.MONO16, PixelFormat.MONO16),
        (np.arange(18, dtype=np.uint8).reshape(2, 3, 3), PixelFormat.RGB8, PixelFormat.RGB8),
        (np.arange(18, dtype=np.uint8).reshape(2, 3, 3), PixelFormat.BGR8, PixelFormat.RGB8),
    ],
)
def test_pixels_are_those_of_the_frame(
    writer: RecordingWriter, folder: Path, pixels: Any, pixel_format: PixelFormat, expected: PixelFormat
) -> None:
    writer.write(make("1", pixels, pixel_format))
    got, got_format = decode_image((folder / "000001-1.png").read_bytes())
    assert got_format is expected
    np.testing.assert_array_equal(got, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixel_format == "BGR8" else pixels)


def test_recording_is_not_written_over_another(writer: RecordingWriter, folder: Path) -> None:
    with pytest.raises(InspectorError, match=r"must not hold a recording yet, got one: index\.jsonl"):
        RecordingWriter(folder)


def test_torn_last_line_is_left_out_and_told(
    writer: RecordingWriter, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        writer.write(make(str(number)))
    content = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(content[:-20])
    with caplog.at_level(logging.WARNING):
        assert [entry.frame_id for entry in read_recording(folder)] == ["0", "1"]
    assert "its last line is torn: the frame of line 3 is left out" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"file": "../../etc/passwd.png"}, r"line 2: file: String should match pattern"),
        ({"lens": 1}, r"line 2: lens: Extra inputs are not permitted"),
    ],
)
def test_line_that_is_none_of_a_recording_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    good = RecordedFrame(camera="top", frame_id="1", captured_utc_ns=0, received_utc_ns=0)
    bad = good.model_copy(update=change) if "file" in change else good
    text = bad.model_dump_json().replace("{", '{"lens": 1, ', 1) if "lens" in change else bad.model_dump_json()
    (tmp_path / INDEX).write_text(f"{good.model_dump_json()}\n{text}\n")
    with pytest.raises(BadFrameError, match=problem):
        read_recording(tmp_path)


@pytest.mark.parametrize("lacks", ["picture", "line"])
def test_full_disk_is_told_and_leaves_nothing_half_written(writer: RecordingWriter, folder: Path, lacks: str) -> None:
    for number in range(3):
        writer.write(make(str(number)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = 30 if lacks == "picture" else len(before[INDEX]) + 20  # of each file, in bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(InspectorError, match=r"\.png: cannot" if lacks == "picture" else r"\.jsonl: cannot"):
            writer.write(make("more"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    writer.write(make("4"))
    assert [entry.frame_id for entry in read_recording(folder)] == ["0", "1", "2", "4"]
