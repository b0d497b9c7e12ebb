"""A network camera's stream, H.264 by RTSP: it stalls, restarts, changes its size and sends garbage.

INSPECTOR_CHAOS=1 opens it 200 times.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from inspector.errors import NotConnectedError
from inspector.sources.opencv import OpencvSettings, OpencvSource
from inspector.types import Frame, PixelFormat
from tests.sources import rtsp_server
from tests.sources.contract import READ_S, WAIT_S, find_again, lose

IS_LONG = bool(os.environ.get("INSPECTOR_CHAOS"))
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 1.0
WH, OTHER_WH = (320, 240), (160, 128)

LACK = subprocess.run([sys.executable, rtsp_server.__file__], capture_output=True, text=True, check=True).stdout
pytestmark = pytest.mark.skipif(bool(LACK), reason=LACK or "there")


class Camera:
    """GStreamer's server, in a process of its own."""

    never_lost = one_size = ""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self, wh: tuple[int, int] = WH) -> None:
        """Switch it on, and wait until it listens."""
        command = [sys.executable, rtsp_server.__file__, str(self.port), *map(str, wh)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def freeze(self) -> None:
        """It stays connected and sends nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def cut(self) -> None:
        """Take it off the network, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.cut()


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def build(port: int, closing: contextlib.ExitStack) -> OpencvSource:
    url = f"rtsp://127.0.0.1:{port}/live"
    settings = OpencvSettings(type="opencv", device=url, open_timeout_s=OPEN_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S)
    source = settings.build("top")
    assert isinstance(source, OpencvSource)
    closing.callback(source.close)
    return source


def take_wh(source: OpencvSource) -> tuple[int, int]:
    """The size of the next frame."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (frame := source.read(READ_S)) is not None:
            assert frame.pixels is not None
            assert (frame.pixel_format, frame.pixels.dtype) == (PixelFormat.BGR8, "uint8")
            assert frame.pixels.max() > 100  # the ball
            return frame.pixels.shape[1], frame.pixels.shape[0]
    pytest.fail("no frame came")


def read_until_lost(source: OpencvSource) -> float:
    """How long the longest read took."""
    longest, deadline = 0.0, time.monotonic() + WAIT_S
    while (started := time.monotonic()) < deadline:
        try:
            frame = source.read(READ_S)
        except NotConnectedError:
            return longest
        assert frame is None or frame.pixels is None or frame.pixels.shape == (WH[1], WH[0], 3)
        longest = max(longest, time.monotonic() - started)
    pytest.fail("the source never told that the stream is lost")


def test_stream_is_lost_and_found_again_with_another_size(camera: Camera, closing: contextlib.ExitStack) -> None:
    source = build(camera.port, closing)
    source.connect()
    assert [take_wh(source) for _ in range(20)] == [WH] * 20
    lose(camera, source)  # type: ignore[arg-type]
    source.close()
    with pytest.raises(NotConnectedError, match="could not be opened"):
        source.connect()
    camera.start(OTHER_WH)
    find_again(source)
    assert take_wh(source) == OTHER_WH


def test_stall_is_told_and_holds_nobody_up(camera: Camera, closing: contextlib.ExitStack) -> None:
    source = build(camera.port, closing)
    source.connect()
    assert take_wh(source) == WH
    camera.freeze()
    assert read_until_lost(source) < WAIT_S / 4
    source.close()
    camera.cut()
    camera.start()
    find_again(source)
    assert take_wh(source) == WH


class Wire:
    """Between the camera and its reader; what the camera sends arrives as noise while it is `spoilt`.

    While it is `lossy`, each 41st packet of the picture is left out, as by a camera whose network is too slow.
    """

    def __init__(self, port: int) -> None:
        self.spoilt, self.lossy = threading.Event(), threading.Event()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._random = random.Random(7)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more readers."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                reader, _ = self._listener.accept()
                sender = socket.create_connection(("127.0.0.1", self._port))
                for target, one, other in ((self._ask, reader, sender), (self._answer, sender, reader)):
                    threading.Thread(target=target, args=(one, other), daemon=True).start()

    @staticmethod
    def _ask(reader: socket.socket, sender: socket.socket) -> None:
        with contextlib.suppress(OSError), reader, sender:
            while data := reader.recv(65_536):
                sender.sendall(data)

    def _answer(self, sender: socket.socket, reader: socket.socket) -> None:
        with contextlib.suppress(OSError), sender, reader, sender.makefile("rb") as stream:
            for number in itertools.count():
                head = stream.read(1)
                if head == b"$":  # RFC 2326, 10.12: a packet between the lines of text, with its channel and length
                    head += stream.read(3)
                    head += stream.read(int.from_bytes(head[2:]))
                if not head:
                    return
                is_lost = self.lossy.is_set() and head[:2] == b"$\0" and number % 41 == 0
                if not is_lost:
                    reader.sendall(self._random.randbytes(len(head)) if self.spoilt.is_set() else head)


def test_garbage_wedges_nothing_and_frames_come_again_after_it(camera: Camera, closing: contextlib.ExitStack) -> None:
    wire = Wire(camera.port)
    closing.callback(wire.close)
    source = build(wire.port, closing)
    source.connect()
    assert take_wh(source) == WH
    wire.spoilt.set()
    read_until_lost(source)
    source.close()
    with pytest.raises(NotConnectedError, match="could not be opened"):
        source.connect()
    wire.spoilt.clear()
    find_again(source)
    assert take_wh(source) == WH


def measure_roundness(frame: Frame) -> float:
    """Share of the ball's pixels, and of those it should have, that are where a circle of its size has them."""
    assert frame.pixels is not None
    ball = frame.pixels.max(axis=2) > 128
    y, x = np.nonzero(ball)
    rows, columns = np.indices(ball.shape)
    circle = (rows - y.mean()) ** 2 + (columns - x.mean()) ** 2 <= ball.sum() / np.pi
    return float((ball & circle).sum() / (ball | circle).sum())


def read_frames(source: OpencvSource, until: Callable[[list[Frame]], bool]) -> list[Frame]:
    frames: list[Frame] = []
    deadline = time.monotonic() + 2 * WAIT_S
    while not until(frames):
        assert time.monotonic() < deadline
        if (frame := source.read(READ_S)) is not None:
            frames.append(frame)
    return frames


def test_no_torn_frame_is_delivered_as_good_when_packets_are_lost(
    camera: Camera, closing: contextlib.ExitStack
) -> None:
    wire = Wire(camera.port)
    closing.callback(wire.close)
    source = build(wire.port, closing)
    source.connect()
    before = read_frames(source, lambda frames: len(frames) >= 20)
    assert [frame.error for frame in before] == [None] * 20
    wire.lossy.set()
    lost = read_frames(source, lambda frames: sum(frame.error is not None for frame in frames) >= 60)
    wire.lossy.clear()
    after = read_frames(source, lambda frames: len(frames) >= 5 and all(frame.error is None for frame in frames[-5:]))
    assert any("RTP: missed 1 packets" in (frame.error or "") for frame in lost)
    assert all(frame.pixels is None for frame in lost if frame.error is not None)
    least = min(map(measure_roundness, before))
    assert min(measure_roundness(frame) for frame in lost + after if frame.error is None) > least - 0.01


def _measure() -> tuple[int, int, int]:
    """Bytes of memory, open descriptors and children of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096, len(list(Path("/proc/self/fd").iterdir())), len(multiprocessing.active_children())


@pytest.mark.timeout(1200 if IS_LONG else 300)
def test_nothing_grows_when_the_stream_is_opened_again_and_again(camera: Camera, closing: contextlib.ExitStack) -> None:
    source = build(camera.port, closing)
    before = (0, 0, 0)
    for number in range(200 if IS_LONG else 4):
        find_again(source)
        assert take_wh(source) == WH
        source.close()
        if number == 1:  # what is made once, is made
            before = _measure()
    memory, descriptors, children = _measure()
    text = f"opened {number + 1} times: memory {(memory - before[0]) / 1e6:+.1f} MB, descriptors {descriptors}"
    print(text)  # noqa: T201 (what the long form counted)
    assert (descriptors, children) == (before[1], 0)
    assert memory - before[0] < 20e6
