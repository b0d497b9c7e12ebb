"""Frames of an imagezmq sender that publishes (its form without REQ): the sender binds, and the station subscribes."""

from __future__ import annotations

import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from inspector.errors import NotConnectedError
from inspector.security.sockets import receive
from inspector.sources.base import Unanswering
from inspector.sources.wire import FrameDecoder
from inspector.types import Frame

_RECEIVE_QUEUE = 4
"""High-water mark in messages: beyond that the sender drops frames, as it does for one that does not listen."""
_HEARTBEAT_MS, _SILENCE_MS = 1000, 3000
"""How often the sender is asked whether it is there, and how long it may say nothing: libzmq answers for it."""
_SLICE_MS = 100


class ImagezmqSubscription(Unanswering):
    """One camera. What the sender publishes while it is not connected is lost, and nobody can count it."""

    can_wait = False
    connect_s = 5.0

    def __init__(self, camera: str, address: str, decoder: FrameDecoder, max_bytes: int) -> None:
        """`decoder` takes frames of this camera; `max_bytes` limits a message."""
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._address = address
        self._decoder = decoder
        self._max_bytes = max_bytes
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._is_interrupted = False

    def connect(self) -> None:
        """Subscribe.

        Raises:
            NotConnectedError: nobody publishes there.
        """
        if self._socket is not None:
            return
        self._context = zmq.Context()
        self._socket = socket = self._context.socket(zmq.SUB)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        socket.linger, socket.rcvhwm, socket.maxmsgsize = 0, _RECEIVE_QUEUE, self._max_bytes
        socket.heartbeat_ivl, socket.heartbeat_timeout = _HEARTBEAT_MS, _SILENCE_MS
        socket.subscribe(b"")
        socket.connect(self._address)
        deadline = time.monotonic() + self.connect_s
        while not self._is_interrupted and time.monotonic() < deadline:
            if self._monitor.poll(_SLICE_MS) and self._read_event() == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return
        self.close()
        raise NotConnectedError(f"camera {self.name}: nobody publishes at {self._address}")

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source.read`. What has come is read before a loss is told."""
        if self._socket is None or self._monitor is None:
            raise NotConnectedError(f"camera {self.name}: not connected")
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        ready = dict(poller.poll(int(timeout_s * 1000)))
        if self._socket in ready:
            frames, _ = receive(self._socket)
            return self._decoder.decode([frame.buffer for frame in frames])
        if ready and self._read_event() == zmq.EVENT_DISCONNECTED:
            raise NotConnectedError(f"camera {self.name}: {self._address} is gone")
        return None

    def _read_event(self) -> int:
        assert self._monitor is not None  # noqa: S101 (open)
        return int(recv_monitor_message(self._monitor)["event"])

    def interrupt(self) -> None:
        """See `Source`: a `connect` under way ends."""
        self._is_interrupted = True

    def close(self) -> None:
        """Unsubscribe."""
        if self._context is None or self._socket is None or self._monitor is None:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()
        self._context = self._socket = self._monitor = None
