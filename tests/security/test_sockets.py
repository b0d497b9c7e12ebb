"""Binding, to an address of its own that it notices the loss of; who a message is from."""

from __future__ import annotations

import socket as sockets
from pathlib import Path

import pytest
import zmq

from inspector.errors import ConfigError
from inspector.security.sockets import Binding, bind, read_peer
from inspector.transient import is_transient


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://*", "tcp://127.0.0.1"),
        ("tcp://127.0.0.1", "tcp://*"),
        ("tcp://[::]", "tcp://127.0.0.1"),
        ("tcp://127.0.0.1", "tcp://[::]"),
        ("tcp://[::1]", "tcp://[::]"),
    ],
)
def test_port_is_refused_to_a_second_socket_on_an_address_that_the_first_has_too(
    context: zmq.Context[zmq.Socket[bytes]], one: str, other: str
) -> None:
    """libzmq sets SO_REUSEADDR: it is the kernel that lets nobody have a port twice that is listened on."""
    if "[" in one + other and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with context.socket(zmq.PULL) as first, context.socket(zmq.PULL) as second:
        bind(first, f"{one}:*", "sockets.frames")
        port = first.last_endpoint.rpartition(b":")[2].decode()
        with pytest.raises(ConfigError, match=r"sockets\.frames: must be an endpoint .* in use"):
            bind(second, f"{other}:{port}", "sockets.frames")


def test_name_of_ipc_without_a_file_is_refused_to_a_second_socket(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PULL) as first, context.socket(zmq.PULL) as second:
        bind(first, "ipc://@inspector-test-sockets", "sockets.frames")
        with pytest.raises(ConfigError, match=r"sockets\.results: must be an endpoint .* in use"):
            bind(second, "ipc://@inspector-test-sockets", "sockets.results")


# ---------------------------------------------------------------- files of ipc


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("i") / "frames"


@pytest.fixture
def receiver(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    return context.socket(zmq.PULL)


@pytest.fixture
def binding(receiver: zmq.Socket[bytes], path: Path) -> Binding:
    return bind(receiver, f"ipc://{path}", "sockets.frames")


def test_messages_come_over_ipc(
    context: zmq.Context[zmq.Socket[bytes]], receiver: zmq.Socket[bytes], binding: Binding
) -> None:
    with context.socket(zmq.PUSH) as sender:
        sender.connect(binding.endpoint)
        sender.send(b"frame")
        assert receiver.poll(5000)
        assert receiver.recv() == b"frame"
    assert binding.find_loss() is None


def test_second_socket_of_a_station_at_the_same_path_is_refused(
    context: zmq.Context[zmq.Socket[bytes]], binding: Binding
) -> None:
    with context.socket(zmq.PULL) as second, pytest.raises(ConfigError) as caught:
        bind(second, binding.endpoint, "sockets.results")
    rule = f"sockets.results: must be an endpoint this process can bind, got '{binding.endpoint}'"
    assert str(caught.value) == f"{rule}: another socket of this station is already listening there"
    assert caught.value.field == ("sockets", "results")
    assert is_transient(caught.value)  # it may be free at the next try
    assert binding.find_loss() is None


def test_loss_is_told_when_the_file_is_removed_or_its_folder_moved(binding: Binding, path: Path) -> None:
    moved = path.parent.rename(path.parent.with_name(f"{path.parent.name}-moved"))
    missing = f"ipc://{path}: clients can no longer connect: its file cannot be found: No such file or directory"
    assert binding.find_loss() == missing
    moved.rename(path.parent)
    assert binding.find_loss() is None
    path.unlink()
    assert binding.find_loss() == missing


def test_loss_is_told_and_the_others_file_kept_when_a_program_takes_the_path(
    context: zmq.Context[zmq.Socket[bytes]], receiver: zmq.Socket[bytes], binding: Binding, path: Path
) -> None:
    with context.socket(zmq.PULL) as thief, context.socket(zmq.PUSH) as sender:
        thief.bind(binding.endpoint)  # libzmq by itself takes it
        words = "clients can no longer connect: another file has taken its place, and another socket of this station"
        assert binding.find_loss() == f"{binding.endpoint}: {words} listens there"
        receiver.close(linger=0)
        binding.remove()
        sender.connect(binding.endpoint)
        sender.send(b"frame")
        assert thief.poll(5000)


def test_file_is_removed_with_its_socket(receiver: zmq.Socket[bytes], binding: Binding, path: Path) -> None:
    receiver.close(linger=0)
    binding.remove()
    assert not path.exists()


def test_socket_without_a_file_loses_none(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PULL) as receiver:
        binding = bind(receiver, "tcp://127.0.0.1:*", "sockets.frames")
        assert binding.find_loss() is None
        binding.remove()
