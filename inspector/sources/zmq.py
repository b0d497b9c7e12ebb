"""Frames over ZeroMQ: the PULL socket for senders that go on, the ROUTER socket for REQ senders, which are told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, cast

import zmq
from pydantic import Field, field_validator

from inspector.errors import MessageRefusedError, UnidentifiedFrameError
from inspector.security.farewell import find_envelope
from inspector.security.gate import Access, Gate
from inspector.security.settings import Sockets
from inspector.security.sockets import Binding, bind, read_peer, receive
from inspector.sources.base import Source
from inspector.sources.decoding import Decoding, Pending
from inspector.sources.imagezmq import ImagezmqSubscription
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.settings import AgeDoubt, LineScan, ListeningSettings, SourceSettings
from inspector.sources.wire import FrameDecoder, Message
from inspector.strict.claims import Claim, claim_text
from inspector.types import Frame, PixelFormat

_PUBLISHER = re.compile(r"tcp://\S+:\d{1,5}|ipc://\S+")
_RECEIVE_QUEUE = 4
"""High-water mark in messages: frames wait in the byte-bounded buffer, not here where nobody counts them."""


class ZmqSettings(ListeningSettings):
    """Frames from the frames socket whose header names this camera."""

    type: Literal["zmq"] = "zmq"
    """Frames that are sent with our header."""
    pixel_format: PixelFormat = PixelFormat.RGB8
    """Of raw frames with three channels whose header does not say."""


_AGE_DOUBT = AgeDoubt(
    "imagezmq's own messages have no capture time: a delayed frame is judged as a new one",
    "let the sender add captured_utc_ns next to msg",
    by_default_only=True,
)


class ImagezmqSettings(ListeningSettings):
    """Frames of an imagezmq sender (REQ, or PUSH to the frames socket) whose text is `sender`."""

    type: Literal["imagezmq"]
    """Frames that are sent by imagezmq."""
    numbers_frames = False
    sender: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The text that the sender gives. null: the camera's name."""
    pixel_format: PixelFormat = PixelFormat.BGR8
    """Of raw frames with three channels; OpenCV's order by default, which imagezmq senders use."""
    subscribe: Annotated[str, Field(max_length=200)] | None = None
    """Where a sender without REQ publishes, such as `tcp://192.168.10.7:5555`. null: it sends here."""

    @field_validator("sender")
    @classmethod
    def _seen_whole(cls, sender: str | None) -> str | None:
        if sender is not None and not (sender.isprintable() and sender == sender.strip()):
            raise ValueError("must be printable text without leading or trailing blanks")
        return sender

    @field_validator("subscribe")
    @classmethod
    def _is_address(cls, subscribe: str | None) -> str | None:
        if subscribe is not None and not _PUBLISHER.fullmatch(subscribe):
            raise ValueError("must be tcp://HOST:PORT or ipc://PATH")
        return subscribe

    @property
    def age_doubt(self) -> AgeDoubt:
        """See `SourceSettings`."""
        return _AGE_DOUBT

    @property
    def is_sent(self) -> bool:
        return self.subscribe is None

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        yield claim_text((camera, "source", "sender"), "sender", self.name_sender(camera))
        if self.subscribe is not None:
            place = (camera, "source", "subscribe")
            yield Claim(place, "publisher", repr(self.subscribe), ("publisher", self.subscribe))

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source | None:
        if self.subscribe is None:
            return None
        max_bytes = Sockets().max_message
        decoder = FrameDecoder({camera: _Subscribed(self, simulated)}, max_bytes)
        return ImagezmqSubscription(camera, self.subscribe, decoder, 2 * max_bytes)

    def name_sender(self, camera: str) -> str:
        return self.sender or camera


Asker = tuple[zmq.Socket[bytes], list[bytes]]
"""Who waits for an answer: its socket, and what the answer begins with."""


class _Subscribed(NamedTuple):
    """See `Sourced`."""

    source: SourceSettings
    simulated: bool
    line_scan: LineScan | None = None


