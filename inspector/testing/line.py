"""The line around a station: it sends frames whose verdict is known, records all that is published, and keeps accounts.

A frame's id says what it deserves: `good-…` or `bad-…`. The peers outlive the daemon: they connect again.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from inspector.testing.account import Account, build_account
from inspector.testing.station_process import bad_frame, build_message, good_frame

_FRAMES = {"good": good_frame(), "bad": bad_frame()}
_STOP_CHECK_MS = 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message of the results socket and the instant (monotonic, seconds) at which it came."""

    at_s: float
    message: dict[str, Any]


class Line:
    """A sender and a subscriber in threads of their own, from `with` to its end."""

    def __init__(self, config: dict[str, Any], *, camera: str = "top") -> None:
        """Make it for the station of this configuration, whichever process serves it."""
        self.camera = camera
        self.sent: list[str] = []
        self.sent_at_s: dict[str, float] = {}
        self.results: list[Arrival] = []
        self.statuses: list[Arrival] = []
        self._sockets = config["sockets"]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop_asked = threading.Event()
        self._lock = threading.Lock()
        self._due = 0.0  # frames to send: without end while they flow
        self._period_s = 0.0
        self._threads = [
            threading.Thread(target=self._send_all, name="line sender"),
            threading.Thread(target=self._record_all, name="line subscriber"),
        ]

    def __enter__(self) -> Line:
        """Start; returns once subscribed, which takes a running station."""
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for(lambda: self.statuses, "status")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what ZeroMQ still holds is given up."""
        self._stop_asked.set()
        for thread in self._threads:
            thread.join()
        self._context.term()

    # ------------------------------------------------------------ for the test

    def send(self, count: int) -> None:
        """Send so many frames, good and bad in turn, as fast as they are taken. Does not wait."""
        self._order(count, period_s=0.0)

    def flow(self, period_s: float) -> None:
        """Send one frame a period from now on; see `pause`."""
        self._order(math.inf, period_s)

    def pause(self) -> None:
        """Send no more; on return `sent` is final."""
        self._order(0, period_s=0.0)

    def _order(self, due: float, period_s: float) -> None:
        with self._lock:
            self._due, self._period_s = due, period_s

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Until the condition holds.

        Raises:
            AssertionError: it did not, in time.
        """
        limit = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < limit, f"no {what} within {timeout_s} s: {len(self.sent)} sent, {self._counts()}"
            time.sleep(0.01)

    def wait_sent(self, timeout_s: float = 60.0) -> None:
        """Until every frame ordered has been handed to ZeroMQ."""
        self.wait_for(lambda: not self._due, "end of sending", timeout_s)

    def wait_answered(self, timeout_s: float = 60.0) -> None:
        """Until every frame has been sent and answered; only where the daemon lives on and so takes all of them."""
        self.wait_sent(timeout_s)
        self.wait_for(lambda: set(self.sent) <= {a.message["frame_id"] for a in self.results[:]}, "answer", timeout_s)

    def account(self, journal: Path, confirmed: Iterable[str] = ()) -> Account:
        """Compare what was sent, what is in the journal, what was received, and what was confirmed to others."""
        return build_account(self.sent[:], [arrival.message for arrival in self.results[:]], journal, confirmed)

    def _counts(self) -> dict[str, int]:
        return dict(Counter(f"{a.message['verdict']} {a.message['reason']}" for a in self.results[:]))

    # ------------------------------------------------------------ in threads

    def _send_all(self) -> None:
        with self._context.socket(zmq.PUSH) as socket:
            self._connect_sender(socket)
            while not self._stop_asked.is_set():
                if self._send_next(socket):
                    self._stop_asked.wait(self._period_s)
                else:
                    time.sleep(0.002)

    def _connect_sender(self, socket: zmq.Socket[bytes]) -> None:
        socket.linger = 0
        socket.sndhwm = 1
        socket.immediate = True  # nothing is queued for a daemon that is not there
        socket.sndtimeo = _STOP_CHECK_MS
        socket.reconnect_ivl = _STOP_CHECK_MS
        socket.connect(self._sockets["frames"])

    def _send_next(self, socket: zmq.Socket[bytes]) -> bool:
        number = len(self.sent)
        kind = "bad" if number % 2 else "good"
        parts = build_message(self.camera, f"{kind}-{number}", _FRAMES[kind])
        with self._lock:
            if not self._due:
                return False
            before = time.monotonic()
            try:
                socket.send_multipart(parts)
            except zmq.Again:
                return False
            self.sent_at_s[f"{kind}-{number}"] = before
            self.sent.append(f"{kind}-{number}")
            self._due -= 1
            return True

    def _record_all(self) -> None:
        with self._context.socket(zmq.SUB) as socket:
            socket.rcvhwm = 0
            socket.rcvtimeo = _STOP_CHECK_MS
            socket.reconnect_ivl = _STOP_CHECK_MS
            socket.subscribe(b"")
            socket.connect(self._sockets["results"])
            while not self._stop_asked.is_set():
                with contextlib.suppress(zmq.Again):
                    topic, body = socket.recv_multipart()
                    arrival = Arrival(time.monotonic(), json.loads(body))
                    (self.statuses if topic == b"status" else self.results).append(arrival)


class ConfirmedSender:
    """Sends frames by REQ; `confirmed` are those the station says are on record. Used by one thread."""

    def __init__(self, config: dict[str, Any], *, camera: str = "top", timeout_s: float = 5.0) -> None:
        """Make it; an answer that takes longer than the timeout is a failure."""
        self.camera = camera
        self.sent: list[str] = []
        self.confirmed: list[str] = []
        self.refused: dict[str, str] = {}
        self._endpoint = config["sockets"]["imagezmq"]
        self._timeout_ms = int(timeout_s * 1000)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._connect()

    def __enter__(self) -> ConfirmedSender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def send(self, frame_id: str) -> bool:
        """Send the good or the bad frame, as its id says; whether it was confirmed."""
        self.sent.append(frame_id)
        try:
            self._socket.send_multipart(build_message(self.camera, frame_id, _FRAMES[frame_id.partition("-")[0]]))
            answer = self._socket.recv()
        except zmq.Again:
            # A REQ socket that got no answer takes no other request.
            self._socket.close(linger=0)
            self._socket = self._connect()
            return False
        if answer == b"OK":
            self.confirmed.append(frame_id)
            return True
        self.refused[frame_id] = answer.decode(errors="replace")
        return False

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REQ)
        socket.rcvtimeo = socket.sndtimeo = self._timeout_ms
        socket.reconnect_ivl = _STOP_CHECK_MS
        socket.connect(self._endpoint)
        return socket
