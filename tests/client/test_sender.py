"""Frames sent as the station reads them, by a program that has pyzmq and nothing else."""

from __future__ import annotations

import array
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

import inspector
from inspector.client import FrameRefusedError, KeyFileError, Sender
from inspector.config import Camera
from inspector.sources.wire import FrameDecoder
from inspector.types import PixelFormat

WAIT_S = 20.0
DECODER = FrameDecoder({"top": Camera(), "side": Camera()}, 1 << 20)
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class Station:
    """The far end: a socket that keeps what comes and, if it is a ROUTER, gives the answers it was told."""

    def __init__(self, kind: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(kind)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"

    def receive(self) -> list[bytes]:
        assert self.socket.poll(WAIT_S * 1000)
        return self.socket.recv_multipart()

    def answer(self, answers: list[str | None]) -> tuple[threading.Thread, list[list[bytes]]]:
        """In a thread: an answer to each message, none where it is None; the messages."""
        came: list[list[bytes]] = []

        def run() -> None:
            for text in answers:
                message = self.receive()
                came.append(message)
                if text is not None:
                    self.socket.send_multipart([*message[: message.index(b"") + 1], text.encode()])

        thread = threading.Thread(target=run)
        thread.start()
        return thread, came

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def pull() -> Iterator[Station]:
    station = Station(zmq.PULL)
    yield station
    station.close()


@pytest.fixture
def router() -> Iterator[Station]:
    station = Station(zmq.ROUTER)
    yield station
    station.close()


@pytest.mark.parametrize(
    ("pixels", "pixel_format", "kind"),
    [
        (RGB, None, PixelFormat.RGB8),
        (RGB, "BGR8", PixelFormat.BGR8),
        (RGB[..., 0].copy(), "Mono8", PixelFormat.MONO8),
        (RGB[..., 0].astype(np.uint16) * 257, None, PixelFormat.MONO16),
    ],
)
def test_station_reads_the_pixels_that_were_sent(
    pull: Station, pixels: np.ndarray[Any, Any], pixel_format: str | None, kind: PixelFormat
) -> None:
    before = time.time_ns()
    with Sender(pull.endpoint, camera="top") as sender:
        sender.send(pixels, frame_id="f1", part_id="p1", trigger_id="t1", pixel_format=pixel_format)
        frame = DECODER.decode(pull.receive())
    assert frame.error is None
    assert np.array_equal(frame.pixels, pixels)  # type: ignore[arg-type]
    assert (frame.camera, frame.frame_id, frame.part_id, frame.trigger_id) == ("top", "f1", "p1", "t1")
    assert (frame.pixel_format, frame.simulated) == (kind, False)
    assert before <= frame.captured_utc_ns <= time.time_ns()


def test_pixels_may_change_once_they_were_sent() -> None:
    station, pixels = Station(zmq.PULL), np.zeros((1000, 1000), np.uint8)  # large: small ones are copied anyway
    try:
        station.socket.rcvhwm = 1
        with Sender(station.endpoint, camera="top") as sender:
            for value in range(3):  # they wait in the queue
                pixels[:] = value
                sender.send(pixels, frame_id=f"f{value}")
            pixels[:] = 255
            assert [set(station.receive()[1]) for _ in range(3)] == [{0}, {1}, {2}]
    finally:
        station.close()


def test_frame_may_have_what_the_sender_has_not(pull: Station) -> None:
    with Sender(pull.endpoint, simulated=True) as sender:
        sender.send(RGB, frame_id="f1", camera="side", captured_utc_ns=5, simulated=False)
        sender.send_encoded(cv2.imencode(".png", RGB)[1].tobytes(), frame_id="f2", camera="top")
        sender.send_encoded(cv2.imencode(".jpg", RGB)[1].tobytes(), frame_id="f3", camera="top", part_id="p")
        first, second, third = (DECODER.decode(pull.receive()) for _ in range(3))
    assert (first.camera, first.captured_utc_ns, first.simulated, first.part_id) == ("side", 5, False, None)
    assert second.pixels is not None
    assert np.array_equal(second.pixels[..., ::-1], RGB)
    assert (second.simulated, third.frame_id, third.part_id, third.error) == (True, "f3", "p", None)


def test_what_is_no_frame_is_refused_before_it_is_sent(pull: Station) -> None:
    with Sender(pull.endpoint) as sender:
        for pixels in (RGB[:, ::2], RGB.astype(np.float32), array.array("B", b"1234"), RGB[None]):
            with pytest.raises(ValueError, match=r"pixels: must be a C-contiguous array of 2 or 3 dimensions"):
                sender.send(pixels, frame_id="f", camera="top")
        with pytest.raises(ValueError, match=r"content: must be a JPEG or PNG file, starts with b'BM00'"):
            sender.send_encoded(b"BM00", frame_id="f", camera="top")
        with pytest.raises(ValueError, match="camera: required"):
            sender.send(RGB, frame_id="f")
    assert not pull.socket.poll(50)


def test_endpoint_and_key_are_refused_when_they_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"endpoint: must be a ZeroMQ endpoint.*got 'nowhere'"):
        Sender("nowhere")
    with pytest.raises(KeyFileError):
        Sender("tcp://127.0.0.1:1", key=tmp_path / "none.key")


