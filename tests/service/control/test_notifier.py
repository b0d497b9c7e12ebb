"""Datagrams as sd_notify(3) sends them."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.service.control.notifier import Notifier, StatusLine


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        yield listener


def test_message_arrives_as_one_datagram_when_the_address_is_a_path(supervisor: socket.socket, tmp_path: Path) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.notify("READY=1\nSTATUS=ready")
    notifier.notify("WATCHDOG=1")
    assert [supervisor.recv(1024), supervisor.recv(1024)] == [b"READY=1\nSTATUS=ready", b"WATCHDOG=1"]


def test_message_arrives_when_the_address_is_abstract(supervisor: socket.socket) -> None:
    name = f"inspector-test-{uuid.uuid4().hex}"
    supervisor.bind(f"\0{name}")
    Notifier(f"@{name}").notify("STOPPING=1")
    assert supervisor.recv(1024) == b"STOPPING=1"


def test_address_comes_from_the_environment_when_none_is_given(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    Notifier().notify("READY=1")
    assert supervisor.recv(1024) == b"READY=1"


def test_given_address_wins_when_the_environment_names_another(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "environment"))
    supervisor.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "environment"))
    Notifier("").notify("READY=1")
    with pytest.raises(BlockingIOError):
        supervisor.recv(1024)


def test_nothing_is_sent_when_no_supervisor_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", lambda *args: pytest.fail("a socket was made"))
    Notifier().notify("READY=1")


@pytest.mark.parametrize("address", ["gone", "x" * 200], ids=["gone", "too long"])
def test_flow_goes_on_when_the_supervisor_cannot_be_reached(tmp_path: Path, address: str) -> None:
    Notifier(str(tmp_path / address)).notify("WATCHDOG=1")


def test_flow_goes_on_when_the_supervisor_does_not_read(supervisor: socket.socket, tmp_path: Path) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, contextlib.suppress(BlockingIOError):
        filler.setblocking(False)
        for _ in range(100_000):
            filler.sendto(b"x", str(tmp_path / "notify"))
        pytest.fail("the supervisor's queue never filled")
    started = time.monotonic()
    Notifier(str(tmp_path / "notify")).notify("WATCHDOG=1")
    assert time.monotonic() - started < 5


def test_flow_goes_on_when_no_socket_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    Notifier(str(tmp_path / "notify")).notify("WATCHDOG=1")


def test_flow_goes_on_when_the_supervisor_went_away(supervisor: socket.socket, tmp_path: Path) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.notify("READY=1")
    supervisor.close()
    notifier.notify("WATCHDOG=1")


def test_status_is_one_line_whatever_its_text_says(supervisor: socket.socket, tmp_path: Path) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.notify("WATCHDOG=1", status="top: lost\nREADY=1\r\nMAINPID=1")
    notifier.notify("", status="x" * 5000)
    assert supervisor.recv(8192) == b"WATCHDOG=1\nSTATUS=top: lost READY=1 MAINPID=1"
    assert len(supervisor.recv(8192)) <= 4096


def test_status_line_shows_rates_over_its_period(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    line = StatusLine(every_s=5.0)
    assert line.build("READY", {"top": 0, "side": 0}, {}) == "READY"
    now = 104.9
    assert line.build("READY", {"top": 49, "side": 0}, {}) is None
    now = 105.0
    assert line.build("READY", {"top": 50, "side": 0}, {}) == "READY; top 10.0, side 0.0 frames/s"
    now = 106.0
    assert line.build("RUNNING", {"top": 99, "side": 0}, {}) == "RUNNING; top 10.0, side 0.0 frames/s"
    now = 110.0
    assert line.build("RUNNING", {"top": 50, "side": 5}, {}) == "RUNNING; top 0.0, side 1.0 frames/s"


def test_status_line_names_each_failure_once() -> None:
    line = StatusLine(every_s=60.0)
    past = {"last error": "source top: lost", "reload refused": None}
    assert line.build("DEGRADED: source top: lost", {}, past) == "DEGRADED: source top: lost"
    past["reload refused"] = "device: needs a restart"
    expected = "RUNNING; last error: source top: lost; reload refused: device: needs a restart"
    assert line.build("RUNNING", {}, past) == expected
