"""What `inspector check` says about keys, clients and HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inspector.cli.check.security import check_security
from inspector.config import Station
from inspector.security.keys import edit_clients, make_station_key

CAMERAS: dict[str, Any] = {"top": {}}


def make_station(**more: Any) -> Station:
    return Station(schema=1, station="press", cameras=CAMERAS, **more)


def make_secured(folder: Path) -> Station:
    return make_station(security={"key": str(folder / "station.key"), "clients": folder / "clients.yaml"})


def results(station: Station) -> dict[str, str]:
    return {finding.what: finding.result for finding in check_security(station)}


def test_station_without_keys_has_only_http_to_check() -> None:
    assert results(make_station()) == {"http access": "ok"}


def test_key_and_clients_pass_when_there_and_fail_when_not(tmp_path: Path) -> None:
    station = make_secured(tmp_path)
    assert results(station) == {"security.key": "FAIL", "security.clients": "FAIL", "http access": "ok"}
    make_station_key(tmp_path / "station.key")
    with edit_clients(tmp_path / "clients.yaml"):
        pass
    assert results(station) == {"security.key": "ok", "security.clients": "ok", "http access": "ok"}
    (tmp_path / "station.key").chmod(0o644)
    assert results(station)["security.key"] == "FAIL"


def test_credential_is_not_called_wrong_when_only_the_service_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    http = {"username": "metrics", "password": "credential:http-password"}
    station = make_station(security={"key": "credential:station-key"}, http=http)
    found = results(station)
    assert found["security.key"] == found["http access"] == "WARN"


def test_password_that_is_not_there_fails(tmp_path: Path) -> None:
    http = {"username": "metrics", "password": str(tmp_path / "none")}
    assert results(make_station(http=http)) == {"http access": "FAIL"}
