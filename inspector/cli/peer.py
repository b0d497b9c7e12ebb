"""A socket of a command's own at a running daemon, which tells when the daemon does not let it in."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from inspector.errors import InspectorError

if TYPE_CHECKING:
    import zmq


class Peer:
    """Connected; closed with the `with` block.

    Attributes:
        socket: the socket.
    """

    def __init__(
        self,
        kind: int,
        endpoint: str,
        key: Path | None,
        *,
        option: str,
        linger_s: float = 0.0,
        settings: Mapping[Any, int] | None = None,
    ) -> None:
        """Connect.

        Args:
            kind: ZeroMQ's, such as zmq.SUB.
            endpoint: the daemon's.
            key: the key file, for a station with `security`.
            option: the command's that gave the endpoint, for the error.
            linger_s: how long what was sent may still take to leave when it is closed.
            settings: socket options, such as zmq.SNDHWM.

        Raises:
            typer.BadParameter: endpoint or key file cannot be used.
        """
        import zmq

        from inspector.client.handshakes import Handshakes
        from inspector.client.keys import KeyFileError, load_key

        try:
            loaded = None if key is None else load_key(key)
        except KeyFileError as error:
            raise typer.BadParameter(str(error), param_hint="'--key'") from error
        self._endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger = int(linger_s * 1000)
        for setting, value in (settings or {}).items():
            self.socket.setsockopt(setting, value)
        if loaded is not None:
            loaded.apply(self.socket)
        try:
            self._handshakes = Handshakes(self._context, self.socket, endpoint, has_key=loaded is not None)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise typer.BadParameter(f"must be an endpoint, got {endpoint!r}", param_hint=f"'{option}'") from error
        self._poller = zmq.Poller()
        self._poller.register(self._handshakes.monitor, zmq.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self.socket.linger = 0
        self._handshakes.close()
        self.socket.close()
        self._context.term()

    def wait(self, timeout_s: float | None, event: int) -> bool:
        """Whether zmq.POLLIN or zmq.POLLOUT came true in time; None: wait for ever.

        Raises:
            InspectorError: the station does not let it in.
        """
        self._poller.register(self.socket, event)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            remaining_ms = None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
            ready = dict(self._poller.poll(remaining_ms))
            if self.socket in ready:
                return True
            if why := self._handshakes.read():
                raise InspectorError(f"{self._endpoint}: {why}")
            if not ready:
                return False
