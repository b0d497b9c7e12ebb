"""The client's key file, and what a client says when it is not let in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspector.client import KeyFileError, Refused, StatusChanged, Subscriber
from inspector.client.keys import ClientKey, load_key
from inspector.testing.fake_station import WAIT_S

STATION_PUBLIC, STATION_SECRET = (key.decode() for key in zmq.curve_keypair())
PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())
KEY = ClientKey("plc", "press-3", STATION_PUBLIC, PUBLIC, SECRET)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(mode: int = 0o600, text: str | None = None, **changes: Any) -> Path:
        path = tmp_path / "plc.key"
        path.write_text(json.dumps(json.loads(KEY.dump()) | changes) if text is None else text)
        path.chmod(mode)
        return path

    return write


def test_key_is_read_as_it_was_written_and_never_shown(write: Callable[..., Path]) -> None:
    key = load_key(write())
    assert key == KEY
    assert SECRET not in repr(key)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602, 0o604])
def test_file_others_may_read_or_change_is_refused(write: Callable[..., Path], mode: int) -> None:
    path = write(mode)
    with pytest.raises(KeyFileError, match=rf"plc\.key: must have mode 0640 or stricter, got {mode:04o}: chmod 600"):
        Subscriber("tcp://127.0.0.1:1", key=path)


def test_fault_names_file_field_and_rule(write: Callable[..., Path], tmp_path: Path) -> None:
    for changes, fault in (
        ({"text": "{"}, "must be a key file"),
        ({"text": "[]"}, "schema: must be 1"),
        ({"schema": 2}, "schema: must be 1"),
        ({"name": None}, "name: must be text"),
        ({"secret_key": SECRET[:-1]}, "secret_key: must be 40 characters"),
        ({"secret_key": "~" * 40}, "secret_key: must be a key|public_key: must match"),
        ({"public_key": STATION_PUBLIC}, "public_key: must match secret_key"),
    ):
        with pytest.raises(KeyFileError, match=rf"plc\.key: ({fault})"):
            load_key(write(**changes))
    with pytest.raises(KeyFileError, match="nowhere: cannot be read"):
        load_key(tmp_path / "nowhere")


def test_station_is_that_of_the_key_file_and_no_other(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"station: must match the key file, 'press-3', got 'press-4'"):
        Subscriber("tcp://127.0.0.1:1", key=write(), station="press-4")
    with Subscriber("tcp://127.0.0.1:1", key=write()) as subscriber:
        assert subscriber._follower._speakers.station == "press-3"


def receive_refusal(subscriber: Subscriber) -> Refused:
    event = subscriber.receive(WAIT_S)
    assert isinstance(event, Refused), event
    return event


@pytest.fixture
def publisher(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.XPUB)
    socket.curve_server = True
    socket.curve_secretkey = STATION_SECRET.encode()
    return socket


def test_subscriber_says_so_when_it_has_no_key_and_a_key_is_asked_for(publisher: zmq.Socket[bytes]) -> None:
    publisher.bind("tcp://127.0.0.1:*")
    with Subscriber(publisher.last_endpoint.decode(), heartbeat_s=60.0) as subscriber:
        assert "requires a key" in receive_refusal(subscriber).why


def test_subscriber_is_let_in_once_a_station_without_keys_has_some(
    context: zmq.Context[zmq.Socket[bytes]], publisher: zmq.Socket[bytes], write: Callable[..., Path]
) -> None:
    plain = context.socket(zmq.XPUB)
    plain.bind("tcp://127.0.0.1:*")
    endpoint = plain.last_endpoint.decode()
    with Subscriber(endpoint, key=write(), heartbeat_s=60.0) as subscriber:
        assert "requires no key" in receive_refusal(subscriber).why
        plain.close()
        for _ in range(200):
            try:
                publisher.bind(endpoint)
                break
            except zmq.ZMQError:
                assert subscriber.receive(0.05) is None
        status = {"schema": 1, "station": "press-3", "boot_id": "b1", "state": "RUNNING", "last_seq": {}}
        event = None
        for lifebit in range(200):
            now = {"lifebit": lifebit, "published_utc_ns": time.time_ns()}
            publisher.send_multipart([b"status", json.dumps(status | now).encode()])
            if event := subscriber.receive(0.05):
                break
        assert isinstance(event, StatusChanged)


def test_subscriber_says_so_when_the_station_has_another_key(
    publisher: zmq.Socket[bytes], write: Callable[..., Path]
) -> None:
    publisher.bind("tcp://127.0.0.1:*")
    path = write(station_public_key=PUBLIC)
    with Subscriber(publisher.last_endpoint.decode(), key=path, heartbeat_s=60.0) as subscriber:
        assert "has another key than in the key file" in receive_refusal(subscriber).why
