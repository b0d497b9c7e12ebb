"""`inspector record`: how many frames, which ones, and how it ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from inspector.cli.cameras import record as module
from inspector.errors import NotConnectedError
from inspector.sources.cameras.driver import Grabbed
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.recording import RecordingWriter, read_recording
from inspector.testing.fake_camera import FakeCamera, make_image
from inspector.types import Frame

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """A folder camera, `top`, whose five pictures are 10, 10, 12, 40 and 40 grey."""
    (tmp_path / "in").mkdir()
    for number, value in enumerate((10, 10, 12, 40, 40)):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), np.full((70, 90, 3), value, np.uint8))
    cameras = {"top": {"source": {"type": "folder", "path": "in"}}, "side": {}}
    path = tmp_path / "station.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "station": "press", "state_dir": "state", "cameras": cameras}))
    return path


@pytest.fixture
def fake(station: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """A camera in memory, in the place of `top`."""
    camera = FakeCamera()
    text = station.read_text().replace("type: folder", "type: pylon").replace("path: in", "serial: '1'")
    station.write_text(text)
    settings = PylonSettings(type="pylon")
    monkeypatch.setattr(PylonSettings, "build", lambda *_, **__: GenicamSource("top", settings, camera))
    return camera


def ids(folder: Path) -> list[str]:
    return [entry.frame_id for entry in read_recording(folder)]


def test_all_frames_are_recorded_when_the_source_ends(run: Run, station: Path, tmp_path: Path) -> None:
    status, printed = run("record", station, "top", "--out", tmp_path / "rec")
    assert status == 0
    assert f"{tmp_path / 'rec'}: 5 frames recorded" in printed
    assert ids(tmp_path / "rec") == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_strips_of_a_web_are_recorded_as_the_frames_that_the_station_would_judge(
    run: Run, station: Path, tmp_path: Path
) -> None:
    loaded = yaml.safe_load(station.read_text())
    loaded["cameras"]["top"]["line_scan"] = {"frame_lines": 100, "overlap_lines": 20}
    station.write_text(yaml.safe_dump(loaded))
    assert run("record", station, "top", "--out", tmp_path / "rec")[0] == 0
    recorded = read_recording(tmp_path / "rec")
    assert [entry.web and entry.web.y for entry in recorded] == [
        (0, 100),
        (80, 180),
        (160, 260),
        (240, 340),
        (250, 350),
    ]
    first = cv2.imread(str(tmp_path / "rec" / str(recorded[1].file)))
    assert first.shape == (100, 90, 3)
    assert list(first[:, 0, 0]) == [10] * 60 + [12] * 40
    assert run("snapshot", station, "top", tmp_path / "one.png")[0] == 0
    assert cv2.imread(str(tmp_path / "one.png")).shape == (100, 90, 3)


def test_recording_ends_after_so_many_frames(run: Run, station: Path, tmp_path: Path) -> None:
    assert run("record", station, "top", "--out", tmp_path / "rec", "--frames", 2)[0] == 0
    assert ids(tmp_path / "rec") == ["0.png", "1.png"]


def test_recording_ends_after_its_time(run: Run, station: Path, tmp_path: Path, fake: FakeCamera) -> None:
    started = time.monotonic()
    status, printed = run("record", station, "top", "--out", tmp_path / "rec", "--duration-s", "0.3")
    assert (status, "0 frames recorded" in printed) == (0, True)
    assert time.monotonic() - started >= 0.3


def test_near_copies_are_left_out(run: Run, station: Path, tmp_path: Path) -> None:
    status, printed = run("record", station, "top", "--out", tmp_path / "rec", "--thin", 4)
    assert (status, "2 frames recorded, 3 near-copies left out" in printed) == (0, True)
    assert ids(tmp_path / "rec") == ["0.png", "3.png"]


def test_small_change_makes_no_near_copy(run: Run, station: Path, tmp_path: Path) -> None:
    picture = np.full((640, 640, 3), 10, np.uint8)
    for number in range(5):
        picture[300:310, 300:310] = 60 * (number == 4)
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    run("record", station, "top", "--out", tmp_path / "rec", "--thin", 4)
    assert ids(tmp_path / "rec") == ["0.png", "4.png"]


def test_near_copies_are_told_by_the_bits_that_the_camera_uses(run: Run, station: Path, tmp_path: Path) -> None:
    for old in (tmp_path / "in").iterdir():
        old.unlink()
    for number, value in enumerate((100, 104, 200, 203, 4)):  # of 10 bits: 4 of 1023 is one grey level of 256
        picture = np.full((70, 90), value, np.uint16)
        picture[:, 80:] = 1023
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    run("record", station, "top", "--out", tmp_path / "rec", "--thin", 4)
    assert ids(tmp_path / "rec") == ["0.png", "2.png", "4.png"]


def test_camera_that_waits_for_a_request_is_fired_for_each_frame(
    run: Run, station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = fire_on_request(station, monkeypatch)
    assert run("record", station, "top", "--out", tmp_path / "rec", "--frames", 3)[0] == 0
    assert len(ids(tmp_path / "rec")) == 3
    assert camera.calls.count("fire") == 3


def test_camera_that_waits_for_a_request_is_fired_for_each_line(
    run: Run, station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = fire_on_request(station, monkeypatch)
    monkeypatch.setattr(sys, "stdin", iter(["\n", "\n"]))
    assert run("record", station, "top", "--out", tmp_path / "rec", "--on-enter")[0] == 0
    assert len(ids(tmp_path / "rec")) == 2
    assert camera.calls.count("fire") == 2


def fire_on_request(station: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """A camera in the place of `top` that takes an image each time it is fired."""

    class Answering(FakeCamera):
        def fire(self) -> None:
            super().fire()
            self.images.append(make_image(self.calls.count("fire")))

    camera = Answering(dict.fromkeys(("TriggerSelector", "TriggerSource"), ""))
    settings = PylonSettings(type="pylon", trigger="request")
    station.write_text(station.read_text().replace("type: folder", "type: pylon").replace("path: in", "serial: '1'"))
    monkeypatch.setattr(PylonSettings, "build", lambda *_, **__: GenicamSource("top", settings, camera))
    return camera


def press(monkeypatch: pytest.MonkeyPatch, camera: FakeCamera, count: int) -> None:
    """So many lines of standard input, all of which are there before the camera sends."""
    pressed = threading.Event()
    grab = camera.grab

    def read() -> Iterator[str]:
        yield from ["\n"] * count
        pressed.set()

    def wait(timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        assert pressed.wait(60)
        return grab(timeout_s, chunks)

    monkeypatch.setattr(sys, "stdin", read())
    monkeypatch.setattr(camera, "grab", wait)


def test_each_line_gets_one_frame(
    run: Run, station: Path, tmp_path: Path, fake: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.images.extend(make_image(number) for number in range(1, 6))
    press(monkeypatch, fake, 3)
    assert run("record", station, "top", "--out", tmp_path / "rec", "--on-enter")[0] == 0
    assert len(ids(tmp_path / "rec")) == 3


def test_frame_from_before_the_line_is_not_taken(
    run: Run, station: Path, tmp_path: Path, fake: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.monotonic_ns()
    ages_s = (0, 3600, 3600, 0)
    fake.images.extend(make_image(number, device_ns=now_ns - age * 10**9) for number, age in enumerate(ages_s, 1))
    press(monkeypatch, fake, 2)
    run("record", station, "top", "--out", tmp_path / "rec", "--on-enter")
    assert [name.rpartition("-")[2] for name in ids(tmp_path / "rec")] == ["1", "4"]


def test_lost_camera_is_opened_again_and_damaged_frames_are_recorded_as_such(
    run: Run, station: Path, tmp_path: Path, fake: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    fake.images.extend([make_image(1), NotConnectedError("unplugged"), make_image(7), make_image(9)])
    status, printed = run("record", station, "top", "--out", tmp_path / "rec", "--frames", 3)
    assert status == 0
    assert "lost: camera top: unplugged; it is tried again" in printed
    assert "3 frames recorded; missing: gap 1" in printed


def test_interrupt_ends_it_well(run: Run, station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RecordingWriter.write

    def write(self: RecordingWriter, frame: Frame) -> None:
        if self.count == 2:
            raise KeyboardInterrupt
        whole(self, frame)

    monkeypatch.setattr(RecordingWriter, "write", write)
    status, printed = run("record", station, "top", "--out", tmp_path / "rec")
    assert (status, "2 frames recorded" in printed) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("front",), 2, "must be one of side, top, got 'front'"),
        (("side",), 1, "camera side: zmq: they are sent to the station, none is fetched"),
        (("top", "--frames", "0"), 2, "--frames"),
    ],
)
def test_recording_that_cannot_be_made_is_refused(
    run: Run, station: Path, tmp_path: Path, arguments: tuple[Any, ...], status: int, message: str
) -> None:
    ended, printed = run("record", station, *arguments, "--out", tmp_path / "rec")
    assert (ended, message in printed, (tmp_path / "rec").exists()) == (status, True, False)


def test_second_recording_in_the_same_folder_is_refused(run: Run, station: Path, tmp_path: Path) -> None:
    run("record", station, "top", "--out", tmp_path / "rec", "--frames", 1)
    status, printed = run("record", station, "top", "--out", tmp_path / "rec")
    assert (status, "must not hold a recording yet" in printed) == (1, True)
    assert ids(tmp_path / "rec") == ["0.png"]
