"""Whether a station lets a socket in: libzmq tries again for ever, and only tells those who watch."""

from __future__ import annotations

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
"""A station that stops may hang up in the middle of a handshake; one with another key always does."""


class Handshakes:
    """Watches one socket. Used by the thread that uses the socket.

    Attributes:
        monitor: readable when there is something to `read`.
        refusal: why the station does not let it in, as it stands; None where nothing is known of that.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], *, has_key: bool) -> None:
        """Watch a socket that is not connected yet."""
        self._socket = socket
        self._has_key = has_key
        self._hang_ups = 0
        self.refusal: str | None = None
        endpoint = f"inproc://handshakes/{uuid.uuid4().hex}"
        socket.monitor(endpoint, _EVENTS)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.rcvhwm = 0  # libzmq's own thread waits where this is full
        self.monitor.connect(endpoint)

    def read(self) -> str | None:
        """Why the station does not let it in, where that is new."""
        before = self.refusal
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())
            self._take(event["event"])
        return self.refusal if self.refusal != before else None

    def _take(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.refusal, self._hang_ups = None, 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refusal = "the station refuses this key: it is unknown or revoked there, or lacks the role"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.refusal = f"the station asks for {'no key' if self._has_key else 'a key'}"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._hang_ups += 1
            if self._hang_ups >= _HANG_UPS and self._has_key:
                self.refusal = self.refusal or "the station hangs up: its key is not the one in the key file, it seems"

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        if not self._socket.closed:
            self._socket.monitor(None, 0)
        self.monitor.close(linger=0)
