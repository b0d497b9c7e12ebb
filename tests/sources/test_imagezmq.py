"""The real imagezmq's sender where it publishes: raw and JPEG, lost and found again."""

from __future__ import annotations

import socket as sockets
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from pydantic import ValidationError

from inspector.config import Camera, Sockets
from inspector.errors import NotConnectedError, UnidentifiedFrameError
from inspector.sources.base import Source
from inspector.sources.imagezmq import ImagezmqSubscription
from inspector.sources.registry import build_receiver
from inspector.sources.zmq import ImagezmqSettings
from inspector.strict.claims import find_conflicts
from inspector.types import Frame, PixelFormat
from tests.sources.contract import HW, READ_S, WAIT_S, SourceContract, lose

imagezmq = pytest.importorskip("imagezmq", reason="the dev extra installs imagezmq")
ORANGE = np.full((*HW, 3), (20, 90, 200), np.uint8)
"""Blue, green, red."""


class Publisher:
    """A sender that sends `picture` again and again, under `text`: what nobody hears yet is lost."""

    never_lost = ""
    one_size = "it sends by itself"

    def __init__(self) -> None:
        with sockets.create_server(("127.0.0.1", 0)) as free:
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.picture, self.text, self.is_jpeg, self.is_silent = ORANGE, "pi", False, False
        self._over = threading.Event()
        self.restore()

    def _send(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pyzmq's, at imagezmq
            sender = imagezmq.ImageSender(connect_to=self.address, REQ_REP=False)
        sender.zmq_socket.linger = 0
        while not self._over.wait(0.02):
            if self.is_silent:
                continue
            if self.is_jpeg:
                sender.send_jpg(self.text, cv2.imencode(".jpg", self.picture)[1])
            else:
                sender.send_image(self.text, self.picture)
        sender.close()

    def build(self, *, silent: bool = False) -> Source:
        self.is_silent = silent
        source = ImagezmqSettings(type="imagezmq", sender="pi", subscribe=self.address).build("top")
        assert isinstance(source, ImagezmqSubscription)
        source.connect_s = 1.0
        return source

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        self.picture = np.full((*hw, 3), value, np.uint8)

    def cut(self) -> None:
        self._over.set()
        self._thread.join()

    def restore(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.cut()


@pytest.fixture
def source(publisher: Publisher) -> Iterator[Source]:
    made = publisher.build()
    made.connect()
    yield made
    made.close()


def take(source: Source, is_wanted: Any = lambda frame: True) -> Frame:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (frame := source.read(READ_S)) is not None and is_wanted(frame):
            return frame
    pytest.fail("no frame came")


def test_raw_pictures_come_as_they_were_sent(publisher: Publisher, source: Source) -> None:
    frame = take(source)
    assert (frame.camera, frame.pixel_format, frame.error) == ("top", PixelFormat.BGR8, None)
    np.testing.assert_array_equal(frame.pixels, ORANGE)


def test_jpeg_pictures_come_decoded(publisher: Publisher, source: Source) -> None:
    publisher.is_jpeg = True
    frame = take(source, lambda frame: frame.pixel_format is PixelFormat.RGB8)
    assert frame.pixels is not None
    assert np.abs(frame.pixels.astype(int) - (200, 90, 20)).max() <= 4


def test_text_of_another_sender_is_no_frame(publisher: Publisher, source: Source) -> None:
    publisher.text = "stranger"
    with pytest.raises(UnidentifiedFrameError, match="'stranger'"):
        take(source, lambda frame: False)


def test_sender_that_is_gone_is_told(publisher: Publisher, source: Source) -> None:
    take(source)
    lose(publisher, source)
    source.close()
    with pytest.raises(NotConnectedError, match=f"camera top: nobody publishes at {publisher.address}"):
        source.connect()


def test_connect_ends_when_it_is_interrupted() -> None:
    source = ImagezmqSettings(type="imagezmq", subscribe="tcp://127.0.0.1:9").build("top")
    assert isinstance(source, ImagezmqSubscription)
    source.connect_s = 2 * WAIT_S
    threading.Timer(0.2, source.interrupt).start()
    started = time.monotonic()
    with pytest.raises(NotConnectedError):
        source.connect()
    assert time.monotonic() - started < WAIT_S


def test_subscription_takes_no_frames_from_the_stations_sockets(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    away = Camera(source=ImagezmqSettings(type="imagezmq", subscribe="tcp://192.0.2.7:5555"))
    assert build_receiver({"top": away}, Sockets(), context) is None
    receiver = build_receiver({"top": away, "side": Camera()}, Sockets(), context)
    assert receiver is not None
    assert receiver.cameras == ("side",)


@pytest.mark.parametrize("address", ["tcp://host", "pi:5555", "udp://host:5555", "tcp://a b:5"])
def test_address_that_nobody_can_publish_at_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match=r"subscribe\n.*must be tcp://HOST:PORT or ipc://PATH"):
        ImagezmqSettings(type="imagezmq", subscribe=address)


def test_two_cameras_cannot_have_one_publisher(tmp_path: Any) -> None:
    settings = ImagezmqSettings(type="imagezmq", subscribe="tcp://192.0.2.7:5555")
    claims = [*settings.list_claims("top", tmp_path), *settings.list_claims("side", tmp_path)]
    assert [field for field, _ in find_conflicts(claims)] == [("side", "source", "subscribe")]


class TestImagezmqSubscription(SourceContract):
    """A sender that publishes."""

    @pytest.fixture
    def rig(self, publisher: Publisher) -> Publisher:
        return publisher
