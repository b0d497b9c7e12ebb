"""A subscriber's two sockets. Opened by the thread that makes it, then used and closed by its pump alone."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Collection, Iterator
from typing import Any

import zmq

from inspector.client.handshakes import Handshakes
from inspector.client.keys import ClientKey
from inspector.client.messages import PART, name_topic

_RECEIVE_HIGH_WATER_MARK = 20_000
_MAX_MESSAGE_BYTES = 64 << 20
_REPLAY_TIMEOUT_S = 2.0  # for each page


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it


def read_clock() -> float:
    """Seconds of a clock that never steps, for ages and deadlines; it runs while the machine sleeps, where it can."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Connections:
    """The results socket, and the requests socket where there is one."""

    def __init__(
        self, results: str, requests: str | None, cameras: Collection[str] | None, key: ClientKey | None
    ) -> None:
        """Connect; a station that is not there yet is waited for.

        Raises:
            zmq.ZMQError: an endpoint is none.
        """
        self._key = key
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._handshakes: dict[str, Handshakes] = {}
        self._results = self._open(zmq.SUB, results, "results")
        self._requests = None if requests is None else self._open(zmq.DEALER, requests, "requests")
        for topic in ["status", *(["result/", PART] if cameras is None else map(name_topic, cameras))]:
            self._results.subscribe(topic)

    def _open(self, kind: int, endpoint: str, name: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.rcvhwm = _RECEIVE_HIGH_WATER_MARK
        socket.maxmsgsize = _MAX_MESSAGE_BYTES
        socket.heartbeat_ivl, socket.heartbeat_timeout = 1000, 3000  # a pulled cable is noticed, and connected again
        if self._key is not None:
            self._key.apply(socket)
        try:
            watch = Handshakes(self._context, socket, endpoint, has_key=self._key is not None)
        except zmq.ZMQError:
            self.close()
            raise
        self._handshakes[name] = watch
        for each in (socket, watch.monitor):
            self._poller.register(each, zmq.POLLIN)
        return socket

    @property
    def has_requests(self) -> bool:
        """Whether a requests endpoint was given."""
        return self._requests is not None

    @property
    def refusal(self) -> str | None:
        """Why the station does not let the results socket in, as it stands."""
        return self._handshakes["results"].refusal

    def wait(self, timeout_s: float) -> None:
        """Until there is something to read, or the time is over."""
        self._poller.poll(math.ceil(timeout_s * 1000))

    def read_refusals(self) -> Iterator[tuple[str, str]]:
        """Sockets that are not let in, and why, where that is new."""
        for name, watch in self._handshakes.items():
            if why := watch.read():
                yield name, why

    def receive_result(self) -> list[bytes] | None:
        """The next message of the results socket; None where none is there."""
        return _receive(self._results)

    def receive_answer(self) -> list[bytes] | None:
        """The next message of the requests socket; None where none is there."""
        return None if self._requests is None else _receive(self._requests)

    def ask(self, token: bytes, request: dict[str, Any]) -> float:
        """Send a request; the station gives its envelope, and so the token, back with the answer. Its deadline."""
        if self._requests is not None:
            with contextlib.suppress(zmq.Again):  # as good as unanswered
                self._requests.send_multipart([token, b"", json.dumps(request).encode()], flags=zmq.DONTWAIT)
        return read_clock() + _REPLAY_TIMEOUT_S

    def close(self) -> None:
        """Close everything; nothing lingers."""
        for watch in self._handshakes.values():
            watch.close()
        self._context.destroy(linger=0)


def _receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
