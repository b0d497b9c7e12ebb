"""Who a message is from."""

from __future__ import annotations

import zmq

from inspector.sockets import read_peer


def test_peer_without_a_key_is_known_by_its_address(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PULL) as receiver, context.socket(zmq.PUSH) as sender:
        port = receiver.bind_to_random_port("tcp://127.0.0.1")
        sender.connect(f"tcp://127.0.0.1:{port}")
        sender.send(b"frame")
        assert receiver.poll(5000)
        assert read_peer(receiver.recv(copy=False)) == "unauthenticated 127.0.0.1"
