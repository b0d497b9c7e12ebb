"""Binding ZeroMQ sockets, with errors that name the station file's field; who a message is from."""

from __future__ import annotations

import zmq

from inspector.errors import ConfigError


def bind(socket: zmq.Socket[bytes], endpoint: str, field: str) -> None:
    """Bind `socket`; it is closed where that fails.

    Raises:
        ConfigError: the address is in use, not this machine's, or not allowed.
    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        message = f"{field}: must be an endpoint this process can bind, got {endpoint!r}: {error}"
        raise ConfigError(message, field=tuple(field.split("."))) from error


def read_peer(frame: zmq.Frame) -> str:
    """Who sent a message, given one of its parts: the name of the sender's key, or its address where there are none."""
    for key in ("User-Id", "Peer-Address"):
        try:
            value = str(frame.get(key))
        except zmq.ZMQError:  # libzmq has no such property for this connection
            continue
        if value:
            return value if key == "User-Id" else f"unauthenticated {value}"
    return "unauthenticated"
