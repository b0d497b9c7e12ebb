"""The contract of a source, kept by folders, OpenCV's streams and the frames socket."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from inspector.config import Camera, Sockets
from inspector.sources.base import Source
from inspector.sources.folder import FolderSettings
from inspector.sources.opencv import OpencvSettings
from inspector.sources.registry import build_receiver
from tests.sources.contract import HW, SourceContract


def encode(suffix: str, value: int, hw: tuple[int, int]) -> bytes:
    return cv2.imencode(suffix, np.full((*hw, 3), value, np.uint8))[1].tobytes()


class FolderRig:
    """A watched folder."""

    never_lost = one_size = ""

    def __init__(self, folder: Path) -> None:
        self._folder, self._away = folder / "in", folder / "away"
        self._folder.mkdir()
        self._count = 0

    def build(self, *, silent: bool = False) -> Source:
        return FolderSettings(type="folder", path=self._folder, watch=True, poll_s=0.01).build("top")

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        self._count += 1
        (self._folder / f"{self._count:04}.png").write_bytes(encode(".png", value, hw))

    def cut(self) -> None:
        self._folder.rename(self._away)

    def restore(self) -> None:
        self._away.rename(self._folder)


class _Stream(BaseHTTPRequestHandler):
    server: StreamServer

    def do_GET(self) -> None:
        """Pictures, until it is taken away."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        left = self.server.count
        while not self.server.over.wait(0.02):
            if left > 0:
                left -= 1
                jpeg = self.server.picture
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                with contextlib.suppress(OSError):  # the reader is gone
                    self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


class StreamServer(ThreadingHTTPServer):
    """A network camera that shows `picture`, `count` times to each who asks."""

    def __init__(self, port: int = 0) -> None:
        self.picture = encode(".jpg", 90, HW)
        self.count = 1_000_000
        self.over = threading.Event()
        super().__init__(("127.0.0.1", port), _Stream)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Hang up on everyone."""
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class OpencvRig:
    """A stream of JPEG pictures over HTTP."""

    never_lost = ""
    one_size = "OpenCV scales every picture of a stream to the size of the first"

    def __init__(self) -> None:
        self._server = StreamServer()
        self._port = self._server.server_port

    def build(self, *, silent: bool = False) -> Source:
        if silent:
            self._server.count = 100  # FFmpeg opens a stream once it has seen some
        url = f"http://127.0.0.1:{self._port}/live.mjpg"
        return OpencvSettings(type="opencv", device=url, read_timeout_s=1.0).build("top")

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        self._server.picture = encode(".jpg", value, HW)

    def cut(self) -> None:
        self._server.stop()

    def restore(self) -> None:
        self._server = StreamServer(self._port)

    def close(self) -> None:
        self._server.stop()


class ZmqRig:
    """The frames socket and a sender."""

    never_lost = "a socket of our own is always there"
    one_size = ""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        with sockets.create_server(("127.0.0.1", 0)) as one, sockets.create_server(("127.0.0.1", 0)) as two:
            ports = one.getsockname()[1], two.getsockname()[1]
        frames, imagezmq = (f"tcp://127.0.0.1:{port}" for port in ports)
        self._endpoints = Sockets(frames=frames, imagezmq=imagezmq)
        self._context = context
        self._sender = context.socket(zmq.PUSH)
        self._sender.connect(frames)
        self._count = 0

    def build(self, *, silent: bool = False) -> Source:
        made = build_receiver({"top": Camera()}, self._endpoints, self._context)
        assert made is not None
        return made

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        self._count += 1
        header = {"camera": "top", "frame_id": str(self._count), "encoding": "raw", "dtype": "uint8"}
        pixels = np.full((*hw, 3), value, np.uint8)
        self._sender.send_multipart([json.dumps(header | {"shape": pixels.shape}).encode(), pixels.data])

    def cut(self) -> None:
        """It cannot be."""

    def restore(self) -> None:
        """It is always there."""

    def close(self) -> None:
        self._sender.close(linger=0)


class TestFolder(SourceContract):
    """Image files."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> FolderRig:
        return FolderRig(tmp_path)


class TestOpencv(SourceContract):
    """A stream."""

    @pytest.fixture
    def rig(self) -> Iterator[OpencvRig]:
        made = OpencvRig()
        yield made
        made.close()


class TestZmq(SourceContract):
    """Frames that are sent."""

    @pytest.fixture
    def rig(self, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[ZmqRig]:
        made = ZmqRig(context)
        yield made
        made.close()
