"""A daemon starts only where no other runs the station, and puts on record how it ended."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import MagicMock

import pytest
import zmq

from inspector.config import SOCKETS, Station
from inspector.errors import ConfigError
from inspector.journal.events import Kind
from inspector.service.daemon import Daemon
from inspector.service.telemetry.health import Health


class Audit:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def note(self, kind: Kind, outcome: str, who: str, **details: Any) -> None:
        self.notes.append((kind, outcome, who, details))


class Parts:
    """Of a station that never ran."""

    def __init__(self) -> None:
        self.audit = Audit()


def end_by_itself(daemon: Any) -> None:
    """As `run` does."""
    try:
        raise ZeroDivisionError("nobody foresaw it")
    finally:
        daemon._note_stop()


def test_exception_that_nobody_foresaw_is_on_record_as_a_fault(tmp_path: Path, health: Health) -> None:
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {}}})
    daemon: Any = Daemon(station, tmp_path / "station.yaml")
    daemon.health, daemon._parts = health, Parts()
    with pytest.raises(ZeroDivisionError):
        end_by_itself(daemon)
    reason = {"reason": "ZeroDivisionError('nobody foresaw it')"}
    assert daemon._parts.audit.notes == [(Kind.STOP, "fault", "station", reason)]


@pytest.mark.parametrize(("fault", "forgiven"), [(False, 1), (True, 0)])
def test_builds_under_way_are_forgiven_when_the_daemon_is_stopped_and_not_after_a_fault(
    tmp_path: Path, health: Health, monkeypatch: pytest.MonkeyPatch, fault: bool, forgiven: int
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("inspector.service.daemon.forgive_attempts", lambda: calls.append("forgiven"))
    monkeypatch.setattr("inspector.service.daemon.EndGuard", MagicMock())
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {}}})
    daemon: Any = Daemon(station, tmp_path / "station.yaml")
    daemon.health = health
    for name in ("_parts", "_http", "_starts", "_log_counter", "_context", "_notifier"):
        setattr(daemon, name, MagicMock())
    daemon._parts.stop.return_value = []
    daemon._parts.ledger.account.return_value.in_flight = {}
    if fault:
        health.fault("device", "gone")
    daemon._shutdown()
    assert len(calls) == forgiven


def refuse(folder: Path) -> NoReturn:
    raise ConfigError(f"station: must be run by one daemon, but another runs it from {folder}", field=("station",))


def test_sockets_and_port_of_the_daemon_that_runs_a_station_stay_its_own_when_another_is_started(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("a")
    # The kernel lets a process take its own lock twice, so another's is a stand-in.
    monkeypatch.setattr("inspector.service.daemon.StationLock", refuse)
    with socket.create_server(("127.0.0.1", 0)) as http, zmq.Context() as context, context.socket(zmq.PUB) as results:
        results.bind(f"ipc://{folder}/results")
        before = (folder / "results").stat().st_ino
        sockets = {name: f"ipc://{folder}/{name}" for name in SOCKETS}
        fields = {"schema": 1, "station": "press", "state_dir": folder, "device": "cpu", "sockets": sockets}
        station = Station.model_validate(
            fields | {"http": {"host": "127.0.0.1", "port": http.getsockname()[1]}, "cameras": {"top": {}}}
        )
        with pytest.raises(ConfigError, match="must be run by one daemon"):
            Daemon(station, folder / "station.yaml").run()
        assert (folder / "results").stat().st_ino == before
