"""A recording through the folder source: its frames, its ids, its pace, and no part of the line."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from inspector.errors import NotConnectedError, SourceExhaustedError
from inspector.sources.base import build_frame
from inspector.sources.folder import FolderSettings
from inspector.sources.recording import INDEX, RecordingWriter
from inspector.sources.replay import ReplaySource
from inspector.types import FileVersion, Frame, PixelFormat, Web

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames, each 0.2 s after the one before and 0.5 s old when it came; the second is damaged."""
    writer = RecordingWriter(tmp_path / "rec")
    for number in range(3):
        pixels = None if number == 1 else np.full((2, 3), number, np.uint8)
        received = START + number * SECOND // 5
        ids: dict[str, Any] = {"part_id": f"part-{number}", "trigger_id": f"t{number}"}
        times = {"captured_utc_ns": received - SECOND // 2, "received_utc_ns": received}
        error = {"error": "lost packets"} if pixels is None else {}
        writer.write(build_frame("top", f"id-{number}", pixels, PixelFormat.MONO8, **ids, **times, **error))
    writer.close()
    return tmp_path / "rec"


def replay(source: ReplaySource) -> list[Frame]:
    source.connect()
    frames = []
    while True:
        try:
            if (frame := source.read(0.05)) is not None:
                frames.append(frame)
        except SourceExhaustedError:
            return frames


class Memory:
    """What is on record."""

    def __init__(self) -> None:
        self.versions: dict[str, FileVersion] = {}

    def find_versions(self, camera: str) -> Mapping[str, FileVersion]:
        return dict(self.versions)

    def forget(self, camera: str, names: Iterable[str]) -> None:
        for name in names:
            del self.versions[name]


def test_frames_come_with_their_ids_pixels_and_age_marked_simulated(folder: Path) -> None:
    frames = replay(ReplaySource("side", folder))
    assert [(frame.camera, frame.frame_id, frame.part_id, frame.trigger_id, frame.simulated) for frame in frames] == [
        ("side", f"id-{number}", f"part-{number}", f"t{number}", True) for number in range(3)
    ]
    assert [None if frame.pixels is None else int(frame.pixels[0, 0]) for frame in frames] == [0, None, 2]
    assert [frame.error for frame in frames] == [None, "lost packets", None]
    assert {frame.received_utc_ns - frame.captured_utc_ns for frame in frames} == {SECOND // 2}
    assert abs(time.time_ns() - frames[0].received_utc_ns) < 60 * SECOND


def test_frames_come_no_faster_than_they_were_recorded_and_a_read_holds_nobody_up(folder: Path) -> None:
    source = ReplaySource("top", folder)
    source.connect()
    started = time.monotonic()
    assert source.read(0.0) is not None
    assert source.read(0.0) is None
    frames = [source.read(30), source.read(30)]
    assert [frame.frame_id for frame in frames if frame is not None] == ["id-1", "id-2"]
    assert time.monotonic() - started >= 0.4


def test_frames_on_record_are_not_replayed_again_and_files_that_are_gone_are_forgotten(folder: Path) -> None:
    memory = Memory()
    memory.versions["000009-other.png"] = FileVersion(1, 1)
    first = replay(ReplaySource("top", folder, memory=memory))
    assert memory.versions == {}
    ((file,),) = [frame.files for frame in first if frame.frame_id == "id-0"]
    assert file is not None
    assert file.version is not None
    memory.versions[file.name] = file.version
    assert [frame.frame_id for frame in replay(ReplaySource("top", folder, memory=memory))] == ["id-1", "id-2"]


def test_frames_that_did_not_come_whole_are_on_record_too(folder: Path) -> None:
    memory = Memory()
    for frame in replay(ReplaySource("top", folder, memory=memory)):
        for file in frame.files:
            assert file.version is not None
            memory.versions[file.name] = file.version
    assert len(memory.versions) == 3
    assert replay(ReplaySource("top", folder, memory=memory)) == []
    assert len(memory.versions) == 3
    index = (folder / INDEX).read_text()
    (folder / INDEX).write_text(index.replace(str(START + SECOND // 5), str(START + SECOND // 4)))  # recorded anew
    assert [frame.frame_id for frame in replay(ReplaySource("top", folder, memory=memory))] == ["id-1"]


def test_frame_whose_file_is_gone_is_answered(folder: Path) -> None:
    (folder / "000003-id-2.png").unlink()
    last = replay(ReplaySource("top", folder, memory=Memory()))[-1]
    assert last.pixels is None
    assert str(last.error).startswith("000003-id-2.png: ")


def test_recording_goes_on_where_it_stopped_when_it_is_connected_again(folder: Path) -> None:
    source = ReplaySource("top", folder)
    source.connect()
    assert source.read(30) is not None
    source.close()
    assert [frame.frame_id for frame in replay(source)] == ["id-1", "id-2"]


def test_folder_without_a_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotConnectedError, match=f"{INDEX}"):
        ReplaySource("top", tmp_path).connect()
    (tmp_path / INDEX).write_text("no recording\n")
    with pytest.raises(NotConnectedError, match="line 1"):
        ReplaySource("top", tmp_path).connect()


def test_settings_lead_to_the_recording_and_refuse_to_watch_it(folder: Path) -> None:
    source = FolderSettings(type="folder", path=folder, recorded=True).build("top")
    assert source is not None
    source.connect()
    frame = source.read(30)
    source.close()
    assert frame is not None
    assert (frame.frame_id, frame.simulated, source.can_wait) == ("id-0", True, False)
    with pytest.raises(ValidationError, match="must be false where watch is true"):
        FolderSettings(type="folder", path=folder, watch=True, recorded=True)


def test_frame_of_a_web_keeps_its_lines(tmp_path: Path) -> None:
    web = Web(2, (6, 8), (7, 8), encoder_value=-5, line_pitch_um=12.5)
    writer = RecordingWriter(tmp_path / "web")
    writer.write(build_frame("top", "1", np.zeros((2, 3), np.uint8), PixelFormat.MONO8, web=web, encoder_value=3))
    writer.close()
    (frame,) = replay(ReplaySource("top", tmp_path / "web"))
    assert (frame.web, frame.encoder_value) == (web, 3)
