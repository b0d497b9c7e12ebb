"""Frames over real sockets: PUSH and REQ senders in this process, the source's PULL and ROUTER on loopback."""

from __future__ import annotations

import json
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.codec import decode_image
from inspector.config import Camera, Sockets
from inspector.errors import ConfigError, MessageRefusedError, UnidentifiedFrameError
from inspector.security.gate import Access
from inspector.sources.decoding import Decoding
from inspector.sources.detached import DetachedSource
from inspector.sources.folder import FolderSettings
from inspector.sources.registry import build_receiver, build_sources
from inspector.sources.wire import FrameDecoder
from inspector.sources.zmq import ImagezmqSettings, ZmqSource
from inspector.types import Frame, PixelFormat

CAMERAS = {"top": Camera(), "side": Camera(source=ImagezmqSettings(type="imagezmq", sender="pi"))}
MAX_MESSAGE = 100_000
HEADER: dict[str, Any] = {"camera": "top", "frame_id": "1", "encoding": "raw", "dtype": "uint8", "shape": [2, 3]}
PIXELS = bytes([0, 1, 2, 253, 254, 255])
Connect = Callable[[int, str], zmq.Socket[bytes]]
WAIT_S = 10.0
"""More than any answer takes; nothing waits that long unless it fails."""


@pytest.fixture
def endpoints() -> Sockets:
    """Two ports nobody uses."""
    with sockets.create_server(("127.0.0.1", 0)) as one, sockets.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    frames, imagezmq = (f"tcp://127.0.0.1:{port}" for port in ports)
    return Sockets(frames=frames, imagezmq=imagezmq, max_message=MAX_MESSAGE)


def make(context: zmq.Context[zmq.Socket[bytes]], config: Sockets) -> ZmqSource:
    return ZmqSource(context, config, FrameDecoder(CAMERAS, config.max_message))


@pytest.fixture
def source(context: zmq.Context[zmq.Socket[bytes]], endpoints: Sockets) -> Iterator[ZmqSource]:
    made = make(context, endpoints)
    made.connect()
    yield made
    made.close()


