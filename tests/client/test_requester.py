"""A program asks a station and gets the answer to that request, a refusal with its cause, or a timeout."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from inspector.client import Requester, RequestRefusedError

WAIT_S = 20.0


class Station:
    """A ROUTER that gives these answers, None: none; the requests are kept."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.asked: list[dict[str, Any]] = []
        self._threads: list[threading.Thread] = []

    def answer(self, *answers: dict[str, Any] | None) -> None:
        self._threads.append(threading.Thread(target=self._run, args=(answers,)))
        self._threads[-1].start()

    def _run(self, answers: tuple[dict[str, Any] | None, ...]) -> None:
        held: list[list[bytes]] = []
        for answer in answers:
            assert self._socket.poll(WAIT_S * 1000)
            *envelope, body = self._socket.recv_multipart()
            self.asked.append(json.loads(body))
            if answer is None:
                held.append(envelope)
                continue
            for late in held:
                self._socket.send_multipart([*late, b'{"ok": true, "late": true}'])
            self._socket.send_multipart([*envelope, json.dumps(answer).encode()])

    def close(self) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
        self._context.destroy(linger=0)


@pytest.fixture
def station() -> Iterator[Station]:
    station = Station()
    yield station
    station.close()


def test_requests_are_sent_without_what_was_not_given(station: Station) -> None:
    ok = {"ok": True, "offline": {"top": {"keep": True}}, "jpeg": base64.b64encode(b"JPEG").decode()}
    station.answer(*[ok] * 8)
    with Requester(station.endpoint, timeout_s=WAIT_S) as requester:
        assert requester.trigger("top", "t1", part_id="p1", timeout_ms=50)["ok"] is True
        requester.trigger(("top", "side"), "t3")
        requester.announce("side", "t2")
        assert requester.offline("top", keep=True) == {"top": {"keep": True}}
        assert requester.online() == {"top": {"keep": True}}
        assert requester.snapshot("top", width=640) == b"JPEG"
        requester.live("top", rate_hz=2, seconds=30)
        assert requester.ask("status") == ok
    assert station.asked == [
        {"request": "trigger", "camera": "top", "trigger_id": "t1", "part_id": "p1", "timeout_ms": 50},
        {"request": "trigger", "camera": ["top", "side"], "trigger_id": "t3"},
        {"request": "announce", "camera": "side", "trigger_id": "t2"},
        {"request": "offline", "camera": "top", "keep": True},
        {"request": "online"},
        {"request": "snapshot", "camera": "top", "width": 640},
        {"request": "live", "camera": "top", "rate_hz": 2, "seconds": 30},
        {"request": "status"},
    ]


def test_refusal_is_raised_with_its_cause_and_the_next_request_is_answered(station: Station) -> None:
    station.answer({"ok": False, "error": "camera top: offline, takes no triggers"}, {"ok": True})
    with Requester(station.endpoint, timeout_s=WAIT_S) as requester:
        with pytest.raises(RequestRefusedError, match="camera top: offline, takes no triggers"):
            requester.trigger("top", "t1")
        assert requester.ask("status") == {"ok": True}


def test_late_answer_is_not_taken_for_that_of_the_next_request(station: Station) -> None:
    station.answer(None, {"ok": True, "late": False})
    with Requester(station.endpoint, timeout_s=0.2) as requester:
        with pytest.raises(TimeoutError, match=r"no station answered at tcp://.* within 0\.2 s"):
            requester.trigger("top", "t1")
        requester._timeout_s = WAIT_S
        assert requester.ask("status") == {"ok": True, "late": False}


def test_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="endpoint: must be one of ZeroMQ"):
        Requester("nonsense")
