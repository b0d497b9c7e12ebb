"""The requests socket: ROUTER, one JSON object in, one out. status, replay, drain; the rest is handed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import zmq

from inspector.errors import JournalError, MessageRefusedError
from inspector.journal.writer import read_results
from inspector.security.farewell import part
from inspector.security.gate import Gate
from inspector.security.keys import Role
from inspector.security.sockets import bind, read_peer, receive
from inspector.service.control.request_keys import check_keys
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.part import Part

_MAX_REQUEST_BYTES = 65_536
_MAX_REPLAY = 1000
_HIGH_WATER_MARK = 100
"""Requests, and answers of a megabyte, that wait for one peer; more answers to one that reads none are dropped."""
_FAREWELL = json.dumps({"ok": False, "error": "SHUTDOWN: the station stopped before it could answer"}).encode()
Command: TypeAlias = Callable[[dict[str, Any], str], dict[str, Any]]
"""Answers a request of somebody; a `ValueError` says why it is refused."""
_FOR_REQUESTERS = frozenset({"status", "replay"})
"""The rest changes how the station works, and is for operators."""


class RequestsThread(Part):
    """Answers every request, the malformed ones with what is wrong, those at its end with `ok: false`.

    `binding` is where its socket is bound.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        cameras: tuple[str, ...],
        journal_path: Path,
        status: Callable[[], dict[str, Any]],
        drain: Callable[[str], None],
        orders: Mapping[str, Command] | None = None,
        gate: Gate | None = None,
        secret_key: bytes | None = None,
        health: Health,
    ) -> None:
        """Bind; `drain` and `orders`, further requests by name, are told who asks, as `read_peer` says it.

        Raises:
            ConfigError: the endpoint cannot be bound.
        """
        super().__init__("requests", health=health)
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = _MAX_REQUEST_BYTES
        self._socket.sndhwm = self._socket.rcvhwm = _HIGH_WATER_MARK
        self.binding = bind(self._socket, endpoint, "sockets.requests", secret_key)
        self._has_keys = secret_key is not None
        self._gate = gate or Gate("requests")
        self._cameras = cameras
        self._journal_path = journal_path
        self._commands: Mapping[str, Command] = {
            "status": lambda _, who: status(),
            "replay": lambda request, who: self._replay(request),
            "drain": lambda _, who: self._drain(drain, who),
        } | dict(orders or {})

    def step(self) -> None:
        """Answer one request."""
        if self._socket.poll(200, zmq.POLLIN):
            self._serve(*receive(self._socket))

    def release(self) -> None:
        part(self._socket, _FAREWELL)  # left open it would hold up the end of the process
        super().release()

    def _serve(self, frames: list[zmq.Frame], count: int) -> None:
        parts = [frame.bytes for frame in frames]
        who = read_peer(frames[-1], has_keys=self._has_keys)
        answer = _FAREWELL  # where this thread dies of it
        try:
            answer = json.dumps(self._answer(parts[-1], who, count)).encode()
        finally:
            self._send([*parts[:-1], answer])

    def _send(self, parts: list[bytes]) -> None:
        # DEALER peers send [id, body], REQ peers [id, empty, body]: the answer keeps the envelope.
        try:
            self._socket.send_multipart(parts, flags=zmq.DONTWAIT)
        except zmq.ZMQError as error:
            self._log.warning("answer", f"requests: answer could not be delivered: {error}")

    def _answer(self, body: bytes, who: str, count: int) -> dict[str, Any]:
        try:
            self._gate.admit(who, count)
            request = _parse(body)
            name = str(request.get("request"))
            command = self._commands.get(name)
            if command is None:
                got = f"got {request['request']!r:.80}" if "request" in request else "is missing"
                raise ValueError(f"request: must be one of {list(self._commands)}, {got}")
            if name not in _FOR_REQUESTERS:
                self._gate.admit_role(who, Role.OPERATOR)
            check_keys(name, request)
            return {"ok": True, **command(request, who)}
        except MessageRefusedError as error:
            self._log.warning(error.cause, f"request refused: {error}")
            return {"ok": False, "error": str(error)}
        except (ValueError, RecursionError, JournalError) as error:
            return {"ok": False, "error": str(error)}

    def _replay(self, request: dict[str, Any]) -> dict[str, Any]:
        camera, from_seq = request.get("camera"), request.get("from_seq")
        if camera not in self._cameras:
            raise ValueError(f"camera: must be one of {list(self._cameras)}, got {camera!r:.80}")
        if type(from_seq) is not int or not 1 <= from_seq < 2**63:
            raise ValueError(f"from_seq: must be a whole number from 1 to 2^63 - 1, got {from_seq!r:.80}")
        results = read_results(self._journal_path, str(camera), from_seq, _MAX_REPLAY)
        return {"results": [{**result, "replay": True} for result in results], "more": len(results) == _MAX_REPLAY}

    @staticmethod
    def _drain(drain: Callable[[str], None], who: str) -> dict[str, Any]:
        drain(who)
        return {"draining": True}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"request: must be a JSON object: {error}") from error
    if not isinstance(request, dict):
        raise ValueError(f"request: must be a JSON object, got {type(request).__name__}")
    return request
