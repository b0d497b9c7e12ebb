"""Datagrams as sd_notify(3) sends them."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.service.notifier import Notifier


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
