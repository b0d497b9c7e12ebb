"""The results socket: XPUB, every verdict and the status. Never waits, and one stuck subscriber costs no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import zmq

from inspector.security.sockets import MAX_TOPIC_BYTES, bind

_HIGH_WATER_MARK = 10_000
"""Messages of about a kilobyte: what a subscriber may lag behind before it loses some."""
_MAX_SUBSCRIPTIONS = 100
"""Read at once: verdicts must not wait for one who subscribes without end."""


class ResultsSocket:
    """Used by one thread; `binding` is where it is bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret_key: bytes | None = None) -> None:
        """Bind, with the station's secret key where it has one.

        Raises:
            ConfigError: the endpoint cannot be bound.
        """
        self._socket = context.socket(zmq.XPUB)
        self._socket.sndhwm = _HIGH_WATER_MARK
        self._socket.maxmsgsize = MAX_TOPIC_BYTES
        self._socket.linger = 1000  # the last verdicts before a stop still leave
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # a second subscriber to a topic is told of, too
        self.binding = bind(self._socket, endpoint, "sockets.results", secret_key)

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        """Send to all subscribers; False where one of them begins to lag.

        It loses this message and those that follow, untold, until it has caught up: libzmq leaves it out.
        XPUB_NODROP tells of a full subscriber by refusing the message for all; it then goes out again without,
        so that only the one that lags loses it (it sees the gap in `seq` and can ask for a replay).
        """
        parts = [topic.encode(), json.dumps(message).encode()]
        try:
            self._socket.send_multipart(parts, flags=zmq.DONTWAIT)
        except zmq.Again:
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._socket.send_multipart(parts, flags=zmq.DONTWAIT)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
            return False
        return True

    def read_subscriptions(self) -> bool:
        """Whether anyone subscribed since the last call. Unread they would pile up in memory."""
        joined = False
        with suppress(zmq.Again):  # none is left
            for _ in range(_MAX_SUBSCRIPTIONS):
                joined |= self._socket.recv(zmq.DONTWAIT)[:1] == b"\x01"
        return joined

    def close(self) -> None:
        """Unbind; what was sent still goes out for a moment."""
        self._socket.close()
