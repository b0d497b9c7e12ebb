"""One request to a running daemon, and its answer."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inspector.cli.terminal.peer import Peer
from inspector.errors import InspectorError

_ANSWER_S = 5.0


class Daemon:
    """A running daemon's requests socket; closed with the `with` block."""

    def __init__(self, endpoint: str, key: Path | None, *, option: str = "--requests") -> None:
        """Connect; `option` gave the endpoint, for the error."""
        import zmq

        self._endpoint = endpoint
        self._peer = Peer(zmq.REQ, endpoint, key, option=option)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._peer.__exit__(kind, error, at)

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """The daemon's answer.

        Raises:
            InspectorError: none came, or the request is refused.
        """
        import zmq

        self._peer.socket.send_json({"request": request, **fields})
        if not self._peer.wait(_ANSWER_S, zmq.POLLIN):
            raise InspectorError(f"no daemon answered at {self._endpoint} within {_ANSWER_S} s")
        answer: dict[str, Any] = json.loads(self._peer.socket.recv())
        if not answer["ok"]:
            raise InspectorError(f"refused: {answer['error']}")
        return answer
