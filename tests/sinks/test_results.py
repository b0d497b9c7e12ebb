"""Results reach every subscriber that reads; one that does not loses its own, and publishing never waits."""

from __future__ import annotations

import json
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from inspector.errors import ConfigError
from inspector.sinks import results
from inspector.sinks.overlays import OverlaysSocket
from inspector.sinks.results import ResultsSocket

Subscribe = Callable[..., zmq.Socket[bytes]]
ENDPOINT = "inproc://results"
WAIT_S = 10.0
"""More than any message takes; nothing waits that long unless it fails."""


@pytest.fixture
def few_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A high-water mark that a test can reach."""
    monkeypatch.setattr(results, "_HIGH_WATER_MARK", 20)


@pytest.fixture
def publisher(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[ResultsSocket]:
    made = ResultsSocket(context, ENDPOINT)
    yield made
    made.close()


def test_endless_subscriber_holds_up_nobody(
    context: zmq.Context[zmq.Socket[bytes]], publisher: ResultsSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_MAX_SUBSCRIPTIONS", 7)
    with context.socket(zmq.XSUB) as flood:
        flood.connect(ENDPOINT)
        for number in range(14):
            flood.send(b"\x01topic%d" % number)
        assert [publisher.read_subscriptions() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("make", [ResultsSocket, OverlaysSocket])
def test_subscriber_can_send_no_more_than_a_topic(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path, make: Callable[..., ResultsSocket | OverlaysSocket]
) -> None:
    endpoint = f"ipc://{tmp_path}/socket"
    made = make(context, endpoint)
    with context.socket(zmq.XSUB) as subscriber, subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
        subscriber.linger = 0
        subscriber.connect(endpoint)
        subscriber.send(b"\x01topic")
        assert not monitor.poll(200)
        subscriber.send(b"\x02" + bytes(5000))
        assert monitor.poll(WAIT_S * 1000)
        subscriber.disable_monitor()
    made.close()


@pytest.fixture
def subscribe(context: zmq.Context[zmq.Socket[bytes]], publisher: ResultsSocket) -> Iterator[Subscribe]:
    """Make subscribers whose subscriptions have arrived."""
    made: list[zmq.Socket[bytes]] = []

    def run(*topics: str, endpoint: str = ENDPOINT) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.SUB)
        made.append(socket)
        socket.rcvtimeo = int(WAIT_S * 1000)
        socket.rcvhwm = 1
        socket.connect(endpoint)
        for topic in (*topics, f"probe{len(made)}"):
            socket.subscribe(topic)
        for _ in range(int(WAIT_S / 0.02)):
            send(publisher, f"probe{len(made)}", {})
            if socket.poll(20):
                break
        while socket.poll(0):
            socket.recv_multipart()
        return socket

    yield run
    for socket in made:
        socket.close(linger=0)


def send(publisher: ResultsSocket, topic: str, message: dict) -> bool:
    """Publish as the publisher's thread does: subscriptions are read in between."""
    publisher.read_subscriptions()
    return publisher.publish(topic, message)


def receive(socket: zmq.Socket[bytes]) -> tuple[str, dict]:
    topic, body = socket.recv_multipart()
    return topic.decode(), json.loads(body)


def drain(socket: zmq.Socket[bytes]) -> list[int]:
    seqs = []
    while socket.poll(0):
        seqs.append(receive(socket)[1]["seq"])
    return seqs


def test_subscriber_gets_topic_and_message_when_published(publisher: ResultsSocket, subscribe: Subscribe) -> None:
    subscriber = subscribe("result/", "status")
    assert send(publisher, "result/top", {"seq": 1, "frame_id": "schön", "score": 0.25, "message": None}) is True
    assert send(publisher, "status", {"lifebit": True}) is True
    assert receive(subscriber) == (
        "result/top", {"seq": 1, "frame_id": "schön", "score": 0.25, "message": None},
    )  # fmt: skip
    assert receive(subscriber) == ("status", {"lifebit": True})


