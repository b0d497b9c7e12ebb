"""A station that is made of two sockets: it publishes and answers what a test says."""

from __future__ import annotations

import json
import time
from typing import Any

import zmq

from inspector.client import Event, StatusChanged, Subscriber, Verdict
from inspector.client.messages import name_topic

WAIT_S = 10.0
"""More than any message takes; nothing waits that long unless it fails."""

LAST = "READY"
"""Ends a `collect`: the state of a status that no test uses otherwise."""


def make_result(seq: int, camera: str = "top", **changes: Any) -> dict[str, Any]:
    """A PASS as on the wire."""
    score, threshold = changes.get("score", 0.5), changes.get("threshold", 1.0)
    numbers = isinstance(score, int | float) and isinstance(threshold, int | float)
    return {
        "schema": 1, "station": "press-3", "boot_id": "b1", "seq": seq, "camera": camera, "frame_id": f"f{seq}",
        "part_id": f"p{seq}", "trigger_id": None, "verdict": "PASS", "reason": "OK", "reason_code": 0, "score": 0.5,
        "threshold": 1.0, "margin": score - threshold if numbers else None, "regions": [], "warn": False,
        "simulated": False, "replay": False, "message": None, "recorded": True, "published_utc_ns": time.time_ns(),
        "recipe_id": "lens", "recipe_sha256": "a" * 64, "model_sha256": "b" * 64, "web": None,
    } | changes  # fmt: skip


def make_fail(seq: int, **changes: Any) -> dict[str, Any]:
    return make_result(seq, verdict="FAIL", reason="DEFECT", reason_code=1, score=2.0, **changes)


class Station:
    """Publishes at `results`, answers at `requests`; both in the test's own thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.publisher = context.socket(zmq.XPUB)
        self.router = context.socket(zmq.ROUTER)
        self.results, self.requests = (
            f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
            for socket in (self.publisher, self.router)
        )
        self.boot_id = "b1"
        self.lifebit = 0
        self.last_seq: dict[str, int] = {}

    def send(self, topic: str, message: Any) -> None:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.publisher.send_multipart([topic.encode(), body])

    def publish(self, *results: dict[str, Any]) -> None:
        for result in results:
            self.last_seq[result["camera"]] = result["seq"]
            self.send(name_topic(result["camera"]), result)

    def build_status(self, *, moves: bool = True, **changes: Any) -> dict[str, Any]:
        self.lifebit += moves
        return {
            "schema": 1, "station": "press-3", "boot_id": self.boot_id, "state": "RUNNING", "lifebit": self.lifebit,
            "last_seq": dict(self.last_seq), "last_result": {}, "published_utc_ns": time.time_ns(),
        } | changes  # fmt: skip

    def status(self, *, moves: bool = True, **changes: Any) -> None:
        self.send("status", self.build_status(moves=moves, **changes))

    def settle(self, subscriber: Subscriber, **changes: Any) -> list[Event]:
        """Statuses until the heartbeat is established and the state told; what is told meanwhile, that included."""
        events: list[Event] = []
        limit = time.monotonic() + WAIT_S
        while not (events and isinstance(events[-1], StatusChanged)):
            assert time.monotonic() < limit, events
            self.status(**changes)
            events += [event] if (event := subscriber.receive(0.03)) else []
        return events

    def join(self, subscriptions: int) -> None:
        """Wait until so many subscriptions have arrived."""
        for _ in range(subscriptions):
            assert self.publisher.poll(int(WAIT_S * 1000))
            self.publisher.recv()


class Answers:
    """The requests side."""

    def __init__(self, station: Station) -> None:
        self._router = station.router
        self.requests: list[dict[str, Any]] = []

    def take(self) -> list[bytes]:
        """The next request's envelope; the request itself is kept."""
        assert self._router.poll(int(WAIT_S * 1000))
        *envelope, body = self._router.recv_multipart()
        self.requests.append(json.loads(body))
        return envelope

    def give(self, envelope: list[bytes], answer: Any) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._router.send_multipart([*envelope, body])

    def none_waits(self) -> bool:
        return not self._router.poll(100)


def next_verdict(subscriber: Subscriber) -> Verdict:
    """The next verdict; other events are left out."""
    while not isinstance(event := subscriber.receive(WAIT_S), Verdict):
        assert event is not None
    return event


def wait_for_state(subscriber: Subscriber, state: str) -> None:
    """Until the subscriber's thread has read it; nothing is fetched."""
    limit = time.monotonic() + WAIT_S
    while subscriber._follower._state != state:
        assert time.monotonic() < limit
        time.sleep(0.01)


def wait_for_events(subscriber: Subscriber, number: int) -> None:
    """Until so many wait to be fetched."""
    limit = time.monotonic() + WAIT_S
    while len(subscriber._follower._inbox._items) < number:
        assert time.monotonic() < limit
        time.sleep(0.01)
