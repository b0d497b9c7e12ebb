"""Endpoints over the life of a process: each belongs to one station, its loss is told, and no sender waits for ever."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspector.testing.station_process import (
    SOCKETS,
    RunningStation,
    StartStation,
    base_config,
    build_message,
    free_port,
    good_frame,
)
from tests.system.chaos import long_only

WAIT_S = 60.0


class PatientSender(threading.Thread):
    """A REQ sender that waits for each answer without end, as imagezmq's does."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, name: str) -> None:
        super().__init__(name=name)
        self.answers: list[bytes] = []
        self._stop_asked = threading.Event()
        self._socket = context.socket(zmq.REQ)
        self._socket.connect(endpoint)

    def stop(self) -> None:
        self._stop_asked.set()

    def run(self) -> None:
        with self._socket:
            self._socket.linger = 0
            while not self._stop_asked.wait(0.02):
                frame_id = f"{self.name}-{len(self.answers)}"
                self._socket.send_multipart(build_message("top", frame_id, good_frame()))
                while not self._socket.poll(100):
                    if self._stop_asked.is_set():
                        return
                self.answers.append(self._socket.recv())


@pytest.fixture
def senders() -> Iterator[Callable[[str], list[PatientSender]]]:
    started: list[PatientSender] = []
    with zmq.Context() as context:

        def run(endpoint: str) -> list[PatientSender]:
            started.extend(PatientSender(context, endpoint, f"good{number}") for number in range(4))
            for sender in started:
                sender.start()
            return started

        yield run
        for sender in started:
            sender.stop()
            sender.join()


def wait_until(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def end_by_signal(station: RunningStation) -> int:
    station.process.send_signal(signal.SIGTERM)
    return 0


def end_by_request(station: RunningStation) -> int:
    peer = station.open(zmq.REQ, "requests")
    peer.send_json({"request": "drain"})
    assert peer.recv_json() == {"ok": True, "draining": True}
    return 0


def end_by_fault(station: RunningStation) -> int:
    station.fault(kill_thread="device")
    return 1


@pytest.mark.parametrize(
    "end",
    [end_by_signal, pytest.param(end_by_request, marks=long_only), pytest.param(end_by_fault, marks=long_only)],
)
def test_senders_that_wait_for_each_answer_go_on_after_the_station_ended_and_came_back(
    start: StartStation, senders: Callable[[str], list[PatientSender]], end: Callable[[RunningStation], int]
) -> None:
    station = start(faults=True)
    running = senders(station.config["sockets"]["imagezmq"])
    wait_until(lambda: all(len(sender.answers) >= 3 for sender in running), "three answers before the stop")
    status = end(station)
    assert station.process.wait(WAIT_S) == status
    before = [len(sender.answers) for sender in running]
    start(config=station.config)
    for sender, count in zip(running, before, strict=True):
        wait_until(lambda: sender.answers[count:].count(b"OK") >= 3, f"{sender.name} waits for ever")  # noqa: B023
    answers = {answer for sender in running for answer in sender.answers}
    assert b"OK" in answers
    assert all(answer == b"OK" or answer.startswith(b"ERROR SHUTDOWN") for answer in answers)


# ---------------------------------------------------------------- files of ipc


@pytest.fixture
def over_ipc(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A station whose sockets are files."""
    folder = tmp_path_factory.mktemp("e")
    return base_config(recipe) | {"sockets": {name: f"ipc://{folder}/{name}" for name in SOCKETS}}


def test_second_station_with_the_same_paths_is_refused_by_name_and_the_first_goes_on(
    start: StartStation, over_ipc: dict[str, Any]
) -> None:
    first = start(config=over_ipc)
    results = first.subscribe()
    second = start(config=over_ipc | {"station": "other", "http": {"port": free_port()}}, wait=False)
    assert second.process.wait(WAIT_S) == 1  # the path may be free at the next try
    words = f"sockets.results: must be an endpoint this process can bind, got '{over_ipc['sockets']['results']}'"
    assert f"{words}: process {first.process.pid} is already listening there" in second.log_text()
    first.open(zmq.PUSH, "frames").send_multipart(build_message("top", "good-1", good_frame()))
    wait_until(lambda: b"good-1" in results.recv_multipart()[1], "verdict of the first")
    assert first.get("/ready")[0] == 200


def test_station_whose_socket_is_removed_under_it_says_so_and_comes_back_with_the_next_start(
    start: StartStation, over_ipc: dict[str, Any]
) -> None:
    station = start(config=over_ipc)
    Path(over_ipc["sockets"]["frames"].removeprefix("ipc://")).unlink()
    with contextlib.suppress(OSError):  # it is gone soon
        wait_until(lambda: station.get("/ready")[0] == 503, "503")
    assert station.process.wait(WAIT_S) == 1
    assert "FAULT: sockets.frames: ipc://" in station.log_text()
    assert "clients can no longer connect: its file cannot be found" in station.log_text()
    again = start(config=over_ipc)
    assert again.get("/ready") == (200, "READY\n")
