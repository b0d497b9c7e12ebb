"""Binding; who a message is from."""

from __future__ import annotations

import socket as sockets
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
        assert read_peer(receiver.recv(copy=False), has_keys=False) == "unauthenticated 127.0.0.1"


def test_peer_without_a_key_cannot_say_it_has_one(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """ZMTP 3.0 (https://rfc.zeromq.org/spec/23/) spoken by hand: READY may carry any property, User-Id as well."""
    with context.socket(zmq.PULL) as receiver:
        port = receiver.bind_to_random_port("tcp://127.0.0.1")
        with sockets.create_connection(("127.0.0.1", port)) as sender:
            sender.sendall(b"\xff" + bytes(8) + b"\x7f\x03\0" + b"NULL".ljust(20, b"\0") + bytes(32))
            for left in range(64, 0, -1):
                assert sender.recv(1), f"{left} bytes of the greeting are missing"
            ready = b"\x05READY" + _property(b"Socket-Type", b"PUSH") + _property(b"User-Id", b"anna")
            sender.sendall(b"\x04" + bytes([len(ready)]) + ready + b"\0\x05frame")
            assert receiver.poll(5000)
            frame = receiver.recv(copy=False)
    assert frame.get("User-Id") == "anna"
    assert read_peer(frame, has_keys=False) == "unauthenticated 127.0.0.1"


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


@pytest.mark.parametrize(("endpoint", "bound"), [("tcp://[::1]:*", b"tcp://[::1]:"), ("tcp://*:*", b"tcp://0.0.0.0:")])
def test_address_is_bound_in_its_own_family(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, bound: bytes
) -> None:
    if "::1" in endpoint and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with context.socket(zmq.PULL) as receiver:
        bind(receiver, endpoint, "sockets.frames")
        assert receiver.last_endpoint.startswith(bound)
