"""Whoever waits at a ROUTER that is closed gets an answer, and none sends into a connection that ends."""

from __future__ import annotations

import socket as sockets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import zmq

from inspector.security import farewell
from inspector.security.farewell import find_envelope, part, refuse_waiting

WAIT_MS = 10_000
ENDPOINTS = ["tcp://127.0.0.1:*", "inproc://farewell"]
Ask = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def router(context: zmq.Context[zmq.Socket[bytes]], request: pytest.FixtureRequest) -> zmq.Socket[bytes]:
    made = context.socket(zmq.ROUTER)
    made.bind(getattr(request, "param", ENDPOINTS[0]))
    return made


@pytest.fixture
def ask(context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> Iterator[Ask]:
    """A peer that has asked; its question is at the router."""
    peers: list[zmq.Socket[bytes]] = []

    def run(kind: int = zmq.REQ, body: tuple[bytes, ...] = (b"question",), *, numbered: bool = False) -> Any:
        peer = context.socket(kind)
        peer.rcvtimeo = WAIT_MS
        if numbered:
            peer.setsockopt(zmq.REQ_CORRELATE, 1)
        peer.connect(router.last_endpoint)
        peer.send_multipart(body)
        peers.append(peer)
        return peer

    yield run
    for peer in peers:
        peer.close(linger=0)


def wait_for_questions(router: zmq.Socket[bytes], count: int) -> list[list[zmq.Frame]]:
    """Read them: what is asked later comes later."""
    messages = []
    for _ in range(count):
        assert router.poll(WAIT_MS)
        messages.append(router.recv_multipart(copy=False))
    return messages


# ---------------------------------------------------------------- the envelope


def test_answer_is_addressed_as_the_question_was_by_each_kind_of_peer(router: zmq.Socket[bytes], ask: Ask) -> None:
    cases: dict[str, tuple[Any, int]] = {
        "REQ": (ask(), 2),
        "numbered REQ": (ask(numbered=True), 3),
        "DEALER": (ask(zmq.DEALER), 1),
        "DEALER as a REQ": (ask(zmq.DEALER, (b"", b"question")), 2),
        "DEALER with a long part": (ask(zmq.DEALER, (b"12345", b"", b"question")), 1),
    }
    found = {}
    for _ in cases:
        [message] = wait_for_questions(router, 1)
        envelope = find_envelope(message)
        assert envelope == [frame.bytes for frame in message[: len(envelope)]]
        found[envelope[0]] = envelope
        router.send_multipart([*envelope, b"answer"])
    assert sorted(map(len, found.values())) == sorted(length for _, length in cases.values())
    for name, (peer, _) in cases.items():
        assert peer.recv_multipart()[-1] == b"answer", name


# ---------------------------------------------------------------- while it goes on


def test_all_that_waits_is_answered_and_nothing_is_waited_for(router: zmq.Socket[bytes], ask: Ask) -> None:
    assert refuse_waiting(router, b"no") == 0
    peers = [ask(), ask(numbered=True), ask(zmq.DEALER)]
    refused, deadline = 0, time.monotonic() + WAIT_MS / 1000
    while refused < len(peers):
        assert time.monotonic() < deadline
        refused += refuse_waiting(router, b"no")
    assert [peer.recv_multipart()[-1] for peer in peers] == [b"no"] * 3


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("router", ENDPOINTS, indirect=True)
def test_all_that_ask_before_the_end_are_told_when_the_socket_is_closed(
    router: zmq.Socket[bytes], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "_HOLD_S", WAIT_MS / 1000)
    monkeypatch.setattr(farewell, "_MAX_TAKEN", 5)
    peers = [ask(numbered=number % 2 == 0) for number in range(5)]
    assert part(router, b"the end") == 5
    assert router.closed
    assert [peer.recv_multipart() for peer in peers] == [[b"the end"]] * 5


def test_peer_that_asks_again_at_once_has_its_question_answered_by_the_next_router(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "_HOLD_S", WAIT_MS / 1000)
    monkeypatch.setattr(farewell, "_MAX_TAKEN", 1)
    endpoint = router.last_endpoint
    peer = ask()
    assert part(router, b"the end") == 1
    assert peer.recv() == b"the end"
    peer.send(b"again")  # into no connection: that one has ended
    with context.socket(zmq.ROUTER) as following:
        bind_when_free(following, endpoint)
        [message] = wait_for_questions(following, 1)
        following.send_multipart([*find_envelope(message), b"answer"])
        assert peer.recv() == b"answer"


def bind_when_free(socket: zmq.Socket[bytes], endpoint: bytes) -> None:
    deadline = time.monotonic() + WAIT_MS / 1000
    while True:
        try:
            socket.bind(endpoint)
            return
        except zmq.ZMQError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_end_is_not_held_up_by_a_peer_that_floods(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "_MAX_TAKEN", 10)
    with context.socket(zmq.DEALER) as flood:
        flood.linger = 0
        flood.connect(router.last_endpoint)
        for _ in range(500):
            flood.send(b"question")
        assert router.poll(WAIT_MS)
        assert part(router, b"the end") <= 500
    assert router.closed


@pytest.fixture
def connected() -> Iterator[tuple[str, list[tuple[sockets.socket, sockets.socket]]]]:
    """An endpoint and three connections to it: the end that came, and the end that was let in."""
    with sockets.create_server(("127.0.0.1", 0)) as server:
        pairs = []
        for _ in range(3):
            mine = sockets.create_connection(server.getsockname())
            pairs.append((mine, server.accept()[0]))
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}", pairs
        for pair in pairs:
            for each in pair:
                each.close()


