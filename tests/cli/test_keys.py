"""`inspector keys`: made, listed, revoked; and what `check` makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from inspector.client.keys import load_key
from inspector.security.keys import Role, load_clients, read_station_key

Run = Callable[..., tuple[int, str]]
STATION = "schema: 1\nstation: press-3\ncameras: {top: {}}\n"


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "station.yaml"
    path.write_text(STATION + "security: {}\n")
    return path


def test_new_key_is_one_private_file_that_has_all_a_client_needs(run: Run, station: Path, tmp_path: Path) -> None:
    status, printed = run("keys", "new", "cam-1", "--role", "sender", "--camera", "top", "--station", station)
    assert status == 0, printed
    assert "frames: tcp://127.0.0.1:5555 imagezmq: tcp://127.0.0.1:5559" in printed
    assert "results" not in printed
    file = tmp_path / "cam-1.key"
    assert file.stat().st_mode & 0o777 == 0o600
    key = load_key(file)
    assert (key.name, key.station) == ("cam-1", "press-3")
    station_key = tmp_path / "keys" / "station.key"
    assert station_key.stat().st_mode & 0o777 == 0o600
    assert read_station_key(str(station_key))[0].decode() == key.station_public_key
    (client,) = load_clients(tmp_path / "keys" / "clients.yaml")
    assert (client.name, client.public_key, client.cameras) == ("cam-1", key.public_key, ("top",))
    assert key.secret_key not in repr(key)
    before = station_key.read_bytes()
    assert run("keys", "new", "plc", "--role", "subscriber", "--role", "requester", "--station", station)[0] == 0
    assert station_key.read_bytes() == before
    assert load_clients(tmp_path / "keys" / "clients.yaml")[1].roles == (Role.SUBSCRIBER, Role.REQUESTER)


def test_new_is_wrong_usage_when_an_option_is_and_changes_nothing(run: Run, station: Path, tmp_path: Path) -> None:
    assert run("keys", "new", "cam-1", "--role", "sender", "--station", station)[0] == 0
    before = (tmp_path / "keys" / "clients.yaml").read_bytes()
    for arguments, why in (
        (("cam-1", "--role", "sender"), "must be a new file, got cam-1.key"),
        (("cam-1", "--role", "sender", "--out", "x.key"), "must be a name that no key has used, got 'cam-1'"),
        (("x", "--role", "king"), "must be one of sender, subscriber, requester, operator, got ['king']"),
        (("x", "--role", "operator", "--camera", "top"), "must only be given with --role sender"),
        (("x", "--role", "sender", "--camera", "side"), "must be one of ['top'], got ['side']"),
        (("a b", "--role", "sender"), "String should match pattern"),
    ):
        status, printed = run("keys", "new", *arguments, "--station", station)
        assert (status, why in printed) == (2, True), printed
    assert (tmp_path / "keys" / "clients.yaml").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam-1.key", "keys", "station.yaml"]


def test_revoked_key_is_listed_as_such_and_its_name_not_given_again(run: Run, station: Path) -> None:
    assert run("keys", "new", "anna", "--role", "operator", "--station", station)[0] == 0
    assert run("keys", "revoke", "anna", "--station", station)[0] == 0
    status, printed = run("keys", "list", "--station", station)
    assert status == 0
    assert "anna" in printed
    assert "UTC" in printed
    assert run("keys", "revoke", "anna", "--station", station)[0] == 1
    assert run("keys", "revoke", "otto", "--station", station)[0] == 2
    assert run("keys", "new", "anna", "--role", "operator", "--out", "b.key", "--station", station)[0] == 2


def test_key_can_be_made_when_the_stations_own_is_a_credential(run: Run, station: Path, tmp_path: Path) -> None:
    station.write_text(STATION + "security: {key: 'credential:station.key'}\n")
    new = ("keys", "new", "cam-1", "--role", "sender", "--station", station)
    status, printed = run(*new)
    assert (status, "'--station-key': required if" in printed) == (2, True)
    assert run(*new, "--station-key", tmp_path / "sealed.key")[0] == 0
    assert read_station_key(str(tmp_path / "sealed.key"))[0].decode() == load_key(Path("cam-1.key")).station_public_key


def test_another_station_key_is_refused_when_the_station_file_names_its_own(
    run: Run, station: Path, tmp_path: Path
) -> None:
    station.write_text(STATION + "security: {key: keys/station.key}\n")
    new = ("keys", "new", "cam-1", "--role", "sender", "--station", station, "--station-key")
    status, printed = run(*new, tmp_path / "other.key")
    assert (status, "must be the station file's security.key" in printed) == (2, True)
    assert not (tmp_path / "other.key").exists()
    assert run(*new, tmp_path / "keys" / "station.key")[0] == 0


def test_section_to_add_is_named_when_the_station_has_no_security(run: Run, station: Path) -> None:
    station.write_text(STATION)
    status, printed = run("keys", "list", "--station", station)
    assert status == 78
    assert "add security: {key: keys/station.key, clients: keys/clients.yaml}" in printed


def test_check_proves_key_and_list(run: Run, station: Path, tmp_path: Path) -> None:
    assert run("keys", "new", "cam-1", "--role", "sender", "--station", station)[0] == 0
    _, printed = run("check", "--no-environment", station)
    public = load_key(tmp_path / "cam-1.key").station_public_key
    assert f"public key {public}" in printed
    assert "1 accepted, 0 revoked" in printed
    (tmp_path / "keys" / "station.key").chmod(0o644)
    (tmp_path / "keys" / "clients.yaml").chmod(0o666)
    status, printed = run("check", "--no-environment", station)
    assert status == 78
    assert "must have mode 0640 or stricter" in printed
    assert "must have mode 0644 or stricter" in printed


def test_command_refuses_a_key_file_others_may_read(run: Run, station: Path, tmp_path: Path) -> None:
    assert run("keys", "new", "plc", "--role", "subscriber", "--station", station)[0] == 0
    os.chmod(tmp_path / "plc.key", 0o644)  # noqa: PTH101
    status, printed = run("tail", "--key", tmp_path / "plc.key")
    assert (status, "must have mode 0640 or stricter, got 0644" in printed) == (2, True)


def test_send_says_that_no_daemon_took_the_only_frame(run: Run, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "part.png"), np.zeros((8, 8), np.uint8))
    with zmq.Context() as context, context.socket(zmq.PULL) as unbound:
        port = unbound.bind_to_random_port("tcp://127.0.0.1")
        unbound.unbind(unbound.last_endpoint)
        status, printed = run("send", tmp_path / "part.png", "--to", f"tcp://127.0.0.1:{port}", "--timeout", 0.3)
    assert (status, "no daemon accepted a frame" in printed) == (1, True)
    assert "takes frames there only for cameras with the source zmq or imagezmq" in printed
