"""Binding ZeroMQ sockets, with errors that name the station file's field."""

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
