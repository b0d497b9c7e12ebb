"""Whether a station lets a socket in: libzmq only tells those who watch."""

from __future__ import annotations

import contextlib
import math
import time
import uuid

import zmq
from zmq.utils.monitor import parse_monitor_message

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_HANG_UPS = 3
"""A station that stops may hang up in the middle of a handshake; one that wants another kind of it always does."""
_RETRY_S = 1.0


class Handshakes:
    """Watches one socket. Used by the thread that uses the socket.

    Attributes:
        monitor: readable when there is something to `read`.
        refusal: why the station does not let it in, as it stands; None where nothing is known of that.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], endpoint: str, *, has_key: bool
    ) -> None:
        """Watch a socket and connect it.

        Raises:
            zmq.ZMQError: the endpoint is none.
        """
        self._socket = socket
        self._endpoint = endpoint
        self._retry_at: float | None = None
        self._has_key = has_key
        self._hang_ups = 0
        self.refusal: str | None = None
        monitor_endpoint = f"inproc://handshakes/{uuid.uuid4().hex}"
        socket.monitor(monitor_endpoint, _EVENTS)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.rcvhwm = 0  # libzmq's own thread waits where this is full
        self.monitor.connect(monitor_endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self.monitor, zmq.POLLIN)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def read(self) -> str | None:
        """Why the station does not let it in, where that is new."""
        before = self.refusal
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())
            self._take(event["event"])
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
            with contextlib.suppress(zmq.ZMQError):  # it is none of its endpoints any more
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)
        return self.refusal if self.refusal != before else None

    def wait(self, event: int, timeout_s: float | None) -> bool:
        """Whether the socket can be read (zmq.POLLIN) or written (zmq.POLLOUT) in time; None: wait for ever.

        Raises:
            ConnectionRefusedError: the station does not let it in.
        """
        self._poller.register(self._socket, event)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            remaining_ms = None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
            ready = dict(self._poller.poll(remaining_ms))
            if self._socket in ready:
                return True
            if why := self.read():
                raise ConnectionRefusedError(f"{self._endpoint}: {why}")
            if not ready:
                return False

    def _take(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.refusal, self._hang_ups = None, 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refusal = "the station refuses this key: the key is unknown, revoked, or does not have the role"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.refusal = f"the station requires {'no key' if self._has_key else 'a key'}"
            self._retry_at = time.monotonic() + _RETRY_S  # libzmq itself gives up for good
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._hang_ups += 1
            if self._hang_ups >= _HANG_UPS:
                wanted = "no key, or has another key than in the key file" if self._has_key else "a key"
                self.refusal = self.refusal or f"the station closes the connection: it probably requires {wanted}"

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        if not self._socket.closed:
            self._socket.monitor(None, 0)
        self.monitor.close(linger=0)
