"""The end of a ROUTER socket whose peers wait for answers: each is told, and none is left waiting.

A REQ peer waits for ever for the answer to a message that went into a connection which then ended; a message that it
sends while there is no connection waits in ZeroMQ for the next one. So the last answer has to come together with the
end of the connection: libzmq by itself ends it some milliseconds later, and a peer in a loop has sent again by then.
"""

from __future__ import annotations

import fcntl
import os
import socket as sockets
import struct
import termios
import time
from contextlib import suppress
from pathlib import Path

import zmq

from inspector.security.sockets import receive

_LINGER_MS = 500
"""How long the last answers may take to leave, once the socket is closed."""
_HOLD_S = 0.1
"""How long peers are kept waiting before the end: by then all that send in a loop have asked."""
_WRITE_S, _WRITE_ALL_S = 0.02, 0.4
"""How long libzmq's own thread may take to write one answer, and all."""
_APART_S = 0.005
"""Between two ends: peers that share a thread of libzmq's, in one process, send meanwhile."""
FAREWELL_S = 2 * (_HOLD_S + _WRITE_ALL_S)
"""How long `part` may take, on a busy machine."""
_NUMBER_BYTES = 4
"""Of the number that a REQ gives each request where it is told to (ZMQ_REQ_CORRELATE)."""
_MAX_TAKEN = 1000
"""Messages taken at once: who floods the socket must not hold up the end."""


def find_envelope(frames: list[zmq.Frame]) -> list[bytes]:
    """What an answer to a ROUTER's message begins with: the peer's id, then, of a REQ, all up to the empty part."""
    sizes = [len(frame) for frame in frames[1:3]]
    count = 2 if sizes[:1] == [0] else 3 if sizes == [_NUMBER_BYTES, 0] else 1
    return [frame.bytes for frame in frames[:count]]


def refuse_waiting(socket: zmq.Socket[bytes], reply: bytes) -> int:
    """Answer all messages that wait to be read, undecoded; how many those were."""
    envelopes = _take(socket, within_s=0.0)
    for envelope in envelopes:
        _send(socket, envelope, reply)
    return len(envelopes)


def part(socket: zmq.Socket[bytes], reply: bytes) -> int:
    """Close a bound ROUTER; who asks until then is told `reply`. How many those were."""
    envelopes, count = _take(socket, within_s=_HOLD_S), 0
    deadline = time.monotonic() + _WRITE_ALL_S
    while envelopes:
        connections = _Connections(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        for envelope in envelopes:
            _send(socket, envelope, reply)
            connections.end_answered(min(deadline, time.monotonic() + _WRITE_S))
        connections.close()
        count += len(envelopes)
        envelopes = _take(socket, within_s=0.0) if time.monotonic() < deadline else []
    socket.close(linger=_LINGER_MS)
    return count


def _take(socket: zmq.Socket[bytes], *, within_s: float) -> list[list[bytes]]:
    """Read what waits, and what comes within a time; to whom answers are due."""
    envelopes: list[list[bytes]] = []
    deadline = time.monotonic() + within_s
    while len(envelopes) < _MAX_TAKEN and socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        envelopes.append(find_envelope(receive(socket)[0]))
    return envelopes


def _send(socket: zmq.Socket[bytes], envelope: list[bytes], reply: bytes) -> None:
    with suppress(zmq.ZMQError):  # a peer that is gone or reads nothing must not hold up the end
        socket.send_multipart([*envelope, reply], flags=zmq.DONTWAIT)


class _Connections:
    """The connections to a bound tcp endpoint, which libzmq does not tell. What is written to them does not leave by
    itself, for the 0.2 s that the kernel allows: it leaves with their end. Other endpoints know no such thing.
    """

    def __init__(self, endpoint: str) -> None:
        self._open: list[sockets.socket] = []
        if endpoint.startswith("tcp://"):
            port = int(endpoint.rpartition(":")[2])
            for file in Path("/proc/self/fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    if file.readlink().name.startswith("socket:"):
                        self._add(sockets.socket(fileno=os.dup(int(file.name))), port)

    def _add(self, connection: sockets.socket, port: int) -> None:
        try:
            # What is unsent now is of an answer that its peer is slow to read: it must not be cut off.
            if connection.getsockname()[1:2] == (port,) and connection.getpeername() and not _count_unsent(connection):
                connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_CORK, 1)
                self._open.append(connection)
                return
        except OSError:  # the one that listens
            pass
        connection.close()

    def end_answered(self, deadline: float) -> None:
        """Wait until something is written to one of them, and end it."""
        while self._open and time.monotonic() < deadline:
            answered = [connection for connection in self._open if _count_unsent(connection)]
            for connection in answered:
                self._open.remove(connection)
                with suppress(OSError), connection:
                    connection.shutdown(sockets.SHUT_WR)
            time.sleep(_APART_S if answered else _APART_S / 10)
            if answered:
                return

    def close(self) -> None:
        """Leave the rest to libzmq."""
        for connection in self._open:
            connection.close()


def _count_unsent(connection: sockets.socket) -> int:
    """Bytes written that the peer's machine does not have yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
