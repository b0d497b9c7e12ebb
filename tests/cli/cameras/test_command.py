"""What cameras there are, and one frame of one."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
import zmq

from inspector.errors import NotConnectedError
from inspector.service.control import lock
from inspector.service.orders.snapshots import Snapshots
from inspector.sources import opencv
from inspector.sources.cameras.gige import GigeSettings
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.settings import Device
from inspector.types import Frame, PixelFormat

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel lists cameras."""
    folder = tmp_path / "video4linux"
    folder.mkdir()
    monkeypatch.setattr(opencv, "_V4L", folder)
    return folder


def test_cameras_of_each_kind_are_listed_with_what_to_write(
    run: Run, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (10, 2):
        (video / f"video{number}").mkdir()
        (video / f"video{number}" / "name").write_text(f"Webcam {number}\n")

    def find() -> Iterator[Device]:
        yield Device("40012345", "Basler acA2040")

    def fail() -> Iterator[Device]:
        yield Device("192.168.10.5", "Lucid TRI050S")
        raise NotConnectedError("no network")

    monkeypatch.setattr(PylonSettings, "find_devices", find)
    monkeypatch.setattr(GigeSettings, "find_devices", fail)
    status, printed = run("cameras")
    assert status == 0
    assert "opencv: Webcam 2 (device: 2) opencv: Webcam 10 (device: 10)" in printed
    assert "pylon: Basler acA2040 (serial: '40012345')" in printed
    assert "gige: Lucid TRI050S (device: '192.168.10.5') gige: no network" in printed
    assert "zmq" not in printed


def test_missing_libraries_are_told_with_what_to_install(
    run: Run, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, printed = run("cameras")
    assert status == 0
    assert "opencv: none" in printed
    assert "pylon: the package pypylon is not installed: pip install 'inspector[pylon]'" in printed
    assert "genicam: the package harvesters is not installed: pip install 'inspector[genicam]'" in printed
    assert "gige: Aravis cannot be imported: apt-get install" in printed


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """A folder camera, `top`, whose only file is red at the left, and one whose frames are sent, `side`."""
    (tmp_path / "in").mkdir()
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, :3, 2] = 255
    cv2.imwrite(str(tmp_path / "in" / "part.png"), picture)
    cameras = {"top": {"source": {"type": "folder", "path": "in"}}, "side": {}}
    path = tmp_path / "station.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "station": "press", "state_dir": "state", "cameras": cameras}))
    return path


def test_snapshot_is_the_frame_as_it_came(run: Run, station: Path, tmp_path: Path) -> None:
    status, printed = run("snapshot", station, "top", tmp_path / "out.png")
    assert (status, printed) == (0, f"{tmp_path / 'out.png'}: 6 × 4, RGB8")
    written = [cv2.imread(str(tmp_path / name)) for name in ("out.png", "in/part.png")]
    np.testing.assert_array_equal(*written)


@pytest.mark.parametrize(
    ("camera", "out", "status", "message"),
    [
        ("front", "out.png", 2, "must be one of side, top, got 'front'"),
        ("top", "out.jpg", 2, "must end in .png, got 'out.jpg'"),
        ("side", "out.png", 1, "camera side: zmq: they are sent to the station, none is fetched"),
    ],
)
def test_snapshot_that_cannot_be_taken_is_refused(
    run: Run, station: Path, tmp_path: Path, camera: str, out: str, status: int, message: str
) -> None:
    ended, printed = run("snapshot", station, camera, tmp_path / out)
    assert ended == status
    assert message in printed
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("has_frame", [True, False])
def test_snapshot_is_the_last_frame_of_the_station_that_runs(
    run: Run, station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_frame: bool
) -> None:
    monkeypatch.setattr(lock, "find_daemon", lambda folder: 4711)
    endpoint, out = f"ipc://{tmp_path / 'requests'}", tmp_path / "out.png"
    station.write_text(f"{station.read_text()}sockets: {{requests: '{endpoint}'}}\n")
    pixels, held = np.full((40, 60, 3), (200, 30, 60), np.uint8), Snapshots(["top"])
    if has_frame:
        held.note(Frame("top", "f1", pixels, PixelFormat.RGB8, 1_700_000_000_000_000_000, 0))
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(endpoint)
        answering = threading.Thread(target=_answer, args=(socket, held))
        answering.start()
        status, printed = run("snapshot", station, "top", out)
        answering.join()
    assert out.exists() == has_frame
    if has_frame:
        assert (status, printed) == (
            0,
            f"{out}: the running station's last frame f1, received 2023-11-14T22:13:20+00:00, through a JPEG",
        )
        np.testing.assert_allclose(cv2.imread(str(out))[..., ::-1], pixels, atol=4)
    else:
        assert (status, "refused: camera top: no frame with pixels has come yet" in printed) == (1, True)


def _answer(socket: zmq.Socket[bytes], held: Snapshots) -> None:
    """Answer one request as a station does."""
    if not socket.poll(10_000):
        return
    request = socket.recv_json()
    assert request["request"] == "snapshot"
    try:
        socket.send_json({"ok": True, **held.answer(request, "anna")})
    except ValueError as error:
        socket.send_json({"ok": False, "error": str(error)})


def test_snapshot_tells_when_no_frame_comes_or_it_is_no_picture(run: Run, station: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "part.png").write_bytes(b"no picture")
    status, printed = run("snapshot", station, "top", tmp_path / "out.png")
    assert status == 1
    assert "camera top: part.png: " in printed
    text = station.read_text().replace("type: folder", "type: folder\n      watch: true")
    station.write_text(text)
    (tmp_path / "in" / "part.png").unlink()
    status, printed = run("snapshot", station, "top", tmp_path / "out.png", "--timeout-s", "0.3")
    assert (status, "camera top: no frame within 0.3 s; is it triggered?" in printed) == (1, True)
