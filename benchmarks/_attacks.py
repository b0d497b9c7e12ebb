"""What attackers do to a station with keys, TLS and login: each attack is a step that is made again and again.

Rates are such that all of them together take about a tenth of a core of whoever attacks.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import random
import select
import socket
import ssl
import struct
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from inspector.client.keys import ClientKey, load_key

_load_key = functools.cache(load_key)
_FROM = ("127.0.0.2", 0)
"""Another machine's address: logins are throttled by address, and who scrapes shares none with attackers."""
_TIMEOUT_S = 2.0
_ANSWER_S = 0.2
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE".ljust(54, b"\0")
"""How a ZeroMQ connection begins (RFC 23), 64 bytes with the filler."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the attackers know of the station.

    Attributes:
        sockets: endpoint of each ZeroMQ socket.
        http_port: on this machine.
        keys: key files: `stranger` is not listed, `leaver` is revoked, `viewer` is a subscriber's, `thief` one of a
            sender of `camera` only.
        camera: that camera.
        others_camera: one that it may not send.
        max_message: the station's, bytes.
        intensity: how many times each attack's rate.
    """

    sockets: dict[str, str]
    http_port: int
    keys: dict[str, str]
    camera: str
    others_camera: str
    max_message: int
    intensity: float


class Attack:
    """Something done again and again by one thread."""

    rate = 10.0
    """Steps per second, at an intensity of 1."""

    def __init__(self, plan: Plan, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.plan = plan
        self.context = context
        self.held: deque[Any] = deque()
        self.random = random.Random(1)
        self.count = 0

    def step(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of all that is open."""
        while self.held:
            self.held.popleft().close()

    def hold(self, peer: Any, most: int) -> None:
        """Keep it open until so many newer ones are."""
        self.held.append(peer)
        if len(self.held) > most:
            self.held.popleft().close()

    def connect(self, kind: int, name: str, key: str | None) -> zmq.Socket[bytes]:
        """A ZeroMQ socket that tries once."""
        return connect(self.context, kind, self.plan.sockets[name], key and _load_key(self.plan.keys[key]))

    def dial(self, name: str) -> socket.socket:
        """A TCP connection to a ZeroMQ socket's port, or to HTTP's."""
        return socket.create_connection(self.find_address(name), timeout=_TIMEOUT_S, source_address=_FROM)

    def find_address(self, name: str) -> tuple[str, int]:
        port = self.plan.http_port if name == "http" else int(self.plan.sockets[name].rpartition(":")[2])
        return "127.0.0.1", port

    def wrap(self, peer: socket.socket) -> ssl.SSLSocket:
        """Shake hands over TLS, believing every certificate."""
        return _build_credulous().wrap_socket(peer)


@functools.cache
def _build_credulous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, key: ClientKey | None
) -> zmq.Socket[bytes]:
    peer = context.socket(kind)
    peer.linger = 0
    peer.reconnect_ivl = -1
    peer.sndtimeo = int(1000 * _TIMEOUT_S)
    if kind == zmq.PUSH:
        peer.immediate = True
    if kind == zmq.SUB:
        peer.subscribe(b"")
    if key is not None:
        key.apply(peer)
    peer.connect(endpoint)
    return peer


# ---------------------------------------------------------------- without a key that fits


class Handshakes(Attack):
    """Connections with one key, or none, to some sockets in turn; each is held for a second, and so refused by then."""

    rate = 5.0
    key: str | None = None
    targets: tuple[tuple[int, str], ...] = ((zmq.PUSH, "frames"), (zmq.SUB, "results"), (zmq.REQ, "requests"))

    def step(self) -> None:
        self.hold(self.connect(*self.targets[self.count % len(self.targets)], self.key), int(self.rate))


class UnknownKeys(Handshakes):
    key = "stranger"


class RevokedKey(Handshakes):
    key = "leaver"
    targets = ((zmq.PUSH, "frames"),)


class PlainClients(Handshakes):
    """No key at all."""


class WrongRole(Handshakes):
    key = "viewer"
    targets = ((zmq.PUSH, "frames"),)


class Replay(Attack):
    """What a client with a good key once said, said again."""

    recorded: tuple[bytes, ...] = ()

    def step(self) -> None:
        self.recorded = self.recorded or self._record()
        with contextlib.suppress(OSError), self.dial("frames") as peer:
            peer.settimeout(_ANSWER_S)
            for data in self.recorded:  # each part after the answer to the one before
                peer.sendall(data)
                with contextlib.suppress(TimeoutError):
                    peer.recv(65_536)

    def _record(self) -> tuple[bytes, ...]:
        """The client's part of a handshake, overheard between it and the station."""
        sent = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            push = connect(self.context, zmq.PUSH, endpoint, _load_key(self.plan.keys["thief"]))
            client, _ = listener.accept()
            with client, self.dial("frames") as server:
                while not push.poll(0, zmq.POLLOUT):
                    for peer in select.select([client, server], [], [], _ANSWER_S)[0]:
                        data = peer.recv(65_536)
                        (server if peer is client else client).sendall(data)
                        if peer is client:
                            sent.append(data)
            push.close()
        return tuple(sent)


class Connections(Attack):
    """A thousand connections that say nothing, half of them to the frames, half to HTTP; the oldest are opened anew."""

    rate = 120.0
    most = 1000

    def step(self) -> None:
        self.hold(self.dial("frames" if self.count % 2 else "http"), self.most)


class Garbage(Attack):
    """Bytes at random, some behind a good beginning, to the frames and to HTTP; some there within TLS."""

    rate = 20.0

    def step(self) -> None:
        noise = self.random.randbytes(self.random.choice([10, 100, 20_000]))
        with contextlib.suppress(OSError):
            if self.count % 2:
                with self.dial("frames") as peer:
                    peer.sendall((_GREETING if self.count % 4 == 1 else b"") + noise)
                    peer.settimeout(_ANSWER_S)
                    while peer.recv(65_536):
                        pass
            elif self.count % 8:
                with self.dial("http") as peer:
                    peer.sendall(self.random.choice([b"", b"\x16\x03\x01", b"GET /metrics HTTP/1.1\r\n"]) + noise)
            else:
                with self.wrap(self.dial("http")) as peer:
                    peer.sendall(noise + b"\r\n\r\n")


# ---------------------------------------------------------------- HTTP


class SlowLoris(Attack):
    """200 HTTP clients that give a byte every ten seconds, a quarter of them after TLS's handshake."""

    rate = 20.0
    most = 200

    def step(self) -> None:
        if len(self.held) < self.most:
            with contextlib.suppress(OSError):
                self.held.append(self._open())
            return
        peer = self.held.popleft()
        try:
            peer.sendall(b"G")
            self.held.append(peer)
        except OSError:  # it was given up
            peer.close()

    def _open(self) -> socket.socket:
        peer = self.dial("http")
        return self.wrap(peer) if self.count % 4 == 0 else peer


class WrongLogins(Attack):
    """One guess after the other."""

    rate = 5.0

    def step(self) -> None:
        login = base64.b64encode(f"metrics:guess {self.count}".encode())
        with contextlib.suppress(OSError), self.wrap(self.dial("http")) as peer:
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + login + b"\r\n\r\n")
            peer.recv(65_536)


# ---------------------------------------------------------------- with a stolen sender's key


class Thief(Attack):
    """Sends messages with the key of another camera's sender."""

    push: zmq.Socket[bytes] | None = None

    def send(self, *parts: bytes) -> None:
        if self.push is None:
            self.push = self.connect(zmq.PUSH, "frames", "thief")
        try:
            self.push.send_multipart(parts)
        except zmq.Again:  # hung up on
            self.close()

    def close(self) -> None:
        if self.push is not None:
            self.push.close()
            self.push = None

    def build_header(self, frame_id: str, encoding: str, camera: str = "") -> bytes:
        header = {"camera": camera or self.plan.camera, "frame_id": f"{frame_id}-{self.count}", "encoding": encoding}
        return json.dumps(header | {"dtype": "uint8", "shape": [64, 64, 3]}).encode()


class Oversized(Thief):
    """Messages above the station's limit, so that it answers ERROR; one in four so large that it hangs up."""

    rate = 0.8

    def step(self) -> None:
        times = 2.5 if self.count % 4 == 3 else 1.5
        self.send(self.build_header("oversized", "raw"), bytes(int(times * self.plan.max_message)))


class Bombs(Thief):
    """Small PNG files of large pictures."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.images = (build_png(1900, 1900), build_png(16_000, 16_000))

    def step(self) -> None:
        self.send(self.build_header("bomb", "png"), self.images[self.count % 2])


class OthersCamera(Thief):
    """Frames of a camera that the key is not for."""

    rate = 25.0

    def step(self) -> None:
        self.send(self.build_header("foreign", "raw", self.plan.others_camera), bytes(64 * 64 * 3))


class Flood(Thief):
    """1500 messages a second that mean nothing, one in 75 of many parts."""

    rate = 20.0

    def step(self) -> None:
        for _ in range(74):
            self.send(b"{}", b"")
        self.send(*[b""] * 100)


def build_png(height: int, width: int) -> bytes:
    """A black picture, a thousandth as large as its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(1 + width)) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


ATTACKS: dict[str, Callable[..., Attack]] = {
    "unknown keys": UnknownKeys,
    "revoked key": RevokedKey,
    "plain clients": PlainClients,
    "wrong role": WrongRole,
    "replayed handshakes": Replay,
    "oversized messages": Oversized,
    "bomb images": Bombs,
    "another's camera": OthersCamera,
    "message flood": Flood,
    "1000 connections": Connections,
    "slow loris": SlowLoris,
    "wrong logins": WrongLogins,
    "garbage": Garbage,
}
