"""Cameras in a child process, with real files, real streams and children that die or freeze."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.errors import NotConnectedError, SourceError, SourceExhaustedError
from inspector.sources.base import RUN
from inspector.sources.cameras import capture
from inspector.sources.opencv import OpencvSource
from inspector.types import Frame, PixelFormat, Reason

READ_TIMEOUT_S = 1.0
WAIT_S = 20.0
"""More than any answer takes, a slow machine's start of a child included."""
ORANGE = [20, 90, 200]
"""Blue, green, red of the live stream's frames."""
NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def make(device: int | str, **options: Any) -> OpencvSource:
    return OpencvSource("top", device, open_timeout_s=3.0, read_timeout_s=READ_TIMEOUT_S, **options)


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    """Closes what a test hands it, and sees that no child outlives it."""
    with contextlib.ExitStack() as stack:
        yield stack
    left = multiprocessing.active_children()
    for child in left:
        child.kill()
    assert left == []


def open_source(closing: contextlib.ExitStack, device: int | str, **options: Any) -> OpencvSource:
    source = make(device, **options)
    closing.callback(source.close)
    source.connect()
    return source


def child_of(source: OpencvSource) -> Any:
    (child,) = multiprocessing.active_children()
    assert child.name == f"capture-{source.name}"
    return child


def wait_for_data(source: OpencvSource) -> None:
    """Until the child has sent something that nobody has read."""
    assert source._inbox is not None
    assert select.select([source._inbox._socket], [], [], WAIT_S)[0]


def take(source: OpencvSource) -> Frame:
    """The next frame; raises what `read` raises."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        frame = source.read(0.1)
        if frame is not None:
            return frame
    pytest.fail("no frame came")


def read_until_lost(source: OpencvSource) -> tuple[SourceError, list[Frame], int]:
    """What `read` raised in the end, the frames before it, and how often it had to be called."""
    frames, calls, deadline = [], 0, time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        calls += 1
        try:
            frame = source.read(0.1)
        except SourceError as error:
            return error, frames, calls
        if frame is not None:
            frames.append(frame)
    pytest.fail("the source never told that it is lost")


def write_video(path: Path, *pictures: np.ndarray[Any, Any]) -> Path:
    """A Motion JPEG file."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def grey(value: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), value, np.uint8)


def mean_colour(frame: Frame) -> list[int]:
    """Of a frame that is one colour all over."""
    assert frame.pixels is not None
    assert np.ptp(frame.pixels.reshape(-1, 3), axis=0).max() <= 2
    return [round(value) for value in frame.pixels.reshape(-1, 3).mean(axis=0)]


# ---------------------------------------------------------------- a live stream


