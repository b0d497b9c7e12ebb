"""Frames over ZeroMQ: the PULL socket for our senders (and imagezmq PUSH), the ROUTER socket for imagezmq REQ."""

from __future__ import annotations

import zmq

from inspector.config import Sockets
from inspector.errors import UnidentifiedFrameError
from inspector.sockets import bind
from inspector.sources.wire import FrameDecoder
from inspector.types import Frame

_RECEIVE_QUEUE = 4
"""High-water mark in messages: frames wait in the byte-bounded buffer, not here where nobody counts them."""


class ZmqSource:
    """All cameras of type zmq and imagezmq: a socket can be read by one thread only."""

    name = "zmq"
    can_wait = False

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], sockets: Sockets, decoder: FrameDecoder,
                 *, imagezmq: bool) -> None:  # fmt: skip
        self.cameras = decoder.cameras
        self._context = context
        self._config = sockets
        self._decoder = decoder
        self._endpoints = [(sockets.frames, zmq.PULL), *([(sockets.imagezmq, zmq.ROUTER)] if imagezmq else [])]
        self._sockets: list[zmq.Socket[bytes]] = []
        self._poller = zmq.Poller()

    def connect(self) -> None:
        """Bind.

        Raises:
            ConfigError: an endpoint is in use or not ours.
        """
        if self._sockets:
            return
        for endpoint, kind in self._endpoints:
            socket = self._context.socket(kind)
            socket.linger = 0
            socket.rcvhwm = _RECEIVE_QUEUE
            # libzmq hangs up on anything larger; up to here a frame can still be named and answered.
            socket.maxmsgsize = 2 * self._config.max_message
            self._sockets.append(socket)
            bind(socket, endpoint, "sockets.frames" if kind == zmq.PULL else "sockets.imagezmq")
            self._poller.register(socket, zmq.POLLIN)

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source.read`. A REQ sender is answered at once, whatever it sent, so that it never hangs."""
        ready = dict(self._poller.poll(int(timeout_s * 1000)))
        if not ready:
            return None
        # In turns: senders that never pause on one socket must not keep those on the other from being answered.
        socket = next(socket for socket in self._sockets if socket in ready)
        self._sockets.sort(key=lambda each: each is socket)
        parts = [part.buffer for part in socket.recv_multipart(copy=False)]
        if socket.type == zmq.PULL:
            return self._decoder.decode(parts)
        return self._answer(socket, parts)

    def _answer(self, socket: zmq.Socket[bytes], parts: list[memoryview]) -> Frame:
        reply = b"OK"
        try:
            if len(parts) < 3 or len(parts[1]):
                raise UnidentifiedFrameError("parts", f"REQ message: must be [id, empty, …], got {len(parts)} parts")
            frame = self._decoder.decode(parts[2:])
            reply = b"OK" if frame.error is None else f"ERROR {frame.error}".encode()
        except UnidentifiedFrameError as error:
            reply = f"ERROR {error}".encode()
            raise
        finally:
            # NOBLOCK: a sender that is gone must not hold this thread.
            socket.send_multipart([bytes(parts[0]), b"", reply], flags=zmq.NOBLOCK)
        return frame

    def close(self) -> None:
        """Unbind."""
        for socket in self._sockets:
            socket.close(linger=0)
        self._sockets = []
        self._poller = zmq.Poller()
