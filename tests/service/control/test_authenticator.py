"""Who is let in: by libzmq's own question, over real sockets; and what happens when nobody answers it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry

from inspector.security.gate import AllowList
from inspector.security.keys import Client, Role, edit_clients
from inspector.security.sockets import bind, read_peer
from inspector.service.control.authenticator import Authenticator
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics

WAIT_MS = 10_000
STATION_PUBLIC, STATION_SECRET = zmq.curve_keypair()
PUBLIC, SECRET = zmq.curve_keypair()
Launch = Callable[[Any], Any]


@pytest.fixture
def allow_list(tmp_path: Path) -> AllowList:
    with edit_clients(tmp_path / "clients.yaml") as clients:
        created = datetime(2026, 1, 31, tzinfo=UTC)
        clients.append(Client(name="cam-1", public_key=PUBLIC.decode(), roles=(Role.SENDER,), created=created))
    return AllowList(tmp_path / "clients.yaml")


@pytest.fixture
def authenticator(
    context: zmq.Context[zmq.Socket[bytes]], allow_list: AllowList, health: Health, metrics: Metrics
) -> Authenticator:
    return Authenticator(context, allow_list, health=health, metrics=metrics)


@pytest.fixture
def pull(context: zmq.Context[zmq.Socket[bytes]], authenticator: Authenticator) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.PULL)
    bind(socket, "tcp://127.0.0.1:*", "sockets.frames", STATION_SECRET)
    return socket


@pytest.fixture
def push(pull: zmq.Socket[bytes]) -> Iterator[Callable[[], zmq.Socket[bytes]]]:
    """Connect with the key; the sender's sockets are not in the station's context, as elsewhere."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = []

    def connect() -> zmq.Socket[bytes]:
        socket = context.socket(zmq.PUSH)
        socket.linger, socket.immediate = 0, True
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = STATION_PUBLIC, PUBLIC, SECRET
        socket.connect(pull.last_endpoint)
        made.append(socket)
        return socket

    yield connect
    context.destroy(linger=0)


def test_message_carries_the_name_of_its_senders_key(
    authenticator: Authenticator, launch: Launch, pull: zmq.Socket[bytes], push: Callable[[], zmq.Socket[bytes]]
) -> None:
    launch(authenticator)
    sender = push()
    assert sender.poll(WAIT_MS, zmq.POLLOUT)
    sender.send_multipart([b"{}", b"pixels"])
    assert pull.poll(WAIT_MS)
    assert {read_peer(frame, has_keys=True) for frame in pull.recv_multipart(copy=False)} == {"cam-1"}


def test_nobody_gets_in_when_nobody_answers(
    authenticator: Authenticator, push: Callable[[], zmq.Socket[bytes]]
) -> None:
    assert not push().poll(500, zmq.POLLOUT)  # made, not started


def test_dead_authenticator_is_a_fault_and_no_open_door(
    authenticator: Authenticator,
    launch: Launch,
    allow_list: AllowList,
    running: Health,
    push: Callable[[], zmq.Socket[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(public_key: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(allow_list, "find_key", refuse)
    launch(authenticator)
    sender = push()
    assert not sender.poll(500, zmq.POLLOUT)
    authenticator.join(10)
    assert not authenticator.is_alive()
    assert str(authenticator.failure) == "broken"
    assert running.state is State.FAULT
    assert not push().poll(500, zmq.POLLOUT)


def test_list_that_turns_bad_is_a_problem_until_it_is_good_again(
    authenticator: Authenticator, launch: Launch, tmp_path: Path, running: Health, registry: CollectorRegistry
) -> None:
    path = tmp_path / "clients.yaml"
    sound = path.read_bytes()
    path.write_bytes(b"clients: {")
    launch(authenticator)
    wait_until(lambda: running.problem("clients"))
    assert (running.state, running.ready()[0]) == (State.DEGRADED, True)
    path.write_bytes(sound)
    wait_until(lambda: not running.problem("clients"))
    assert running.state is State.RUNNING
    made = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    wait_until(lambda: registry.get_sample_value("inspector_oldest_key_timestamp_seconds") == made)


def test_thread_beats_and_is_forgotten_when_it_ended(
    authenticator: Authenticator, launch: Launch, end: Callable[[Any], None], beats: queue.Queue[str]
) -> None:
    launch(authenticator)
    assert [beats.get(timeout=10) for _ in range(2)] == ["authenticator"] * 2
    end(authenticator)
    assert beats.queue[-1] == "forget authenticator"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
