"""The subscriber's thread: it reads on by itself, ends with the subscriber, and what befalls it is told."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import zmq

from inspector.client import StatusChanged, Subscriber, SubscriberError, Verdict, pump
from inspector.testing.fake_station import WAIT_S, Station, make_result

Make = Callable[..., Subscriber]


def find_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "inspector-subscriber"]


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_thread_is_named_and_ends_with_its_subscriber(make_subscriber: Make) -> None:
    subscriber = make_subscriber()
    (thread,) = find_threads()
    assert thread.daemon
    subscriber.close()
    subscriber.close()
    assert find_threads() == []


def test_thread_ends_when_the_subscriber_is_forgotten(station: Station) -> None:
    Subscriber(station.results, station="press-3")
    gc.collect()
    wait_until(lambda: not find_threads())


def test_process_ends_at_once_when_it_forgot_to_close() -> None:
    script = "from inspector.client import Subscriber; s = Subscriber('tcp://127.0.0.1:1'); print(s.receive(0.1))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")


@pytest.mark.parametrize("options", [{"from_seq": {"top": "1"}}, {"heartbeat_s": 0}, {"heartbeat_s": float("nan")},
                                     {"heartbeat_s": float("inf")}])  # fmt: skip
def test_nothing_stays_open_when_the_constructor_refuses(station: Station, options: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Subscriber(station.results, **options)  # type: ignore[arg-type]
    gc.collect()
    assert find_threads() == []


def test_events_are_bounded_and_counted_when_the_user_never_reads(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(11, 6011, 500):
        station.publish(*(make_result(seq) for seq in range(first, first + 500)))
    wait_until(lambda: subscriber.dropped >= 1000)
    assert len(subscriber._follower._inbox._items) == 5000


@pytest.mark.parametrize("wait", ["receive", "wait_for", "iterate"])
def test_who_waits_comes_back_when_another_thread_closes(make_subscriber: Make, wait: str) -> None:
    subscriber, outcome = make_subscriber(), []

    def use() -> None:
        try:
            if wait == "iterate":
                outcome.append(list(subscriber))
            elif wait == "receive":
                subscriber.receive()
            else:
                outcome.append(subscriber.wait_for("top", frame_id="f1", timeout_s=60).doubt)
        except zmq.ZMQError as error:
            outcome.append(error.errno)

    thread = threading.Thread(target=use)
    thread.start()
    time.sleep(0.1)
    subscriber.close()
    thread.join(WAIT_S)
    assert outcome == [{"receive": zmq.ENOTSOCK, "wait_for": "the subscriber is closed", "iterate": []}[wait]]


def test_nothing_passes_and_it_is_told_when_the_thread_dies(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("none left")

    station.publish(make_result(11))
    wait_until(lambda: subscriber._follower._inbox._items)
    monkeypatch.setattr(subscriber._follower, "take_message", fail)
    station.status()
    wait_until(lambda: not find_threads())
    with pytest.raises(SubscriberError, match="the subscriber's thread died: MemoryError"):
        subscriber.receive(WAIT_S)
    with pytest.raises(SubscriberError):
        next(iter(subscriber))
    answer = subscriber.wait_for("top", frame_id="f11", timeout_s=WAIT_S)
    assert (answer.passed, answer.doubt) == (False, "the subscriber's thread died: MemoryError('none left')")
    subscriber.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forks while threads run
def test_fork_is_refused_and_leaves_the_subscriber_alone(station: Station, subscriber: Subscriber) -> None:
    with subscriber._pump.changed:  # as it may be when the process is forked: the child would wait for ever
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (lambda: subscriber.receive(0), lambda: subscriber.wait_for("top", frame_id="f", timeout_s=0)):
                try:
                    use()
                except SubscriberError:
                    refused += 1
            subscriber.close()
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    station.publish(make_result(11))
    event = subscriber.receive(WAIT_S)
    assert isinstance(event, Verdict)
    assert event.passed


def test_user_gets_its_turn_while_messages_pour_in(
    station: Station, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "_MAX_BURST", 1)
    station.publish(*(make_result(seq) for seq in range(11, 511)))
    for _ in range(500):
        assert isinstance(subscriber.receive(WAIT_S), Verdict | StatusChanged)