@pytest.fixture
def connect(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Connect]:
    """Make senders that never wait for good; they are closed at the end."""
    made: list[zmq.Socket[bytes]] = []

    def run(kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = context.socket(kind)
        socket.rcvtimeo = socket.sndtimeo = int(WAIT_S * 1000)
        socket.connect(endpoint)
        made.append(socket)
        return socket

    yield run
    for socket in made:
        socket.close(linger=0)


@pytest.fixture
def push(connect: Connect, source: ZmqSource, endpoints: Sockets) -> zmq.Socket[bytes]:
    return connect(zmq.PUSH, endpoints.frames)


@pytest.fixture
def req(connect: Connect, source: ZmqSource, endpoints: Sockets) -> zmq.Socket[bytes]:
    return connect(zmq.REQ, endpoints.imagezmq)


def send(socket: zmq.Socket[bytes], header: Any, pixels: bytes = PIXELS) -> None:
    socket.send_multipart([json.dumps(header).encode(), pixels])


def take(source: ZmqSource) -> Frame:
    frame = source.read(WAIT_S)
    assert frame is not None
    return frame


def take_and_answer(source: ZmqSource) -> Frame:
    """As the ingest thread does once the frame is on record."""
    frame = take(source)
    assert source.awaits_answer()
    source.answer(frame.error)
    return frame


def read_until(source: ZmqSource, timeout_s: float, condition: Callable[[Frame | None], bool]) -> None:
    """Read again and again; fails where it never comes to that."""
    deadline = time.monotonic() + WAIT_S
    while not condition(source.read(timeout_s)):
        assert time.monotonic() < deadline


def values(frame: Frame) -> Any:
    assert frame.pixels is not None, frame.error
    return frame.pixels.tolist()


def wait_until_free(endpoint: str) -> None:
    """Poll until the port can be bound; fails where it never can."""
    port = int(endpoint.rpartition(":")[2])
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            sockets.create_server(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{endpoint} is still in use"
            time.sleep(0.005)


# ---------------------------------------------------------------- PULL


def test_frame_carries_pixels_and_header_when_pushed(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    send(push, HEADER | {"part_id": "p7", "trigger_id": "t8", "captured_utc_ns": 123})
    frame = take(source)
    assert (frame.camera, frame.frame_id, frame.error) == ("top", "1", None)
    assert (frame.part_id, frame.trigger_id, frame.captured_utc_ns) == ("p7", "t8", 123)
    assert frame.pixel_format is PixelFormat.MONO8
    assert values(frame) == [[0, 1, 2], [253, 254, 255]]


def test_frames_come_in_the_order_they_were_sent_when_a_sender_runs_ahead(
    source: ZmqSource, push: zmq.Socket[bytes]
) -> None:
    # Far more than the receive queue holds: what is too much waits at the sender, and nothing is lost.
    for number in range(200):
        send(push, HEADER | {"frame_id": number, "shape": [1, 1]}, bytes([number]))
    frames = [take(source) for _ in range(200)]
    assert [frame.frame_id for frame in frames] == [str(number) for number in range(200)]
    assert [values(frame) for frame in frames] == [[[number]] for number in range(200)]


def test_encoded_frames_are_decoded_when_pushed(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    png = cv2.imencode(".png", np.array([[[255, 0, 0], [0, 0, 9]]], np.uint8))[1].tobytes()
    send(push, {"camera": "top", "frame_id": "1", "encoding": "png"}, png)
    frame = take(source)
    assert frame.pixel_format is PixelFormat.RGB8
    assert values(frame) == [[[0, 0, 255], [9, 0, 0]]]


def test_imagezmq_message_is_the_named_senders_when_pushed(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    send(push, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
    frame = take(source)
    assert (frame.camera, frame.pixel_format) == ("side", PixelFormat.BGR8)
    assert values(frame) == [[[0, 1, 2], [253, 254, 255]]]


def test_read_gives_nothing_in_time_when_nothing_is_sent(source: ZmqSource) -> None:
    started = time.monotonic()
    assert source.read(0.05) is None
    assert 0.04 < time.monotonic() - started < 5.0
    assert source.read(0) is None


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ([b"{}"], "parts"),
        ([b"{}", b"", b""], "parts"),
        ([b"no json", b""], "header"),
        ([b"[]", b""], "header"),
        ([b"{}", b""], "camera"),
        ([b'{"camera": "bottom", "frame_id": "1"}', PIXELS], "camera"),
    ],
    ids=repr,
)
def test_message_is_refused_with_its_cause_when_it_names_no_camera(
    source: ZmqSource, push: zmq.Socket[bytes], parts: list[bytes], cause: str
) -> None:
    push.send_multipart(parts)
    send(push, HEADER)
    with pytest.raises(UnidentifiedFrameError) as fault:
        source.read(WAIT_S)
    assert fault.value.cause == cause
    assert values(take(source)) == [[0, 1, 2], [253, 254, 255]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shape": [2, 4]}, "must be 8 bytes, got 6"),
        ({"shape": [10**4000, 10**4000]}, "shape: must be"),
        ({"encoding": "jpeg"}, "pixels: must be jpeg as their header says"),
        ({"encoding": "gif"}, "encoding: must be raw, jpeg or png"),
    ],
    ids=["shape", "huge shape", "no jpeg", "encoding"],
)
def test_frame_says_why_it_has_no_pixels_when_its_pixels_are_bad(
    source: ZmqSource, push: zmq.Socket[bytes], change: dict[str, Any], why: str
) -> None:
    send(push, HEADER | {"part_id": "p7"} | change)
    frame = take(source)
    assert (frame.camera, frame.frame_id, frame.part_id, frame.pixels) == ("top", "1", "p7", None)
    assert why in (frame.error or "")


def test_too_large_a_frame_is_named_when_it_is_within_twice_the_limit(
    source: ZmqSource, push: zmq.Socket[bytes]
) -> None:
    send(push, HEADER | {"shape": [1, MAX_MESSAGE + 1]}, bytes(MAX_MESSAGE + 1))
    frame = take(source)
    assert (frame.frame_id, frame.pixels) == ("1", None)
    assert f"must be at most {MAX_MESSAGE} bytes, got {MAX_MESSAGE + 1}" in (frame.error or "")


def test_sender_is_cut_off_and_others_are_served_when_a_message_is_beyond_twice_the_limit(
    connect: Connect, source: ZmqSource, push: zmq.Socket[bytes], endpoints: Sockets
) -> None:
    monitor = push.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    send(push, HEADER, bytes(2 * MAX_MESSAGE + 1))
    cut_off = monitor.poll(WAIT_S * 1000)
    push.disable_monitor()
    monitor.close(linger=0)
    assert cut_off
    other = connect(zmq.PUSH, endpoints.frames)
    send(other, HEADER | {"frame_id": "2"})
    assert take(source).frame_id == "2"


# ---------------------------------------------------------------- ROUTER


def test_req_sender_is_answered_ok_when_its_frame_is_good(source: ZmqSource, req: zmq.Socket[bytes]) -> None:
    for number in range(3):
        send(req, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]}, bytes([number] * 6))
        frame = take_and_answer(source)
        assert (frame.camera, frame.pixel_format) == ("side", PixelFormat.BGR8)
        assert values(frame) == [[[number] * 3] * 2]
        assert req.recv() == b"OK"


def test_req_sender_is_answered_ok_when_it_sends_a_jpeg(source: ZmqSource, req: zmq.Socket[bytes]) -> None:
    jpeg = cv2.imencode(".jpg", np.full((8, 8, 3), (20, 90, 200), np.uint8))[1].tobytes()
    send(req, {"msg": "pi"}, jpeg)
    frame = take_and_answer(source)
    assert frame.pixel_format is PixelFormat.RGB8
    np.testing.assert_allclose(values(frame), np.full((8, 8, 3), (200, 90, 20)), atol=2)
    assert req.recv() == b"OK"


def test_req_sender_is_told_why_when_its_pixels_are_bad(source: ZmqSource, req: zmq.Socket[bytes]) -> None:
    send(req, {"msg": "pi", "dtype": "uint8", "shape": [5, 5, 3]})
    frame = take_and_answer(source)
    assert (frame.camera, frame.pixels) == ("side", None)
    answer = req.recv().decode()
    assert answer == f"ERROR {frame.error}"
    assert "must be 75 bytes, got 6" in answer


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"{}"],
        [b"not json", PIXELS],
        [b'{"msg": "stranger"}', PIXELS],
        [b'{"msg": "\\ud800"}', PIXELS],
        [b"{}", PIXELS, b"more", b"parts"],
    ],
    ids=repr,
)
def test_req_sender_is_answered_and_can_go_on_when_its_message_names_no_camera(
    source: ZmqSource, req: zmq.Socket[bytes], parts: list[bytes]
) -> None:
    req.send_multipart(parts)
    with pytest.raises(UnidentifiedFrameError) as fault:
        source.read(WAIT_S)
    assert req.recv().decode() == f"ERROR {fault.value}"
    send(req, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
    assert take_and_answer(source).error is None
    assert req.recv() == b"OK"


@pytest.mark.parametrize("parts", [[b""], [b"x"], [b"x", b"y", b"z"]], ids=repr)
def test_sender_is_answered_when_it_does_not_speak_req(
    connect: Connect, source: ZmqSource, endpoints: Sockets, parts: list[bytes]
) -> None:
    dealer = connect(zmq.DEALER, endpoints.imagezmq)
    dealer.send_multipart(parts)
    with pytest.raises(UnidentifiedFrameError) as fault:
        source.read(WAIT_S)
    assert fault.value.cause == "parts"
    assert dealer.recv_multipart() == [b"", f"ERROR {fault.value}".encode()]


def test_req_sender_is_answered_ok_when_it_sends_our_own_form(source: ZmqSource, req: zmq.Socket[bytes]) -> None:
    send(req, HEADER | {"part_id": "p7"})
    frame = take_and_answer(source)
    assert (frame.camera, frame.frame_id, frame.part_id) == ("top", "1", "p7")
    assert values(frame) == [[0, 1, 2], [253, 254, 255]]
    assert req.recv() == b"OK"


def test_req_sender_is_answered_only_when_the_source_is_told_to(source: ZmqSource, req: zmq.Socket[bytes]) -> None:
    send(req, HEADER)
    take(source)
    assert source.awaits_answer()
    assert not req.poll(100)
    source.answer("not on record: the disk is full")
    assert req.recv() == b"ERROR not on record: the disk is full"
    assert not source.awaits_answer()
    source.answer(None)  # once only: REQ would take a second for the answer to its next
    send(req, HEADER | {"frame_id": "2"})
    assert take(source).frame_id == "2"
    assert not req.poll(100)


def test_each_sender_gets_its_own_answer_when_it_is_given_after_others_frames_were_read(
    connect: Connect, source: ZmqSource, endpoints: Sockets
) -> None:
    senders, answers = [connect(zmq.REQ, endpoints.imagezmq) for _ in range(2)], []
    for number, sender in enumerate(senders):
        send(sender, HEADER | {"frame_id": number})
        take(source)
        answers.append(source.defer_answer())
        assert not source.awaits_answer()
    answers[1](None)
    answers[0]("the disk is full")
    assert [sender.recv() for sender in senders] == [b"ERROR the disk is full", b"OK"]


def test_source_knows_whether_anything_lay_unread(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    assert source.read(0) is None
    assert source.is_caught_up
    send(push, HEADER)
    take(source)
    for number in range(3):
        send(push, HEADER | {"frame_id": number})
    take(source)  # once one has come, the others are there too, or will be soon
    while source.is_caught_up:
        send(push, HEADER)
        send(push, HEADER)
        time.sleep(0.05)
        take(source)
    while source.read(0.05) is not None:
        pass
    assert source.is_caught_up


def test_message_that_is_there_is_read_though_no_time_is_left(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    send(push, HEADER)
    read_until(source, 0.0, lambda frame: frame is not None)


def test_no_sender_is_answered_when_a_pushed_frame_was_read(
    source: ZmqSource, push: zmq.Socket[bytes], req: zmq.Socket[bytes]
) -> None:
    send(req, HEADER)
    take(source)
    send(push, HEADER)
    take(source)
    assert not source.awaits_answer()
    source.answer(None)
    assert not req.poll(100)


def test_frame_is_kept_when_its_req_sender_is_gone_before_the_answer(
    context: zmq.Context[zmq.Socket[bytes]], source: ZmqSource, req: zmq.Socket[bytes], endpoints: Sockets
) -> None:
    gone = context.socket(zmq.REQ)
    gone.connect(endpoints.imagezmq)
    send(gone, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
    gone.close(linger=int(WAIT_S * 1000))  # gone as soon as the message is on its way
    assert take_and_answer(source).camera == "side"
    send(req, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
    assert take_and_answer(source).camera == "side"
    assert req.recv() == b"OK"


def test_req_sender_that_numbers_its_requests_may_send_again_before_the_answer(
    connect: Connect, source: ZmqSource, endpoints: Sockets
) -> None:
    """What a sender needs that is not to wait for ever for a station that was killed."""
    sender = connect(zmq.REQ, endpoints.imagezmq)
    sender.setsockopt(zmq.REQ_RELAXED, 1)
    sender.setsockopt(zmq.REQ_CORRELATE, 1)
    for frame_id in ("1", "1 again"):
        send(sender, HEADER | {"frame_id": frame_id})
        assert take(source).frame_id == frame_id
        if frame_id == "1":
            source.answer("the answer to the first, which nobody waits for any more")
    source.answer(None)
    assert sender.recv() == b"OK"


def test_req_sender_is_told_when_the_source_ends_before_its_frame_is_on_record(
    source: ZmqSource, req: zmq.Socket[bytes]
) -> None:
    left: list[zmq.Socket[bytes]] = []
    source.leave = left.append
    send(req, HEADER)
    take(source)
    source.close()
    assert req.recv() == b"ERROR SHUTDOWN: the station stopped before the frame was recorded"
    assert [socket.type for socket in left] == [zmq.ROUTER]
    left[0].close(linger=0)


def test_req_senders_get_each_their_own_answer_when_there_are_many(
    connect: Connect, source: ZmqSource, endpoints: Sockets
) -> None:
    senders = [connect(zmq.REQ, endpoints.imagezmq) for _ in range(5)]
    for number, sender in enumerate(senders, start=10):
        send(sender, {"msg": "pi", "dtype": "uint8", "shape": [1, number]})
    assert [take_and_answer(source).pixels for _ in senders] == [None] * 5
    for number, sender in enumerate(senders, start=10):
        assert f"must be {number} bytes, got 6".encode() in sender.recv()


def test_req_sender_is_answered_when_a_push_sender_never_pauses(
    source: ZmqSource, push: zmq.Socket[bytes], req: zmq.Socket[bytes]
) -> None:
    for number in range(100):
        send(push, HEADER | {"frame_id": number})
    cameras = []
    for _ in range(3):
        send(req, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
        wait_until_both_have_something(source)
        for _ in range(2):
            cameras.append(take(source).camera)
            source.answer(None)
        assert req.poll(WAIT_S * 1000)
        assert req.recv() == b"OK"
    assert sorted(cameras) == ["side"] * 3 + ["top"] * 3


def wait_until_both_have_something(source: ZmqSource) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(source._poller.poll(1000)) < 2:
        assert time.monotonic() < deadline


# ---------------------------------------------------------------- binding


def test_both_sockets_are_bound_when_no_camera_is_imagezmq(
    context: zmq.Context[zmq.Socket[bytes]], connect: Connect, endpoints: Sockets
) -> None:
    source = ZmqSource(context, endpoints, FrameDecoder({"top": Camera()}, MAX_MESSAGE))
    source.connect()
    for kind, endpoint in ((zmq.PUSH, endpoints.frames), (zmq.REQ, endpoints.imagezmq)):
        send(connect(kind, endpoint), HEADER | {"frame_id": endpoint})
        assert take(source).frame_id == endpoint
    source.close()


def test_each_station_has_one_zmq_source_when_any_camera_takes_its_frames_there(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    folder = {"files": Camera(source=FolderSettings(type="folder", path=tmp_path))}
    receiver = build_receiver(CAMERAS | folder, Sockets(), context)
    assert receiver is not None
    assert receiver.cameras == ("top", "side")
    assert build_receiver(folder, Sockets(), context) is None
    (files,) = build_sources(CAMERAS | folder)
    assert files.cameras == ("files",)
    assert isinstance(files, DetachedSource)  # a share may hang
    assert not files.awaits_answer()
    assert not receiver.awaits_answer()


def test_frames_come_when_the_endpoint_is_a_file(
    context: zmq.Context[zmq.Socket[bytes]], connect: Connect, tmp_path: Path
) -> None:
    config = Sockets(frames=f"ipc://{tmp_path}/frames", imagezmq=f"ipc://{tmp_path}/requests", max_message=MAX_MESSAGE)
    source = make(context, config)
    source.connect()
    push = connect(zmq.PUSH, config.frames)
    send(push, HEADER)
    assert values(take(source)) == [[0, 1, 2], [253, 254, 255]]
    source.close()


def test_connect_does_nothing_when_it_is_open(source: ZmqSource, push: zmq.Socket[bytes]) -> None:
    send(push, HEADER)
    source.connect()
    assert take(source).frame_id == "1"


@pytest.mark.parametrize("field", ["frames", "imagezmq"])
def test_connect_is_refused_naming_the_field_when_a_port_is_taken(
    context: zmq.Context[zmq.Socket[bytes]], connect: Connect, endpoints: Sockets, field: str
) -> None:
    endpoint = getattr(endpoints, field)
    source = make(context, endpoints)
    with sockets.create_server(("127.0.0.1", int(endpoint.rpartition(":")[2]))):
        with pytest.raises(
            ConfigError, match=rf"sockets\.{field}: must be .* got '{endpoint}': Address already in use"
        ):
            source.connect()
        source.close()
    for released in (endpoints.frames, endpoints.imagezmq):
        wait_until_free(released)
    source.connect()
    push = connect(zmq.PUSH, endpoints.frames)
    send(push, HEADER)
    assert take(source).frame_id == "1"
    source.close()


def test_connect_is_refused_when_both_endpoints_are_the_same(
    context: zmq.Context[zmq.Socket[bytes]], endpoints: Sockets
) -> None:
    source = make(context, endpoints.model_copy(update={"imagezmq": endpoints.frames}))
    with pytest.raises(ConfigError, match=r"sockets\.imagezmq: .*Address already in use"):
        source.connect()
    source.close()


def test_close_releases_the_ports_and_frames_come_again_when_connected_anew(
    source: ZmqSource, push: zmq.Socket[bytes], connect: Connect, endpoints: Sockets
) -> None:
    send(push, HEADER)
    assert take(source).frame_id == "1"
    source.close()
    assert source.read(0) is None
    source.close()
    for endpoint in (endpoints.frames, endpoints.imagezmq):
        wait_until_free(endpoint)
    source.connect()
    req = connect(zmq.REQ, endpoints.imagezmq)
    send(req, {"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]})
    assert take_and_answer(source).camera == "side"
    assert req.recv() == b"OK"
    # The first sender was never told. It connects again by itself; what it sends before it notices is lost.
    frame, deadline = None, time.monotonic() + WAIT_S
    while frame is None and time.monotonic() < deadline:
        send(push, HEADER | {"frame_id": "2"})
        frame = source.read(0.05)
    assert frame is not None
    assert frame.frame_id == "2"


# ---------------------------------------------------------------- limits


def test_req_sender_is_told_when_it_is_too_fast_and_nothing_is_decoded(
    context: zmq.Context[zmq.Socket[bytes]], connect: Connect, endpoints: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, str]] = []
    access = Access(max_rate=1, count=lambda *refused: counted.append(refused))
    source = ZmqSource(context, endpoints, FrameDecoder(CAMERAS, MAX_MESSAGE), access)
    source.connect()
    req = connect(zmq.REQ, endpoints.imagezmq)
    send(req, HEADER)
    assert take_and_answer(source).frame_id == "1"
    assert req.recv() == b"OK"
    monkeypatch.setattr(source._decoder, "decode", None)
    send(req, HEADER)
    with pytest.raises(MessageRefusedError) as fault:
        source.read(WAIT_S)
    assert fault.value.cause == "rate"
    why = b"ERROR messages: must be at most 1 per second, got more from unauthenticated 127.0.0.1"
    assert req.recv() == why
    assert counted == [("imagezmq", "rate")]
    source.close()


def test_message_of_very_many_parts_is_refused_and_the_next_is_read(
    source: ZmqSource, push: zmq.Socket[bytes], req: zmq.Socket[bytes]
) -> None:
    for sender in (push, req):
        sender.send_multipart([b"part"] * 10_000)
        with pytest.raises(MessageRefusedError, match=r"must have at most 32 parts, got 1000[02]") as fault:
            source.read(WAIT_S)
        assert fault.value.cause == "parts"
    assert req.recv().startswith(b"ERROR message: must have at most 32 parts")
    send(push, HEADER)
    assert values(take(source)) == [[0, 1, 2], [253, 254, 255]]


# ---------------------------------------------------------------- decoding beside reading


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """JPEGs take until this is set."""
    may_end = threading.Event()

    def decode_slowly(data: bytes, **bounds: Any) -> Any:
        assert may_end.wait(WAIT_S)
        return decode_image(data, **bounds)

    monkeypatch.setattr("inspector.sources.wire.decode_image", decode_slowly)
    yield may_end
    may_end.set()


@pytest.fixture
def beside(context: zmq.Context[zmq.Socket[bytes]], endpoints: Sockets, slow: threading.Event) -> Iterator[ZmqSource]:
    """A source with two threads that decode."""
    decoding = Decoding(threads=2, max_bytes=MAX_MESSAGE)
    made = ZmqSource(context, endpoints, FrameDecoder(CAMERAS, MAX_MESSAGE), decoding=decoding)
    made.connect()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            decoding.work(0.05)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield made
    slow.set()
    is_over.set()
    for thread in threads:
        thread.join(WAIT_S)
    made.close()


JPEG = HEADER | {"encoding": "jpeg"}
PICTURE = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()


def test_frames_of_other_cameras_are_read_while_a_picture_is_being_decoded(
    beside: ZmqSource, slow: threading.Event, connect: Connect, endpoints: Sockets
) -> None:
    push = connect(zmq.PUSH, endpoints.frames)
    for number in (1, 2):
        send(push, JPEG | {"frame_id": number}, PICTURE)
    for number in (3, 4):
        send(push, {"msg": "pi", "dtype": "uint8", "shape": [2, 3]})
        assert take(beside).camera == "side", number
    slow.set()
    assert [take(beside).frame_id for _ in range(2)] == ["1", "2"]


def test_each_sender_that_waits_is_answered_for_its_own_frame_whichever_is_decoded_first(
    beside: ZmqSource, slow: threading.Event, connect: Connect, endpoints: Sockets
) -> None:
    broken, raw = (connect(zmq.REQ, endpoints.imagezmq) for _ in range(2))
    send(broken, JPEG | {"frame_id": "broken"}, PICTURE[:50])
    read_until(beside, 0.05, lambda frame: frame is None and len(beside._decoding) == 1)
    send(raw, {"msg": "pi", "dtype": "uint8", "shape": [2, 3]})
    assert take_and_answer(beside).camera == "side"
    assert raw.recv() == b"OK"
    assert not broken.poll(50)
    slow.set()
    assert take_and_answer(beside).frame_id == "broken"
    assert broken.recv().startswith(b"ERROR ")


def test_what_was_read_is_given_after_the_interrupt_and_nothing_more_is_read(
    beside: ZmqSource, slow: threading.Event, connect: Connect, endpoints: Sockets
) -> None:
    push = connect(zmq.PUSH, endpoints.frames)
    send(push, JPEG, PICTURE)
    read_until(beside, 0.05, lambda frame: frame is None and len(beside._decoding) == 1)
    beside.interrupt()
    send(push, HEADER | {"frame_id": "unread"})
    assert beside.read(0.2) is None
    slow.set()
    assert [frame.frame_id for frame in beside.drain(WAIT_S)] == ["1"]


def test_sender_that_waits_is_answered_when_the_source_closes_before_its_picture_is_decoded(
    beside: ZmqSource, connect: Connect, endpoints: Sockets
) -> None:
    req = connect(zmq.REQ, endpoints.imagezmq)
    send(req, JPEG, PICTURE)
    read_until(beside, 0.05, lambda frame: frame is None and len(beside._decoding) == 1)
    kept: list[zmq.Socket[bytes]] = []
    beside.leave = kept.append
    beside.close()
    assert req.recv() == b"ERROR SHUTDOWN: the station stopped before the frame was recorded"
    for socket in kept:
        socket.close(linger=0)


def test_no_more_is_read_than_can_be_decoded_soon(
    beside: ZmqSource, slow: threading.Event, connect: Connect, endpoints: Sockets
) -> None:
    push = connect(zmq.PUSH, endpoints.frames)
    for number in range(6):
        send(push, JPEG | {"frame_id": number}, PICTURE)
    send(push, HEADER | {"frame_id": "raw"})
    read_until(beside, 0.05, lambda frame: frame is None and len(beside._decoding) == 3)
    read_until(beside, 0.05, lambda frame: frame is None and not beside.is_caught_up)
    assert len(beside._decoding) == 3
    slow.set()
    assert [take(beside).frame_id for _ in range(7)] == ["0", "1", "2", "3", "4", "5", "raw"]