class ZmqSource:
    """All cameras of type zmq and imagezmq: a socket can be read by one thread only.

    Attributes:
        bindings: where its sockets are bound.
        leave: at its end, who is handed the socket whose senders wait for answers; None: it is closed.
    """

    name = "zmq"
    can_wait = False
    connect_s = 1.0
    losses: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        sockets: Sockets,
        decoder: FrameDecoder,
        access: Access = Access(),  # noqa: B008 (frozen)
        decoding: Decoding | None = None,
    ) -> None:
        """Without `decoding` the thread that reads also decodes."""
        self.cameras = decoder.cameras
        self._context = context
        self._config = sockets
        self._decoder = decoder
        self._decoding = Decoding() if decoding is None else decoding
        self._secret_key = access.secret_key
        self._endpoints = [("frames", zmq.PULL), ("imagezmq", zmq.ROUTER)]
        self._gates: dict[int, Gate] = {kind: access.build_gate(name) for name, kind in self._endpoints}
        self._sockets: list[zmq.Socket[bytes]] = []
        self._poller = zmq.Poller()
        self._decoded = zmq.Poller()
        self._decoded.register(self._decoding.wakes, zmq.POLLIN)
        self._is_interrupted = False
        self.is_caught_up = True
        self._asker: Asker | None = None  # who sent the last frame, where it waits
        self.bindings: list[Binding] = []
        self.leave: Callable[[zmq.Socket[bytes]], None] | None = None

    def connect(self) -> None:
        """Bind the sockets.

        Raises:
            ConfigError: an endpoint is in use or not ours.
        """
        if self._sockets:
            return
        self._poller.register(self._decoding.wakes, zmq.POLLIN)
        for name, kind in self._endpoints:
            socket = self._context.socket(kind)
            socket.linger = 0
            socket.rcvhwm = _RECEIVE_QUEUE
            # libzmq hangs up on anything larger; up to here a frame can still be named and answered.
            socket.maxmsgsize = 2 * self._config.max_message
            self._sockets.append(socket)
            self.bindings.append(bind(socket, getattr(self._config, name), f"sockets.{name}", self._secret_key))
            self._poller.register(socket, zmq.POLLIN)

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source`. Compressed frames of one camera are decoded while those of others are read."""
        due = time.monotonic() + timeout_s
        self.is_caught_up = not self._poller.poll(0)
        while (decoded := self._decoding.take()) is None:
            if (socket := self._wait(max(0.0, due - time.monotonic()))) is not None:
                self._receive(socket)
            elif time.monotonic() >= due:
                return None
        return self._give(decoded)

    def drain(self, within_s: float) -> Iterator[Frame]:
        yield from map(self._give, self._decoding.drain(within_s))

    def _give(self, decoded: Pending) -> Frame:
        self._asker = cast("Asker | None", decoded.asker)
        assert decoded.frame is not None  # noqa: S101 (`Decoding`)
        return decoded.frame

    def _wait(self, timeout_s: float) -> zmq.Socket[bytes] | None:
        """A socket that has a message; None where there is none, or one is decoded, or there is no room for more."""
        may_read = self._decoding.has_room and not self._is_interrupted
        ready = dict((self._poller if may_read else self._decoded).poll(int(timeout_s * 1000) + 1))
        # In turns: senders that never pause on one socket must not keep those on the other from being answered.
        socket = next((socket for socket in self._sockets if socket in ready), None)
        self._sockets.sort(key=lambda each: each is socket)
        return socket

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        frames, count = receive(socket)
        envelope = [] if socket.type == zmq.PULL else find_envelope(frames)
        self._asker = (socket, envelope) if envelope else None
        try:
            peer = read_peer(frames[-1], has_keys=self._secret_key is not None)
            message = self._read_message(self._gates[int(socket.type)], peer, frames, count, len(envelope))
        except (UnidentifiedFrameError, MessageRefusedError) as error:
            self.answer(str(error))
            raise
        asker, self._asker = self._asker, None
        self._decoding.put(message, asker)

    def _read_message(self, gate: Gate, peer: str, frames: list[zmq.Frame], count: int, begin: int) -> Message:
        gate.admit(peer, count)
        if begin in {1, len(frames)}:
            raise UnidentifiedFrameError("parts", f"REQ message: must be [id, empty, …], got {len(frames)} parts")
        parts = [frame.buffer for frame in frames[begin:]]
        return self._decoder.read(parts, lambda camera: gate.admit_camera(peer, camera))

    def fire(self, trigger_id: str, until_ns: int) -> None:
        """See `Source`."""

    def awaits_answer(self) -> bool:
        """See `Source`: REQ senders do, and never hang: whatever they sent is answered."""
        return self._asker is not None

    def answer(self, problem: str | None) -> None:
        if self._asker is not None:
            self.defer_answer()(problem)

    def defer_answer(self) -> Callable[[str | None], None]:
        assert self._asker is not None  # noqa: S101 (`awaits_answer`)
        (socket, envelope), self._asker = self._asker, None

        def answer(problem: str | None) -> None:
            reply = b"OK" if problem is None else f"ERROR {problem}".encode()
            # NOBLOCK: a sender that is gone must not hold this thread. One that sent no empty part is told as a REQ.
            socket.send_multipart([envelope[0], *(envelope[1:] or [b""]), reply], flags=zmq.NOBLOCK)

        return answer

    def interrupt(self) -> None:
        """See `Source`: what has come is given, and no more is read."""
        self._is_interrupted = True

    def report(self) -> None:
        """See `Source`: its cameras are others' concern."""

    def is_busy(self) -> bool:
        return False

    def close(self) -> None:
        """Unbind; senders that wait for answers are left to `leave`."""
        self._refuse()  # where its thread died
        for _ in self.drain(0):
            self._refuse()
        for socket in self._sockets:
            if socket.type == zmq.ROUTER and self.leave is not None:
                self.leave(socket)
            else:
                socket.close(linger=0)
        self._sockets = []
        self._poller = zmq.Poller()

    def _refuse(self) -> None:
        self.answer("SHUTDOWN: the station stopped before the frame was recorded")