def test_subscriber_gets_its_camera_only_when_it_asked_for_one(publisher: ResultsSocket, subscribe: Subscribe) -> None:
    top, both = subscribe("result/top"), subscribe("result/")
    for camera, seq in (("side", 1), ("top", 1), ("side", 2)):
        send(publisher, f"result/{camera}", {"seq": seq})
    assert receive(top) == ("result/top", {"seq": 1})
    assert not top.poll(0)
    assert [receive(both) for _ in range(3)] == [
        ("result/side", {"seq": 1}), ("result/top", {"seq": 1}), ("result/side", {"seq": 2}),
    ]  # fmt: skip


def test_publish_succeeds_when_nobody_listens(publisher: ResultsSocket) -> None:
    assert all(send(publisher, "result/top", {"seq": seq}) for seq in range(100))


@pytest.mark.usefixtures("few_waiting")
def test_lagging_subscriber_alone_loses_results_and_that_is_told_when_it_begins(
    publisher: ResultsSocket, subscribe: Subscribe
) -> None:
    lagging, reading = subscribe("result/"), subscribe("result/")
    told, read = [], []
    for seq in range(100):
        told.append(send(publisher, "result/top", {"seq": seq}))
        read.append(receive(reading)[1]["seq"])
    assert read == list(range(100))
    kept = drain(lagging)
    assert kept == list(range(told.index(False)))
    assert told.count(False) == 1
    assert 10 <= len(kept) <= 21  # twenty wait at the publisher, one at the subscriber


@pytest.mark.usefixtures("few_waiting")
def test_lagging_subscriber_gets_results_again_and_is_told_of_again_when_it_has_caught_up(
    publisher: ResultsSocket, subscribe: Subscribe
) -> None:
    lagging = subscribe("result/")
    for turn in (0, 1000):
        told = [send(publisher, "result/top", {"seq": turn + seq}) for seq in range(50)]
        assert told.count(False) == 1
        assert drain(lagging) == list(range(turn, turn + told.index(False)))
        for seq in range(turn + 50, turn + 50 + int(WAIT_S / 0.02)):
            assert send(publisher, "result/top", {"seq": seq}) is True
            if lagging.poll(20):
                break
        assert drain(lagging) == [seq]  # what was lost in between stays lost, a gap in seq


@pytest.mark.usefixtures("few_waiting")
def test_each_subscriber_is_told_of_when_several_lag(publisher: ResultsSocket, subscribe: Subscribe) -> None:
    first = subscribe("result/")
    told = [send(publisher, "result/top", {"seq": seq}) for seq in range(50)]
    second = subscribe("result/")
    told += [send(publisher, "result/top", {"seq": seq}) for seq in range(50, 100)]
    lost = [seq for seq in range(100) if not told[seq]]
    assert [len(drain(first)), len(drain(second))] == [lost[0], lost[1] - 50]
    assert len(lost) == 2


@pytest.mark.usefixtures("few_waiting")
def test_nothing_is_told_when_the_lagging_subscriber_did_not_ask_for_the_topic(
    publisher: ResultsSocket, subscribe: Subscribe
) -> None:
    lagging = subscribe("result/side")
    told = [send(publisher, "result/side", {"seq": seq}) for seq in range(15)]
    reading = subscribe("result/top")
    for seq in range(50):
        assert send(publisher, "result/top", {"seq": seq}) is True
        assert receive(reading) == ("result/top", {"seq": seq})
    assert told == [True] * 15
    assert drain(lagging) == list(range(15))


@pytest.mark.usefixtures("few_waiting")
def test_publish_never_waits_when_a_subscriber_is_stuck_over_tcp(
    context: zmq.Context[zmq.Socket[bytes]], free_endpoint: str
) -> None:
    publisher = ResultsSocket(context, free_endpoint)
    stuck = context.socket(zmq.SUB)
    stuck.rcvhwm, stuck.rcvbuf = 1, 1000
    stuck.subscribe("")
    stuck.connect(free_endpoint)
    slowest_s, after, deadline = 0.0, 0, time.monotonic() + WAIT_S
    while after < 50 and time.monotonic() < deadline:
        started = time.monotonic()
        delivered = send(publisher, "result/top", {"pad": "x" * 100_000})
        slowest_s = max(slowest_s, time.monotonic() - started)
        after += bool(after) or not delivered
    stuck.close(linger=0)
    publisher.close()
    assert after == 50
    assert slowest_s < 1.0