def test_sender_says_so_when_no_station_takes_a_frame_in_time() -> None:
    with (
        pytest.raises(TimeoutError, match=r"no station accepted a frame at tcp://127\.0\.0\.1:1 within 0\.05 s"),
        Sender("tcp://127.0.0.1:1", camera="top", timeout_s=0.05) as sender,
    ):
        sender.send(RGB, frame_id="f")


def test_acknowledged_frame_is_on_record_or_it_is_told_why_not(router: Station) -> None:
    thread, came = router.answer(["OK", "ERROR camera: must be one of ('side',), got 'top'", "OK"])
    with Sender(router.endpoint, camera="top", acknowledged=True, timeout_s=WAIT_S) as sender:
        sender.send(RGB, frame_id="f1")
        with pytest.raises(FrameRefusedError, match=r"tcp://.*: camera: must be one of"):
            sender.send(RGB, frame_id="f2")
        sender.send(RGB, frame_id="f3")  # the refusal ended nothing
    thread.join()
    assert [json.loads(message[-2])["frame_id"] for message in came] == ["f1", "f2", "f3"]


def test_same_bytes_are_sent_again_when_no_answer_comes(router: Station) -> None:
    thread, came = router.answer([None, "OK"])
    with Sender(router.endpoint, camera="top", acknowledged=True, timeout_s=1.0, attempts=3) as sender:
        sender.send(RGB, frame_id="f1")
    thread.join()
    first, second = (message[-2:] for message in came)
    assert first == second  # the time of capture among them, so that it is taken for the same frame


def test_sender_gives_up_after_its_attempts(router: Station) -> None:
    thread, came = router.answer([None, None])
    with (
        pytest.raises(TimeoutError, match=r"no station answered at tcp://.* within 0\.2 s"),
        Sender(router.endpoint, camera="top", acknowledged=True, timeout_s=0.2, attempts=2) as sender,
    ):
        sender.send(RGB, frame_id="f1")
    thread.join()
    assert len(came) == 2


_BARE = """
import sys
sys.path.insert(0, sys.argv[1])
from inspector.client import Sender
with Sender(sys.argv[2], camera="top", timeout_s=20) as sender:
    sender.send(memoryview(bytes(range(48))).cast("B", (4, 4, 3)), frame_id="bare")
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"numpy", "cv2", "torch", "yaml", "pydantic"}))
"""


def test_frame_is_sent_by_a_python_that_has_pyzmq_and_nothing_else(pull: Station, tmp_path: Path) -> None:
    for package in (Path(zmq.__file__).parent, Path(inspector.__file__).parent):
        (tmp_path / package.name).symlink_to(package)
    for libraries in Path(zmq.__file__).parents[1].glob("pyzmq*.libs"):
        (tmp_path / libraries.name).symlink_to(libraries)
    # -S: no site-packages; -I: nothing of the environment. What is importable is the standard library and tmp_path.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BARE, tmp_path, pull.endpoint], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    frame = DECODER.decode(pull.receive())
    assert (frame.frame_id, frame.pixels.shape) == ("bare", (4, 4, 3))  # type: ignore[union-attr]
