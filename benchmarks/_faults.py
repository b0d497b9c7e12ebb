"""What happens to a station that goes on all the same: bad input, peers that misbehave, a disk or device that falters.

One at a time, in a random order, each kind once before any comes again.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import cv2
import zmq
from _traffic import CAMERA, Account, Traffic

from inspector.client import Subscriber, Verdict
from inspector.testing.malformed import MAX_MESSAGE, Malformer, names_camera
from inspector.testing.station_process import RunningStation, build_message

_PAUSE_S = (1.0, 4.0)
_MALFORMED = 50
_REPLAYED = 30
_OVERLOAD_TIMES, _OVERLOAD_S = 3.0, 2.0
_SUBSCRIBER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(b"")
for endpoint in sys.argv[1:]:
    socket.connect(endpoint)
socket.recv_multipart()
print("subscribed", flush=True)
while True:
    socket.recv_multipart()
"""


class Faults(threading.Thread):
    """Makes trouble until stopped."""

    def __init__(self, station: RunningStation, traffic: Traffic, *, seed: int, reload: bool) -> None:
        """Make it; with `reload` the station is also told, by SIGHUP, to read its unchanged file again."""
        super().__init__(name="faults", daemon=True)
        self._station = station
        self._traffic = traffic
        self._account: Account = traffic.account
        self._random = random.Random(seed)
        self._malformer = Malformer(seed)
        self._number = 0
        self._stop_asked = threading.Event()
        self._kinds: dict[str, Callable[[], None]] = {
            "malformed messages": self._send_malformed,
            "damaged JPEGs": self._send_damaged,
            "oversized messages": self._send_oversized,
            "subscriber vanishes": self._vanish,
            "subscriber stands still": self._stand_still,
            "HTTP garbage": self._send_http_garbage,
            "overload": self._overload,
            "replay": self._replay,
            "slow disk": lambda: self._falter(self._random.uniform(1, 3), slow_commit_s=0.1),
            "maps of NaN": lambda: self._falter(0.5, nan=True),
            "device hangs": lambda: self._falter(self._random.uniform(0.3, 1.5), hang=True),
            "device out of memory": lambda: self._falter(0.5, oom_once=True),
        }
        if reload:
            self._kinds["reload"] = lambda: station.process.send_signal(signal.SIGHUP)
        self.injected: list[tuple[float, str]] = []  # when it began (monotonic), and its kind
        self.failure: str | None = None

    def stop(self) -> None:
        """Ask it to end after the fault at hand; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop, or until a fault did not go as it must."""
        order: list[str] = []
        try:
            while not self._stop_asked.wait(self._random.uniform(*_PAUSE_S)):
                order = order or self._random.sample(list(self._kinds), len(self._kinds))
                kind = order.pop()
                self.injected.append((time.monotonic(), kind))
                self._kinds[kind]()
        except Exception:  # noqa: BLE001 (told in the report)
            self.failure = traceback.format_exc()
        finally:
            self._station.fault()

    # ------------------------------------------------------------ senders

    def _send_malformed(self) -> None:
        messages = [self._malformer.make(self._next_number()) for _ in range(_MALFORMED)]
        # A message too large costs its sender the connection, and those behind it: it has a fault of its own.
        messages = [parts for parts in messages if max(map(len, parts)) < MAX_MESSAGE]
        self._account.owe_others(sum(map(names_camera, messages)))
        self._push(messages)

    def _send_damaged(self) -> None:
        """Cut off, so that what is left cannot be taken for a frame."""
        data = cv2.imencode(".jpg", self._traffic.bad)[1].tobytes()
        messages = []
        for _ in range(5):
            frame_id = f"bad-jpeg-{self._next_number()}"
            self._account.send(frame_id)
            header = {"camera": CAMERA, "frame_id": frame_id, "encoding": "jpeg"}
            messages.append([json.dumps(header).encode(), data[: self._random.randrange(len(data) - 100)]])
        self._push(messages)

    def _send_oversized(self) -> None:
        """One that is refused with a verdict, and one that is so large that its sender is hung up on."""
        limit = int(self._station.config["sockets"]["max_message"])
        frame_id = f"bad-large-{self._next_number()}"
        self._account.send(frame_id)
        header = build_message(CAMERA, frame_id, self._traffic.bad)[0]
        self._push([[header, bytes(limit + 1)]])
        with self._open(zmq.PUSH, "frames") as push:
            push.linger = 0
            push.send_multipart([header.replace(frame_id.encode(), b"bad-huge"), bytes(2 * limit + 1)])
            time.sleep(0.5)

    def _push(self, messages: list[list[bytes]]) -> None:
        with self._open(zmq.PUSH, "frames") as push:
            for parts in messages:
                push.send_multipart(parts)

    def _overload(self) -> None:
        self._traffic.burst(_OVERLOAD_TIMES, _OVERLOAD_S)
        self._stop_asked.wait(_OVERLOAD_S)

    # ------------------------------------------------------------ subscribers and clients

    def _vanish(self) -> None:
        """One that has read something, and one that never finished its greeting."""
        with self._open(zmq.SUB, "results") as subscriber:
            subscriber.subscribe(b"")
            subscriber.recv_multipart()
        with socket.create_connection(_address(self._station.config["sockets"]["results"]), timeout=5) as peer:
            peer.sendall(b"\xff\x00\x00")
            _reset_on_close(peer)

    def _stand_still(self) -> None:
        endpoints = [self._station.config["sockets"][name] for name in ("results", "overlays")]
        with subprocess.Popen(  # noqa: S603 (this interpreter, a text above)
            [sys.executable, "-c", _SUBSCRIBER, *endpoints], stdout=subprocess.PIPE
        ) as reader:
            try:
                assert reader.stdout is not None  # noqa: S101 (it was asked for)
                reader.stdout.readline()
                reader.send_signal(signal.SIGSTOP)
                self._stop_asked.wait(self._random.uniform(2, 6))
                reader.send_signal(signal.SIGCONT)
                self._stop_asked.wait(0.5)
            finally:
                reader.kill()

    def _send_http_garbage(self) -> None:
        garbage = [self._random.randbytes(300), b"GET /metrics HTTP/1.1\r\nHost: ", b"GET /" + b"x" * 70_000, b"",
                   b"POST /live HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"]  # fmt: skip
        for data in garbage:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._station.config["http"]["port"]), timeout=5) as client,
            ):
                client.sendall(data)
                if self._random.random() < 0.5:
                    _reset_on_close(client)

    def _replay(self) -> None:
        """Read what was missed, with the client; a replay lets no part through."""
        sockets = self._station.config["sockets"]
        first = max(1, self._account.last_seq - _REPLAYED)
        limit = time.monotonic() + 10
        with Subscriber(
            sockets["results"],
            station=self._station.config["station"],
            requests=sockets["requests"],
            from_seq={CAMERA: first},
        ) as subscriber:
            while True:
                event = subscriber.receive(timeout_s=1.0)
                if isinstance(event, Verdict):
                    if event.passed and (event.replay or not event.frame_id.startswith("good-")):
                        self._account.accuse(event.frame_id)
                    if event.replay:
                        return
                if time.monotonic() > limit:
                    raise TimeoutError(f"no replay came of what was published from seq {first} on")

    # ------------------------------------------------------------ disk and device

    def _falter(self, seconds: float, **settings: Any) -> None:
        self._station.fault(**settings)
        self._stop_asked.wait(seconds)
        self._station.fault()

    # ------------------------------------------------------------

    def _open(self, kind: int, name: str) -> zmq.Socket[bytes]:
        peer: zmq.Socket[bytes] = self._station.context.socket(kind)
        peer.linger = 10_000
        peer.rcvtimeo = 10_000
        peer.connect(self._station.config["sockets"][name])
        return peer

    def _next_number(self) -> int:
        self._number += 1
        return self._number


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return str(parts.hostname), int(parts.port or 0)


def _reset_on_close(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
