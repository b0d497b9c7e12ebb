"""ZeroMQ sockets of the daemon: bound with errors that name the station file's field, read within bounds."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from inspector.errors import ConfigError
from inspector.security import ipc

HANDSHAKE_MS = 5000
"""A connection that has not said who it is by then is closed."""
MAX_PARTS = 32
"""Of a message; no more are kept of one that has more."""
MAX_TOPIC_BYTES = 1024
"""Of what a subscriber sends, its handshake included; libzmq hangs up on anything longer."""
REFUSED_HANDSHAKES = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a socket is bound.

    Attributes:
        field: of the station file, such as `sockets.frames`.
        endpoint: as the file has it.
        path: of an ipc endpoint's file; None where it has none.
        file: which file that was when it was bound.
    """

    field: str
    endpoint: str
    path: Path | None = None
    file: tuple[int, int] | None = None

    def find_loss(self) -> str | None:
        """Why nobody can connect any more: its file is gone or another's. None: all is well."""
        if self.path is None:
            return None
        try:
            if ipc.identify(self.path) == self.file:
                return None
            who = ipc.find_listener(self.path) or "nobody"
            why = f"another file has taken its place, and {who} listens there"
        except OSError as error:
            why = f"its file cannot be found: {error.strerror}"
        return f"{self.endpoint}: clients can no longer connect: {why}"

    def remove(self) -> None:
        """Remove its file, if it is still its own; for when its socket is closed."""
        if self.path is not None and self.find_loss() is None:
            with suppress(OSError):
                self.path.unlink()


def bind(socket: zmq.Socket[bytes], endpoint: str, field: str, secret_key: bytes | None = None) -> Binding:
    """Bind `socket`; it is closed where that fails.

    Args:
        socket: not bound yet.
        endpoint: where.
        field: of the station file, such as `sockets.frames`; its last part is the socket's ZAP domain.
        secret_key: the station's, in Z85: only clients whose key the authenticator knows get in, and all is encrypted.

    Raises:
        ConfigError: the address is in use, not this machine's, or not allowed.

    An ipc endpoint belongs to this process until it ends: a second station with the same path is refused.
    """
    socket.handshake_ivl = HANDSHAKE_MS
    if secret_key is not None:
        name = field.rpartition(".")[2]
        socket.curve_server = True
        socket.curve_secretkey = secret_key
        socket.zap_domain = name.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else it were open to any key while nobody authenticates
        socket.monitor(monitor_endpoint(name), REFUSED_HANDSHAKES)
    socket.ipv6 = endpoint.startswith("tcp://[")  # without it libzmq takes no such address, with it none but such
    path = ipc.find_path(endpoint)
    try:
        if path is not None:
            socket.setsockopt(zmq.USE_FD, ipc.listen(path))
        socket.bind(endpoint)
        return Binding(field, endpoint, path, None if path is None else ipc.identify(path))
    except (OSError, zmq.ZMQError) as error:
        socket.close(linger=0)
        why = error.strerror if isinstance(error, OSError) and error.filename is None else error
        message = f"{field}: must be an endpoint this process can bind, got {endpoint!r}: {why}"
        raise ConfigError(message, field=tuple(field.split("."))) from error


def monitor_endpoint(name: str) -> str:
    """Where handshakes that fail before the key is known are told of; a PAIR socket must be connected there."""
    return f"inproc://handshakes/{name}"


def receive(socket: zmq.Socket[bytes]) -> tuple[list[zmq.Frame], int]:
    """A message that is there: its parts, the first `MAX_PARTS` of them, uncopied; and how many it has."""
    kept: list[zmq.Frame] = []
    count, more = 0, True
    while more:
        part = socket.recv(copy=False)
        count, more = count + 1, part.more
        if count <= MAX_PARTS:
            kept.append(part)
    return kept, count


def read_peer(frame: zmq.Frame, *, has_keys: bool) -> str:
    """Who sent a message, given one of its parts: the name of the sender's key, or its address where there are none.

    Args:
        frame: the part.
        has_keys: whether its socket asks for keys. Where it does not, anyone may say he is any User-Id.
    """
    for key in ("User-Id", "Peer-Address") if has_keys else ("Peer-Address",):
        try:
            value = str(frame.get(key))
        except zmq.ZMQError:  # libzmq has no such property for this connection
            continue
        if value:
            return value if key == "User-Id" else f"unauthenticated {value}"
    return "unauthenticated"


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may, so that a thousand connections do not starve the journal."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
