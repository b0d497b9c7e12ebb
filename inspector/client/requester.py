"""Requests to a station: triggers, cameras that people work at, and whatever else its requests socket takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from inspector.client.handshakes import Handshakes
from inspector.client.keys import ClientKey, load_key


class RequestRefusedError(ValueError):
    """Raised where the station answers that it does not do what it was asked for, and why."""


class Requester:
    """What a program that fires triggers uses. Used by one thread at a time; closed with the `with` block.

    Each request raises `RequestRefusedError`, `ConnectionRefusedError` where the station does not let it in, and
    `TimeoutError`: then nobody knows whether the station does it. A trigger has a verdict, or was never told.
    """

    def __init__(self, endpoint: str, *, key: ClientKey | Path | str | None = None, timeout_s: float = 5.0) -> None:
        """Connect; a station that is not there yet is waited for with the first request.

        Args:
            endpoint: the station's `sockets.requests`.
            key: a key with the role `operator`, or its file, for a station with `security`.
            timeout_s: for one request, above 0.

        Raises:
            KeyFileError: the key file cannot be used.
            ValueError: the endpoint is none.
        """
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        loaded = load_key(key) if isinstance(key, (str, Path)) else key
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.linger = 0
        # A late answer is not taken for the next request's, and one that never comes is got over.
        self._socket.req_relaxed, self._socket.req_correlate = 1, 1
        if loaded is not None:
            loaded.apply(self._socket)
        try:
            self._handshakes = Handshakes(self._context, self._socket, endpoint, has_key=loaded is not None)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ValueError(f"endpoint: must be one of ZeroMQ, such as tcp://host:5558, got {endpoint!r}") from error

    def trigger(
        self,
        camera: str | Sequence[str],
        trigger_id: str,
        *,
        part_id: str | None = None,
        timeout_ms: int | None = None,
    ) -> dict[str, Any]:
        """Fire a camera, or a group: all of it or none. Once this returns the trigger is on record.

        Each camera gets one verdict on it: see `Subscriber.wait_for`.

        Args:
            camera: one with `triggers: software`, or several.
            trigger_id: 1 to 256 characters; of no trigger of these cameras that is open.
            part_id: for the verdicts.
            timeout_ms: how long a frame may take to come; None: its camera's `deadline_ms`.
        """
        return self.ask("trigger", camera=_name(camera), trigger_id=trigger_id, part_id=part_id, timeout_ms=timeout_ms)

    def announce(
        self,
        camera: str | Sequence[str],
        trigger_id: str,
        *,
        part_id: str | None = None,
        timeout_ms: int | None = None,
        given_utc_ns: int | None = None,
    ) -> dict[str, Any]:
        """Tell a trigger that the hardware is about to give, of cameras with `triggers: hardware`.

        With `given_utc_ns`, when its signal was given: the frame of this one camera may have come already.
        """
        fields = {"part_id": part_id, "timeout_ms": timeout_ms, "given_utc_ns": given_utc_ns}
        return self.ask("announce", camera=_name(camera), trigger_id=trigger_id, **fields)

    def offline(self, camera: str | None = None, *, keep: bool = False) -> dict[str, Any]:
        """Take a camera, or all, offline: once this returns nothing of it passes. The cameras that are, by name."""
        absent: dict[str, Any] = self.ask("offline", camera=camera, keep=keep)["offline"]
        return absent

    def online(self, camera: str | None = None) -> dict[str, Any]:
        """Bring a camera, or all, back online. The cameras that are still offline, by name."""
        absent: dict[str, Any] = self.ask("online", camera=camera)["offline"]
        return absent

    def snapshot(self, camera: str, *, width: int | None = None) -> bytes:
        """The camera's last frame, a JPEG."""
        return base64.b64decode(self.ask("snapshot", camera=camera, width=width)["jpeg"])

    def live(
        self, camera: str, *, rate_hz: float | None = None, seconds: float | None = None, width: int | None = None
    ) -> dict[str, Any]:
        """Have the overlays socket show a camera for a while, under `live/CAMERA`; see `docs/plc/pictures.md`."""
        return self.ask("live", camera=camera, rate_hz=rate_hz, seconds=seconds, width=width)

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Any request, less the fields that are None; the answer as it came."""
        given = {name: value for name, value in fields.items() if value is not None}
        self._socket.send(json.dumps({"request": request, **given}).encode())
        if not self._handshakes.wait(zmq.POLLIN, self._timeout_s):
            raise TimeoutError(f"no station answered at {self._endpoint} within {self._timeout_s} s")
        answer: dict[str, Any] = json.loads(self._socket.recv())
        if answer.get("ok") is not True:
            raise RequestRefusedError(f"{self._endpoint}: {answer.get('error')}")
        return answer

    def close(self) -> None:
        """Close; what was asked and not answered is given up."""
        self._handshakes.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _name(cameras: str | Sequence[str]) -> str | list[str]:
    return cameras if isinstance(cameras, str) else list(cameras)
