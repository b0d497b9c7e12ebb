"""Binding; who a message is from."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from inspector.sockets import bind, read_peer


def test_peer_without_a_key_is_known_by_its_address(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PULL) as receiver, context.socket(zmq.PUSH) as sender:
        port = receiver.bind_to_random_port("tcp://127.0.0.1")
        sender.connect(f"tcp://127.0.0.1:{port}")
        sender.send(b"frame")
        assert receiver.poll(5000)
        assert read_peer(receiver.recv(copy=False)) == "unauthenticated 127.0.0.1"


@pytest.mark.parametrize(("endpoint", "bound"), [("tcp://[::1]:*", b"tcp://[::1]:"), ("tcp://*:*", b"tcp://0.0.0.0:")])
def test_address_is_bound_in_its_own_family(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, bound: bytes
) -> None:
    if "::1" in endpoint and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with context.socket(zmq.PULL) as receiver:
        bind(receiver, endpoint, "sockets.frames")
        assert receiver.last_endpoint.startswith(bound)
