"""The list of clients and the station's secret key: what is read, what is refused, and how it is written."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
import zmq

from inspector.errors import ConfigError, InspectorError
from inspector.security.keys import Client, Role, edit_clients, load_clients, make_station_key, read_station_key

# Those of libzmq's manual, zmq_curve(7); not drawn here, as they are in names of tests.
PUBLIC = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
CREATED = datetime(2026, 1, 31, 6, tzinfo=UTC)


def write(folder: Path, *clients: dict[str, object]) -> Path:
    path = folder / "clients.yaml"
    plain = {"name": "cam-1", "public_key": PUBLIC, "roles": ["sender"], "created": "2026-01-31T06:00:00Z"}
    path.write_text(yaml.safe_dump({"schema": 1, "clients": [plain | client for client in clients]}, sort_keys=False))
    path.chmod(0o644)
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_clients(path)
    return str(caught.value)


def test_list_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "clients.yaml"
    sender = Client(name="cam-1", public_key=PUBLIC, roles=(Role.SENDER,), cameras=("top",), created=CREATED)
    gone = Client(name="anna", public_key=OTHER, roles=tuple(Role), created=CREATED, revoked=CREATED)
    with edit_clients(path) as clients:
        clients += [sender, gone]
    assert load_clients(path) == (sender, gone)
    assert (sender.is_revoked, gone.is_revoked) == (False, True)
    assert path.stat().st_mode & 0o777 == 0o644


def test_list_by_hand_may_have_yaml_dates_and_a_time_from_which_a_key_is_revoked(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    path.write_text(
        path.read_text().replace("'2026-01-31T06:00:00Z'", "2026-01-31 06:00:00Z\n  revoked: " + str(later))
    )
    (client,) = load_clients(path)
    assert (client.created, client.revoked, client.is_revoked) == (CREATED, later, False)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"public_key": PUBLIC[:-1]},
            "4:3: clients.0.public_key: must be a public key: 40 ",
        ),
        ({"public_key": "~" * 40}, "4:3: clients.0.public_key: must be a public key"),
        ({"public_key": "#" * 40}, "4:3: clients.0.public_key: must be a public key"),
        ({"roles": []}, "5:3: clients.0.roles: must be one or more of sender, subscriber"),
        ({"roles": ["king"]}, "6:5: clients.0.roles.0: Input should be 'sender', 'subscriber'"),
        ({"name": "cam 1"}, "3:3: clients.0.name: String should match pattern"),
        ({"created": "2026-01-31T06:00:00"}, "clients.0.created: Input should have timezone info"),
        ({"created": "2026-01-31T06:00:00+01:00"}, "clients.0.created: must be in UTC"),
        ({"revoked": "yesterday"}, "clients.0.revoked: Input should be a valid datetime"),
        ({"roles": ["requester"], "cameras": ["top"]}, "cameras must only be given for a sender, got ['top']"),
        ({"password": "x"}, "clients.0.password: unknown key, got value 'x'"),
    ],
    ids=lambda value: f"{value!s:.40}",
)
def test_fault_names_file_line_field_rule_and_value(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    message = fault_of(write(tmp_path, change))
    assert message.startswith(f"{tmp_path / 'clients.yaml'}:")
    assert fault in message


@pytest.mark.parametrize("field", ["name", "public_key"])
def test_name_or_key_given_twice_is_refused(tmp_path: Path, field: str) -> None:
    other = {"name": "cam-2", "public_key": OTHER}
    path = write(tmp_path, {}, {key: value for key, value in other.items() if key != field})
    value = {"name": "cam-1", "public_key": PUBLIC}[field]
    line = 7 if field == "name" else 8
    number = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.count(value) and n >= line)
    assert fault_of(path) == f"{path}:{number}:3: clients.1.{field}: must be unique, got {value!r} again"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_list_that_others_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, {})
    path.chmod(mode)
    assert fault_of(path) == f"{path}: must have mode 0644 or stricter, got {mode:04o}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_list_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    os.chown(path, 12345, 12345)
    assert "must belong to the user that runs this program (0) or to root, got user 12345" in fault_of(path)


def test_list_too_long_to_be_read_in_time_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    path.write_text(path.read_text() + 300_000 * "#")
    assert fault_of(path).startswith(f"{path}: must have at most 262144 bytes, got 300")


def test_list_stays_as_it_was_when_a_change_fails(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    before = path.read_text()
    with pytest.raises(ZeroDivisionError), edit_clients(path) as clients:
        clients[:] = [clients[1 // 0]]
    assert path.read_text() == before


def test_no_change_is_lost_when_two_are_made_at_once(tmp_path: Path) -> None:
    path = tmp_path / "clients.yaml"

    def add(number: int) -> None:
        public = zmq.curve_keypair()[0].decode()
        with edit_clients(path) as clients:
            clients.append(Client(name=f"c{number}", public_key=public, roles=(Role.SENDER,), created=CREATED))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {client.name for client in load_clients(path)} == {f"c{number}" for number in range(8)}


def test_error_names_the_file_when_its_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    path = tmp_path / "keys" / "clients.yaml"
    with pytest.raises(InspectorError, match=r"keys/clients\.yaml: cannot be written: "), edit_clients(path):
        pass
    with pytest.raises(InspectorError, match=r"keys/station\.key: cannot be written: "):
        make_station_key(path.with_name("station.key"))


# ---------------------------------------------------------------- the station's key


def test_station_key_is_its_owners_alone_and_gives_its_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys" / "station.key"
    make_station_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    public, secret = read_station_key(str(path))
    assert zmq.curve_public(secret) == public
    monkeypatch.setenv("STATION_KEY", secret.decode())
    assert read_station_key("env:STATION_KEY") == (public, secret)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"security\.key: must have mode 0640 or stricter"):
        read_station_key(str(path))


def test_station_key_is_refused_without_being_shown_when_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATION_KEY", "hunter2")
    with pytest.raises(ConfigError) as caught:
        read_station_key("env:STATION_KEY")
    assert str(caught.value).startswith("security.key: must contain a secret key, 40 characters of Z85")
    assert "hunter2" not in str(caught.value)
    assert caught.value.field == ("security", "key")
