"""While a station stops, who sends frames by REQ is told so, until the end; then the socket is closed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from inspector.config import Camera, Sockets
from inspector.service.control.refuser import Refuser
from inspector.sources.wire import FrameDecoder
from inspector.sources.zmq import ImagezmqSettings, ZmqSource

WAIT_MS = 10_000
REFUSED = b"ERROR SHUTDOWN: the station is stopping and accepts no frames"
FRAME = [json.dumps({"msg": "pi", "dtype": "uint8", "shape": [1, 2, 3]}).encode(), bytes(6)]
Connect = Callable[[], zmq.Socket[bytes]]


@pytest.fixture
def refuser() -> Refuser:
    return Refuser()


@pytest.fixture
def source(context: zmq.Context[zmq.Socket[bytes]], refuser: Refuser) -> ZmqSource:
    """Connected; at its end it leaves who waits to the refuser."""
    sockets = Sockets.model_construct(frames="inproc://frames", imagezmq="inproc://imagezmq", max_message=1000)
    cameras = {"side": Camera(source=ImagezmqSettings(type="imagezmq", sender="pi"))}
    made = ZmqSource(context, sockets, FrameDecoder(cameras, 1000))
    made.leave = refuser.adopt
    made.connect()
    return made


@pytest.fixture
def connect(context: zmq.Context[zmq.Socket[bytes]], source: ZmqSource) -> Iterator[Connect]:
    made = []

    def run() -> zmq.Socket[bytes]:
        made.append(context.socket(zmq.REQ))
        made[-1].rcvtimeo = WAIT_MS
        made[-1].connect("inproc://imagezmq")
        return made[-1]

    yield run
    for socket in made:
        socket.close(linger=0)


def test_frames_are_refused_from_the_source_s_end_to_the_refuser_s(
    refuser: Refuser,
    source: ZmqSource,
    connect: Connect,
    launch: Callable[[Any], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting, later = connect(), connect()
    waiting.send_multipart(FRAME)
    source.close()
    with caplog.at_level(logging.INFO):
        launch(refuser)
        assert waiting.recv() == REFUSED
        for _ in range(2):
            later.send_multipart(FRAME)
            assert later.recv() == REFUSED
        waiting.send_multipart(FRAME)
        refuser.stop()
        assert waiting.recv() == REFUSED  # the last turn counts too
        refuser.join(WAIT_MS / 1000)
    assert caplog.messages == [
        "4 frames arrived while the station was stopping: none was judged, their senders were informed"
    ]


def test_socket_is_closed_at_the_end_when_nobody_came(
    context: zmq.Context[zmq.Socket[bytes]], refuser: Refuser, source: ZmqSource, end: Callable[[Any], None]
) -> None:
    source.close()
    refuser.start()
    end(refuser)
    deadline = time.monotonic() + WAIT_MS / 1000
    with context.socket(zmq.ROUTER) as following:
        while True:
            try:
                following.bind("inproc://imagezmq")
                return
            except zmq.ZMQError:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_refuser_ends_when_it_was_given_no_socket(refuser: Refuser, end: Callable[[Any], None]) -> None:
    refuser.start()
    end(refuser)


def test_sender_that_never_pauses_is_answered_a_few_times_a_second(
    refuser: Refuser, source: ZmqSource, connect: Connect, launch: Callable[[Any], Any]
) -> None:
    """The last frames are being judged meanwhile, perhaps on the same cores."""
    socket = connect()
    source.close()
    launch(refuser)
    started = time.monotonic()
    for _ in range(5):
        socket.send_multipart(FRAME)
        assert socket.recv() == REFUSED
    assert time.monotonic() - started > 0.35
