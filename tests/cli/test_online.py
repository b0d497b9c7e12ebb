"""What `inspector tail` shows, `inspector send` says of a frame, and `inspector run` of a station that cannot start."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.cli.online import describe_result
from inspector.errors import ConfigError
from inspector.service.daemon import Daemon
from inspector.service.orders.signals import OFFLINE, ONLINE

Run = Callable[..., tuple[int, str]]

RESULT = {
    "verdict": "PASS", "reason": "OK", "camera": "top", "seq": 7, "frame_id": "part-1", "score": 3.0, "threshold": 4.0,
    "latency_ms": {"total": 12.3}, "warn": False, "simulated": False,
}  # fmt: skip


def test_line_has_verdict_score_and_time_and_says_where_it_warns_or_the_frame_is_simulated() -> None:
    line = "PASS  OK              top #7 part-1 score 3/4 12 ms"
    assert describe_result(RESULT) == line
    assert describe_result(RESULT | {"warn": True}) == f"{line} warn"
    assert describe_result(RESULT | {"simulated": True}) == f"{line} simulated"
    views = [{"camera": "top", "reason": "OK"}, {"camera": "left", "reason": None}]
    assert describe_result(RESULT | {"views": views}) == f"{line}, top OK, left without verdict"
    assert describe_result(RESULT | {"warn": True, "simulated": True}) == f"{line} warn simulated"


def test_no_frame_id_forges_a_line_or_reaches_the_terminal() -> None:
    line = describe_result(RESULT | {"frame_id": "x\nPASS  OK \x1b[2J", "score": None})
    assert line == r"PASS  OK              top #7 x\nPASS  OK \x1b[2J 12 ms"


def test_tail_shows_verdicts_on_frames_and_on_parts(run: Run, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    station = context.socket(zmq.XPUB)
    station.rcvtimeo = 30_000
    port = station.bind_to_random_port("tcp://127.0.0.1")

    def publish() -> None:
        for _ in range(2):
            station.recv()  # a subscription
        for topic in ("status", "result/top", "part/body"):
            result = RESULT | {"camera": topic.removeprefix("result/")}
            station.send_multipart([topic.encode(), json.dumps(result).encode()])

    sending = threading.Thread(target=publish)
    sending.start()
    status, printed = run("tail", "--from", f"tcp://127.0.0.1:{port}", "--count", "2", "--timeout", "30")
    sending.join()
    assert status == 0, printed
    line = "PASS OK {} #7 part-1 score 3/4 12 ms"
    assert printed == f"{line.format('top')} {line.format('part/body')}"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8), np.uint8))
    return tmp_path


def receive(daemon: zmq.Socket[bytes]) -> list[dict[str, Any]]:
    """The headers of two frames."""
    daemon.rcvtimeo = 10_000
    return [json.loads(daemon.recv_multipart()[0]) for _ in range(2)]


@pytest.mark.parametrize(("options", "simulated"), [((), True), (("--live",), False)], ids=["trial", "live"])
def test_pictures_are_sent_as_simulated_unless_they_are_said_to_be_of_real_parts(
    run: Run, context: zmq.Context[zmq.Socket[bytes]], pictures: Path, options: tuple[str, ...], simulated: bool
) -> None:
    daemon = context.socket(zmq.PULL)
    port = daemon.bind_to_random_port("tcp://127.0.0.1")
    status, printed = run("send", pictures, "--to", f"tcp://127.0.0.1:{port}", *options)
    assert (status, "2 frames sent" in printed) == (0, True), printed
    assert [header["simulated"] for header in receive(daemon)] == [simulated] * 2


def test_picture_is_captured_when_it_is_sent_and_not_when_it_began_to_wait_for_the_daemon(
    run: Run, context: zmq.Context[zmq.Socket[bytes]], pictures: Path
) -> None:
    daemon, bound_utc_ns = context.socket(zmq.PULL), []

    def bind() -> None:
        bound_utc_ns.append(time.time_ns())
        daemon.bind(f"ipc://{pictures}/frames")

    timer = threading.Timer(0.3, bind)
    timer.start()
    status, printed = run("send", pictures, "--to", f"ipc://{pictures}/frames")
    timer.join()
    assert (status, "2 frames sent" in printed) == (0, True), printed
    assert all(bound_utc_ns[0] < header["captured_utc_ns"] < time.time_ns() for header in receive(daemon))


@pytest.mark.parametrize("options", [(), ("--count", "2")], ids=["each once", "repeating"])
def test_file_that_cannot_be_read_is_named_and_the_others_are_sent(
    run: Run, context: zmq.Context[zmq.Socket[bytes]], pictures: Path, options: tuple[str, ...]
) -> None:
    (pictures / "a-broken.png").write_bytes(b"no image")
    (pictures / "aa-dangling.png").symlink_to("nowhere.png")
    daemon = context.socket(zmq.PULL)
    port = daemon.bind_to_random_port("tcp://127.0.0.1")
    status, printed = run("send", pictures, "--to", f"tcp://127.0.0.1:{port}", *options)
    names = [header["frame_id"].rpartition("/")[2] for header in receive(daemon)]
    assert names == ["a.png", "b.png"]
    assert (status, "2 frames sent" in printed) == (1, True), printed
    broken, dangling = pictures / "a-broken.png", pictures / "aa-dangling.png"
    assert f"2 of 4 files could not be sent: {broken}, {dangling}" in printed
    assert printed.count(f"not sent: {broken}: ") == 1


def test_sending_ends_when_no_file_can_be_read(
    run: Run, context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    daemon = context.socket(zmq.PULL)
    port = daemon.bind_to_random_port("tcp://127.0.0.1")
    status, printed = run("send", tmp_path, "--to", f"tcp://127.0.0.1:{port}", "--count", "5")
    assert (status, "0 frames sent" in printed, "1 of 1 files could not be sent" in printed) == (1, True, True)


def test_frame_is_named_by_text_that_the_daemon_takes_whatever_its_file_is_called(
    run: Run, context: zmq.Context[zmq.Socket[bytes]], pictures: Path
) -> None:
    (pictures / "a.png").rename(pictures / "a-\udcff.png")
    (pictures / "b.png").rename(pictures / f"{'b' * 250}.png")
    daemon = context.socket(zmq.PULL)
    port = daemon.bind_to_random_port("tcp://127.0.0.1")
    status, printed = run("send", pictures, "--to", f"tcp://127.0.0.1:{port}")
    assert status == 0, printed
    first, second = (header["frame_id"] for header in receive(daemon))
    assert first.endswith("/a-\\udcff.png")
    assert second == f"{'b' * 196}.png"


# ---------------------------------------------------------------- a start that fails


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A station file; whatever starting it does to this process is undone."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGUSR1, OFFLINE, ONLINE)}
    monkeypatch.setattr("inspector.service.daemon.set_up_logs", lambda _: None)
    monkeypatch.setattr("inspector.logs.log_unforeseen", lambda: None)
    path = tmp_path / "station.yaml"
    path.write_text("schema: 1\nstation: press\nstate_dir: state\nhttp: {port: 9000}\ncameras: {top: {}}\n")
    yield path
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("number", "expected", "begins"),
    [
        (errno.ENOSPC, 1, "inspector: cannot start now; try again later, as systemd does: "),
        (errno.EADDRINUSE, 1, "inspector: cannot start now; try again later, as systemd does: "),
        (errno.EACCES, 78, "inspector: bad configuration "),
    ],
)
def test_station_that_cannot_start_ends_with_78_only_when_it_takes_a_person(
    run: Run, station: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: int, begins: str
) -> None:
    def refuse(self: Daemon) -> int:
        error = OSError(number, os.strerror(number))
        raise ConfigError(f"http: must be an address this process can bind: {error}", field=("http", "port")) from error

    monkeypatch.setattr(Daemon, "run", refuse)
    status, printed = run("run", station)
    assert status == expected
    assert printed.startswith(f"{begins}{station}:4:8: http: must be an address this process can bind: [Errno")


def test_station_file_that_the_disk_does_not_give_for_now_is_no_bad_configuration(
    run: Run, station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: Any) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_text", refuse)
    status, printed = run("run", station)
    assert status == 1
    assert "cannot be read: [Errno 5]" in printed
