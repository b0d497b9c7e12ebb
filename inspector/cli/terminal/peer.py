"""A socket of a command's own at a running daemon, which tells when the daemon does not let it in."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

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
    ) -> None:
        """Connect.

        Args:
            kind: ZeroMQ's, such as zmq.SUB.
            endpoint: the daemon's.
            key: the key file, for a station with `security`.
            option: the command's that gave the endpoint, for the error.

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
        self.socket.linger = 0
        if loaded is not None:
            loaded.apply(self.socket)
        try:
            self._handshakes = Handshakes(self._context, self.socket, endpoint, has_key=loaded is not None)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise typer.BadParameter(f"must be an endpoint, got {endpoint!r}", param_hint=f"'{option}'") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handshakes.close()
        self.socket.close()
        self._context.term()

    def wait(self, timeout_s: float | None, event: int) -> bool:
        """Whether zmq.POLLIN or zmq.POLLOUT came true in time; None: wait for ever.

        Raises:
            InspectorError: the station does not let it in.
        """
        try:
            return self._handshakes.wait(event, timeout_s)
        except ConnectionRefusedError as error:
            raise InspectorError(str(error)) from error
