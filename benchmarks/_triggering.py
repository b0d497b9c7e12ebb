"""A PLC and a camera program, a thread each: a frame that is pushed against one that is triggered, one at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import zmq

from inspector.testing.station_process import build_message

_WAIT_MS = 60_000


class Triggering:
    """Takes turns at pushing and triggering, at the sockets of a station that runs."""

    def __init__(
        self, sockets: Mapping[str, str], camera: str, frames: list[np.ndarray[Any, np.dtype[np.uint8]]]
    ) -> None:
        self._camera = camera
        self._frames = frames
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._requests = self._connect(zmq.REQ, sockets["requests"])
        self._results = self._connect(zmq.SUB, sockets["results"])
        self._results.subscribe(f"result/{camera}")
        self._pushed, self._answers = (self._connect(zmq.PUSH, sockets["frames"]) for _ in range(2))
        self._told = self._connect(zmq.SUB, sockets["results"])
        self._told.subscribe(f"trigger/{camera}")
        self._stop_asked = threading.Event()
        self._program = threading.Thread(target=self._answer, name="camera-program")

    def __enter__(self) -> Triggering:
        self._program.start()
        while not self._is_heard():
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self._program.join()
        self._context.destroy(linger=0)

    def push(self, number: int) -> float:
        """Milliseconds from a frame that is sent to its verdict."""
        message = self._build(number)
        began = time.monotonic()
        self._pushed.send_multipart(message, copy=False)
        return self._receive(began)

    def trigger(self, number: int) -> float:
        """Milliseconds from a request that is sent to the verdict of the frame that answers it."""
        began = time.monotonic()
        self._ask(number, _WAIT_MS)
        return self._receive(began)

    def _ask(self, number: int, timeout_ms: int) -> None:
        asked = {"request": "trigger", "camera": self._camera, "trigger_id": number, "timeout_ms": timeout_ms}
        self._requests.send_json(asked)
        answer: Any = self._requests.recv_json()
        if not answer["ok"]:
            raise SystemExit(answer["error"])

    def _receive(self, began: float) -> float:
        if not self._results.poll(_WAIT_MS):
            raise SystemExit("a result did not come")
        result = json.loads(self._results.recv_multipart()[1])
        if result["verdict"] != "PASS":
            raise SystemExit(f"must be PASS, got {result}")
        return (time.monotonic() - began) * 1000

    def _is_heard(self) -> bool:
        """Whether the camera program answers, and the results come."""
        self._ask(0, 500)
        return bool(self._results.poll(2000)) and json.loads(self._results.recv_multipart()[1])["verdict"] == "PASS"

    def _answer(self) -> None:
        while not self._stop_asked.is_set():
            if self._told.poll(100):
                trigger_id = json.loads(self._told.recv_multipart()[1])["trigger_id"]
                self._answers.send_multipart(self._build(int(trigger_id), trigger_id=trigger_id), copy=False)

    def _build(self, number: int, **header: Any) -> list[Any]:
        frame = self._frames[number % len(self._frames)]
        return list(build_message(self._camera, str(number), frame, pixel_format="RGB8", **header))

    def _connect(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.connect(endpoint)
        return socket