def write_until_ended(ours: sockets.socket, connections: Any) -> None:
    """As libzmq writes one answer; again if this machine stood still for longer than the kernel keeps it."""
    before = len(connections._open)
    while len(connections._open) == before:
        ours.sendall(b"answer")
        connections.end_answered(time.monotonic() + 0.1)


def read_all(peer: sockets.socket) -> bytes:
    """Until the end of the connection."""
    return b"".join(iter(lambda: peer.recv(100), b""))


def test_answer_comes_together_with_the_end_of_its_connection_and_of_no_other(
    connected: tuple[str, list[tuple[sockets.socket, sockets.socket]]],
) -> None:
    endpoint, [(one, other_one), (two, other_two), (three, _)] = connected
    connections = farewell._Connections(endpoint)
    for peer, ours in ((two, other_two), (one, other_one)):
        peer.settimeout(WAIT_MS / 1000)
        assert ours.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_CORK)  # what is written waits for the end
        write_until_ended(ours, connections)
        assert read_all(peer).startswith(b"answer")
    connections.close()
    three.setblocking(False)
    with pytest.raises(BlockingIOError):
        three.recv(100)


def test_connection_is_left_alone_whose_peer_has_not_read_what_it_was_sent_before(
    connected: tuple[str, list[tuple[sockets.socket, sockets.socket]]],
) -> None:
    endpoint, [(_, slow), (quick, ours), _] = connected
    slow.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            slow.send(bytes(1 << 20))
    connections = farewell._Connections(endpoint)
    write_until_ended(ours, connections)
    quick.settimeout(WAIT_MS / 1000)
    assert read_all(quick).startswith(b"answer")
    assert slow.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 1) == b"\1"  # established
    connections.close()


def test_no_connection_is_waited_for_when_nothing_was_written_or_the_endpoint_has_none(
    connected: tuple[str, list[tuple[sockets.socket, sockets.socket]]],
) -> None:
    for endpoint in (connected[0], "ipc:///tmp/x", "inproc://x"):
        connections = farewell._Connections(endpoint)
        connections.end_answered(time.monotonic())
        connections.close()
    for _, ours in connected[1]:
        ours.sendall(b"goes on")