def test_subscriptions_do_not_pile_up_when_subscribers_come_and_go(
    publisher: ResultsSocket, subscribe: Subscribe
) -> None:
    subscriber = subscribe("result/")
    for number in range(50):
        subscriber.subscribe(f"other{number}")
    subscriber.subscribe("last")
    for _ in range(int(WAIT_S / 0.02)):
        send(publisher, "last", {})
        if subscriber.poll(20):
            break
    assert publisher._socket.poll(0, zmq.POLLIN) == 0


def wait_until_joined(publisher: ResultsSocket) -> None:
    deadline = time.monotonic() + WAIT_S
    while not publisher.read_subscriptions():
        assert time.monotonic() < deadline, "nobody joined"
        time.sleep(0.005)


def test_each_subscriber_is_told_of_once_when_a_second_one_joins_the_same_topic(
    context: zmq.Context[zmq.Socket[bytes]], publisher: ResultsSocket
) -> None:
    assert publisher.read_subscriptions() is False
    first, second = context.socket(zmq.SUB), context.socket(zmq.SUB)
    for subscriber in (first, second):
        subscriber.connect(ENDPOINT)
        subscriber.subscribe("status")
        wait_until_joined(publisher)
        assert publisher.read_subscriptions() is False
    first.close(linger=0)
    second.close(linger=0)


def test_nobody_is_told_of_when_a_subscriber_leaves(
    context: zmq.Context[zmq.Socket[bytes]], publisher: ResultsSocket
) -> None:
    subscriber = context.socket(zmq.SUB)
    subscriber.connect(ENDPOINT)
    subscriber.subscribe("status")
    wait_until_joined(publisher)
    subscriber.unsubscribe("status")
    assert publisher._socket.poll(int(WAIT_S * 1000), zmq.POLLIN)
    assert publisher.read_subscriptions() is False
    subscriber.close(linger=0)


@pytest.fixture
def free_endpoint() -> str:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_last_results_still_leave_when_the_socket_is_closed(
    context: zmq.Context[zmq.Socket[bytes]], free_endpoint: str
) -> None:
    publisher = ResultsSocket(context, free_endpoint)
    subscriber = context.socket(zmq.SUB)
    subscriber.rcvtimeo = int(WAIT_S * 1000)
    subscriber.rcvhwm = 1
    subscriber.subscribe("")
    subscriber.connect(free_endpoint)
    while not subscriber.poll(20):
        send(publisher, "probe", {"seq": -1})
    for seq in range(100):  # more than the kernel's buffers hold
        send(publisher, "result/top", {"seq": seq, "pad": "x" * 200_000})
    publisher.close()
    seqs = []
    while not seqs or seqs[-1] < 99:
        seqs.append(receive(subscriber)[1]["seq"])
    subscriber.close(linger=0)
    assert [seq for seq in seqs if seq >= 0] == list(range(100))


def test_socket_is_refused_naming_the_field_when_the_port_is_taken(
    context: zmq.Context[zmq.Socket[bytes]], free_endpoint: str
) -> None:
    taken = sockets.create_server(("127.0.0.1", int(free_endpoint.rpartition(":")[2])))
    with (
        taken,
        pytest.raises(ConfigError, match=rf"sockets\.results: must be .* got '{free_endpoint}': Address already"),
    ):
        ResultsSocket(context, free_endpoint)


def test_port_is_released_when_the_socket_is_closed(
    context: zmq.Context[zmq.Socket[bytes]], free_endpoint: str
) -> None:
    publisher = ResultsSocket(context, free_endpoint)
    with pytest.raises(ConfigError):
        ResultsSocket(context, free_endpoint)
    publisher.close()
    port, released, deadline = int(free_endpoint.rpartition(":")[2]), False, time.monotonic() + WAIT_S
    while not released and time.monotonic() < deadline:
        try:
            sockets.create_server(("127.0.0.1", port)).close()
            released = True
        except OSError:
            threading.Event().wait(0.005)
    assert released