class _Stream(BaseHTTPRequestHandler):
    """Motion JPEG over HTTP: frames while they flow, then silence, or the start of a frame that never ends."""

    server: MjpegServer

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):  # the reader is gone
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            self._send_frames()

    def _send_frames(self) -> None:
        while not self.server.over.is_set():
            if self.server.cut_short.is_set():
                self.wfile.write(self._part(_NOISE_JPEG)[: len(_NOISE_JPEG) * 3 // 4])
                return
            if self.server.flowing.is_set():
                self.wfile.write(self._part(_ORANGE_JPEG))
            self.server.over.wait(0.02)

    @staticmethod
    def _part(jpeg: bytes) -> bytes:
        return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)


class MjpegServer(ThreadingHTTPServer):
    """A camera on the network, on loopback."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Stream)
        self.flowing, self.cut_short, self.over = threading.Event(), threading.Event(), threading.Event()
        self.flowing.set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/live.mjpg"

    def stop(self) -> None:
        """Hang up on everyone and free the port."""
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


_ORANGE_JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), ORANGE, np.uint8))[1].tobytes()
_NOISE_JPEG = cv2.imencode(".jpg", NOISE)[1].tobytes()


@pytest.fixture
def camera() -> Iterator[MjpegServer]:
    made = MjpegServer()
    yield made
    made.stop()


def assert_live(source: OpencvSource) -> None:
    np.testing.assert_allclose(mean_colour(take(source)), ORANGE, atol=3)


def test_stream_is_lost_in_time_without_spinning_and_comes_back_when_it_goes_silent(
    camera: MjpegServer, closing: contextlib.ExitStack
) -> None:
    source = open_source(closing, camera.url)
    assert not source.can_wait
    for _ in range(3):
        assert_live(source)
    child = child_of(source)
    camera.flowing.clear()
    started = time.monotonic()
    error, frames, calls = read_until_lost(source)
    took_s = time.monotonic() - started
    assert isinstance(error, NotConnectedError)
    assert READ_TIMEOUT_S * 0.8 < took_s < READ_TIMEOUT_S + 5.0
    assert calls - len(frames) < took_s / 0.1 + 2  # each read that gave nothing has waited
    child.join(WAIT_S)
    assert child.exitcode == 0  # it has ended: no loop on a dead stream
    source.close()
    camera.flowing.set()
    source.connect()
    assert_live(source)


def test_connect_fails_while_the_server_is_away_and_works_when_it_is_back(closing: contextlib.ExitStack) -> None:
    camera = MjpegServer()
    source = open_source(closing, camera.url)
    assert_live(source)
    camera.stop()
    error, _, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    source.close()
    with pytest.raises(NotConnectedError, match=r"camera top: 'http://.*' could not be opened"):
        source.connect()
    back = MjpegServer(camera.server_port)
    closing.callback(back.stop)
    source.connect()
    assert_live(source)


def test_frame_cut_short_is_never_delivered_when_the_stream_breaks_off(
    camera: MjpegServer, closing: contextlib.ExitStack
) -> None:
    # Decoders fill what is missing with what was there before: the part before would be judged in its place.
    source = open_source(closing, camera.url)
    assert_live(source)
    camera.cut_short.set()
    error, frames, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    for frame in frames:
        np.testing.assert_allclose(mean_colour(frame), ORANGE, atol=3)


def test_connect_gives_up_in_time_when_a_server_never_answers(closing: contextlib.ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        source = OpencvSource(
            "top", f"http://127.0.0.1:{mute.getsockname()[1]}/", open_timeout_s=0.3, read_timeout_s=READ_TIMEOUT_S
        )
        closing.callback(source.close)
        started = time.monotonic()
        with pytest.raises(NotConnectedError, match="could not be opened"):
            source.connect()
        assert 0.3 <= time.monotonic() - started < 10.0
        assert multiprocessing.active_children() == []


# ---------------------------------------------------------------- the child


def test_read_fails_and_connect_works_again_when_the_child_is_killed(
    camera: MjpegServer, closing: contextlib.ExitStack
) -> None:
    source = open_source(closing, camera.url)
    first = take(source)
    child_of(source).kill()
    error, frames, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    assert "camera top: capture process ended" in str(error)
    source.close()
    source.connect()
    again = take(source)
    # No two frames have the same name, over reconnections too.
    assert [f.frame_id for f in (first, *frames, again)] == [f"top-{RUN}-{n}" for n in range(1, len(frames) + 3)]


def test_frames_that_a_killed_child_handed_over_are_whole_and_then_read_fails(
    tmp_path: Path, closing: contextlib.ExitStack
) -> None:
    video = write_video(tmp_path / "large.avi", *[grey(value, 960, 1280) for value in (50, 60, 70, 80)])
    source = open_source(closing, str(video))
    child = child_of(source)
    wait_for_data(source)
    child.kill()
    child.join(WAIT_S)
    error, frames, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    assert "capture process ended" in str(error)
    assert len(frames) <= 2  # no more than there is room for
    for frame, value in zip(frames, (50, 60), strict=False):
        np.testing.assert_allclose(mean_colour(frame), [value] * 3, atol=3)


def test_read_fails_in_time_and_close_ends_it_when_the_child_is_frozen(
    camera: MjpegServer, closing: contextlib.ExitStack
) -> None:
    source = open_source(closing, camera.url)
    assert_live(source)
    child = child_of(source)
    os.kill(child.pid, signal.SIGSTOP)
    started = time.monotonic()
    error, _, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    assert f"no frame for {READ_TIMEOUT_S} s" in str(error)
    assert time.monotonic() - started < READ_TIMEOUT_S + 5.0
    source.close()
    assert not child.is_alive()


def test_pixels_stay_when_the_child_has_used_their_place_again(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    values = range(20, 240, 20)
    source = open_source(closing, str(write_video(tmp_path / "v.avi", *map(grey, values))))
    frames = [take(source) for _ in values]
    np.testing.assert_allclose([mean_colour(frame) for frame in frames], [[value] * 3 for value in values], atol=3)


def count_shared() -> tuple[int, int]:
    """Of the memory that pictures come in: open files, and mappings."""
    files = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            files += "memfd:pictures" in str(path.readlink())
    return files, Path("/proc/self/maps").read_text().count("/memfd:pictures")


def test_nothing_is_left_of_connections_that_ended(camera: MjpegServer, closing: contextlib.ExitStack) -> None:
    gc.collect()
    files, mappings = count_shared()  # of pictures that tests before still hold
    source = open_source(closing, camera.url)
    assert count_shared() == (files + 1, mappings)
    assert_live(source)
    assert count_shared() == (files + 2, mappings + 1)  # a mapping has a file of its own
    for _ in range(3):
        source.close()
        assert count_shared() == (files, mappings)
        source.connect()
        assert_live(source)


_READER = """
import sys, time
from inspector.sources.opencv import OpencvSource
if __name__ == "__main__":
    source = OpencvSource("top", sys.argv[1], open_timeout_s=3, read_timeout_s=60)
    source.connect()
    while source.read(1) is None:
        pass
    print(source._child.pid, flush=True)
    time.sleep(600)
"""


def test_no_process_and_no_shared_memory_is_left_when_the_daemon_is_killed(camera: MjpegServer, tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(_READER)
    with subprocess.Popen([sys.executable, script, camera.url], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        child = int(reader.stdout.readline())
        maps = [Path(f"/proc/{process}/maps").read_text() for process in (reader.pid, child)]
        assert ["/memfd:pictures" in each for each in maps] == [True, True]
        assert ["/dev/shm/" in each for each in maps] == [False, False]  # noqa: S108 (a name would outlive them)
        reader.kill()
    deadline = time.monotonic() + WAIT_S
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_second_child_is_started_while_the_first_cannot_be_ended(
    camera: MjpegServer, closing: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(closing, camera.url)
    child = child_of(source)
    with monkeypatch.context() as patched:  # as one that hangs in its device's driver
        patched.setattr(child, "kill", lambda: os.kill(child.pid, signal.SIGSTOP))
        started = time.monotonic()
        source.close()
        assert time.monotonic() - started < 5.0
        assert source.is_busy()
        for _ in range(2):
            with pytest.raises(NotConnectedError, match=r"camera top: 'http://.*' hangs; its capture process cannot"):
                source.connect()
        assert multiprocessing.active_children() == [child]
    child.kill()
    child.join(WAIT_S)
    source.connect()
    assert_live(source)
    source.close()
    assert not source.is_busy()


def test_no_file_is_looked_at_when_the_source_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **__: Any) -> os.stat_result:
        raise AssertionError("a dead share would hold up the start of the whole station")

    monkeypatch.setattr(os, "stat", hang)
    make(str(tmp_path / "parts.avi"))


def test_no_child_is_left_when_closed(camera: MjpegServer, closing: contextlib.ExitStack) -> None:
    source = open_source(closing, camera.url)
    pid = child_of(source).pid
    source.connect()  # open already: no second child
    assert child_of(source).pid == pid
    source.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(NotConnectedError, match="not connected"):
        source.read(0)
    source.close()


def test_connect_ends_at_once_when_it_is_interrupted_before_its_child_runs(
    closing: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make("rtsp://192.0.2.1/live")
    closing.callback(source.close)
    start = multiprocessing.context.SpawnProcess.start

    def interrupt_and_start(process: Any) -> None:
        source.interrupt()
        start(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", interrupt_and_start)
    with pytest.raises(NotConnectedError, match="capture process ended"):
        source.connect()


@pytest.mark.parametrize("at", ["socket.socketpair", "os.memfd_create", "multiprocessing.context.SpawnProcess.start"])
def test_connect_fails_with_the_cause_and_leaves_nothing_when_no_child_can_be_started(
    at: str, tmp_path: Path, closing: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    source = make(str(write_video(tmp_path / "parts.avi", grey(90))))
    closing.callback(source.close)
    gc.collect()
    before = count_shared()
    with monkeypatch.context() as patched:
        patched.setattr(at, refuse)
        with pytest.raises(NotConnectedError, match=r"top: cannot start its capture process: .*Too many open files"):
            source.connect()
    assert count_shared() == before
    source.connect()
    assert mean_colour(take(source)) == [88, 90, 88]


# ---------------------------------------------------------------- files and devices


def test_video_file_is_read_to_its_end_when_it_is_whole(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    video = write_video(tmp_path / "parts.avi", *(grey(value) for value in (10, 90, 170, 250)))
    before = time.time_ns()
    source = open_source(closing, str(video), simulated=True)
    frames = [take(source) for _ in range(4)]
    assert source.can_wait
    assert [frame.frame_id for frame in frames] == [f"top-{RUN}-{number}" for number in (1, 2, 3, 4)]
    np.testing.assert_allclose(
        [mean_colour(frame) for frame in frames], [[value] * 3 for value in (10, 90, 170, 250)], atol=3
    )
    for frame in frames:
        assert (frame.camera, frame.pixel_format, frame.simulated) == ("top", PixelFormat.BGR8, True)
        assert frame.pixels is not None
        assert (frame.pixels.shape, frame.pixels.dtype) == ((48, 64, 3), np.uint8)
        assert before < frame.captured_utc_ns <= frame.received_utc_ns <= time.time_ns()
    with pytest.raises(SourceExhaustedError, match=r"camera top: end of .*parts\.avi"):
        take(source)


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1))])
def test_frames_are_refused_and_not_turned_when_the_video_asks_for_it(
    degrees: int, matrix: tuple[int, ...], tmp_path: Path, closing: contextlib.ExitStack
) -> None:
    path = write_mp4(tmp_path / "turned.mp4", matrix)
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[1].shape[:2] == ((64, 48) if degrees == 90 else (48, 64))
    assert capture.open_capture(str(path), 3000, 3000).read()[1].shape[:2] == (48, 64)
    frame = take(open_source(closing, str(path)))
    assert frame.pixels is None
    assert frame.error == f"orientation: must be that of the pixels, got a video to be rotated by {degrees} degrees"


def test_frames_are_delivered_when_the_video_is_upright(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    frame = take(open_source(closing, str(write_mp4(tmp_path / "upright.mp4", (1, 0, 0, 1)))))
    assert frame.pixels is not None
    assert frame.pixels.shape == (48, 64, 3)


def write_mp4(path: Path, matrix: tuple[int, ...]) -> Path:
    """Three frames, and how players are to turn them (ISO/IEC 14496-12, 8.3.2: a fixed-point matrix)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        writer.write(NOISE)
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (each * 65_536 for each in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_last_frame_is_never_delivered_when_the_file_ends_in_its_middle(
    tmp_path: Path, closing: contextlib.ExitStack
) -> None:
    video = write_video(tmp_path / "cut.avi", grey(10), grey(90), NOISE)
    data = video.read_bytes()
    last, index = data.rindex(b"00dc", 0, data.index(b"idx1")), data.index(b"idx1")
    video.write_bytes(data[: (last + index) // 2])
    source = open_source(closing, str(video))
    error, frames, _ = read_until_lost(source)
    assert isinstance(error, SourceExhaustedError)
    np.testing.assert_allclose([mean_colour(frame) for frame in frames], [[10] * 3, [90] * 3], atol=3)


def test_file_goes_on_where_it_was_when_its_child_stalled(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    values = range(20, 240, 10)
    source = open_source(closing, str(write_video(tmp_path / "parts.avi", *map(grey, values))))
    frames = [take(source) for _ in range(5)]
    os.kill(child_of(source).pid, signal.SIGSTOP)
    error, rest, _ = read_until_lost(source)
    assert isinstance(error, NotConnectedError)
    source.close()
    source.connect()
    error, last, _ = read_until_lost(source)
    assert isinstance(error, SourceExhaustedError)
    frames += rest + last
    np.testing.assert_allclose([mean_colour(frame) for frame in frames], [[value] * 3 for value in values], atol=3)
    assert [frame.frame_id for frame in frames] == [f"top-{RUN}-{number + 1}" for number in range(len(values))]


def write_mpeg4(path: Path, damage: bytes) -> list[np.ndarray[Any, Any]]:
    """60 frames with a key frame in 12, damaged from the 16th on; the frames as they were before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    soft = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8), (0, 0), 3)
    for number in range(60):
        writer.write(np.roll(soft, 3 * number, axis=1))
    writer.release()
    reader = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    good = [reader.read()[1] for _ in range(60)]
    data = bytearray(path.read_bytes())
    place = (data.index(b"mdat") + data.rindex(b"moov")) // 3
    data[place : place + len(damage)] = damage
    path.write_bytes(data)
    return good


def test_frames_are_refused_until_the_next_key_frame_when_a_file_is_damaged(
    tmp_path: Path, closing: contextlib.ExitStack
) -> None:
    # The decoder fills what is missing from the frame before: a defect would be painted over.
    good = write_mpeg4(tmp_path / "parts.mp4", b"\xff" * 20)
    source = open_source(closing, str(tmp_path / "parts.mp4"))
    _, frames, _ = read_until_lost(source)
    damaged = [number for number, frame in enumerate(frames) if frame.error is not None]
    assert damaged == list(range(damaged[0], damaged[0] + len(damaged)))
    assert 0 < damaged[0] < damaged[-1] < 59
    assert source.losses == {"damaged": len(damaged)}
    first = frames[damaged[0]]
    assert (first.pixels, first.error_reason) == (None, Reason.BAD_FRAME)
    assert (first.error or "").startswith("image damaged: slice end not reached")
    for frame, picture in zip(frames, good, strict=True):
        assert frame.error is not None or np.array_equal(frame.pixels, picture)


def test_end_says_why_when_a_file_is_too_damaged_to_go_on(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    write_mpeg4(tmp_path / "parts.mp4", bytes(60))
    error, frames, _ = read_until_lost(open_source(closing, str(tmp_path / "parts.mp4")))
    assert isinstance(error, SourceExhaustedError)
    assert len(frames) < 60
    assert "parts.mp4': header damaged" in str(error)


@pytest.mark.parametrize("device", [99, "missing.avi", "text.avi"], ids=str)
def test_connect_fails_and_leaves_no_child_when_the_device_cannot_be_opened(
    tmp_path: Path, closing: contextlib.ExitStack, device: int | str
) -> None:
    (tmp_path / "text.avi").write_text("no video")
    named = str(tmp_path / device) if isinstance(device, str) else device
    source = make(named)
    closing.callback(source.close)
    with pytest.raises(NotConnectedError, match=rf"camera top: .*{device}.* could not be opened"):
        source.connect()
    assert multiprocessing.active_children() == []
    with pytest.raises(NotConnectedError, match="not connected"):
        source.read(0)


def test_connect_works_when_the_file_has_come_since_the_last_try(tmp_path: Path, closing: contextlib.ExitStack) -> None:
    source = make(str(tmp_path / "late.avi"))
    closing.callback(source.close)
    with pytest.raises(NotConnectedError):
        source.connect()
    write_video(tmp_path / "late.avi", grey(90))
    source.connect()
    np.testing.assert_allclose(mean_colour(take(source)), [90] * 3, atol=3)


def test_password_of_a_stream_is_in_no_message() -> None:
    source = OpencvSource("top", "rtsp://viewer:hunter2@127.0.0.1:9/live", open_timeout_s=0.5, read_timeout_s=0.5)
    with pytest.raises(NotConnectedError, match=r"camera top: 'rtsp://\*\*\*@127\.0\.0\.1:9/live' could not be opened"):
        source.connect()
