"""Who may do what: the list as it is now, roles, cameras, rates and parts."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zmq

from inspector.config import SOCKETS
from inspector.errors import ConfigError, MessageRefusedError
from inspector.security.gate import SOCKET_ROLES, AllowList, Gate
from inspector.security.keys import Client, Role, edit_clients, load_clients

CREATED = datetime(2026, 1, 31, 6, tzinfo=UTC)
NEWER = datetime(2026, 2, 28, 6, tzinfo=UTC)


def make_client(name: str, *roles: Role, **details: object) -> Client:
    public = zmq.curve_keypair()[0].decode()
    return Client.model_validate({"name": name, "public_key": public, "roles": roles, "created": CREATED} | details)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "clients.yaml"
    with edit_clients(path) as clients:
        clients += [
            make_client("cam", Role.SENDER, cameras=["top"]),
            make_client("any", Role.SENDER, created=NEWER),
            make_client("plc", Role.SUBSCRIBER, Role.REQUESTER),
            make_client("anna", Role.OPERATOR),
        ]
    return path


def refusal(gate: Gate, peer: str, parts: int = 2) -> str | None:
    try:
        gate.admit(peer, parts)
    except MessageRefusedError as error:
        return error.cause
    return None


def test_every_socket_has_its_roles_and_every_role_its_socket() -> None:
    assert set(SOCKET_ROLES) == set(SOCKETS)
    assert {role for roles in SOCKET_ROLES.values() for role in roles} == set(Role)


def test_clients_may_only_what_their_roles_say(path: Path) -> None:
    allow_list = AllowList(path)
    allowed = {
        name: {peer for peer in ("cam", "any", "plc", "anna", "nobody") if not refusal(Gate(name, allow_list), peer)}
        for name in SOCKETS
    }
    assert allowed == {
        "frames": {"cam", "any"},
        "imagezmq": {"cam", "any"},
        "results": {"plc"},
        "overlays": {"plc"},
        "requests": {"plc", "anna"},
    }


def test_name_with_another_key_is_refused_and_leaves_the_last_list_in_force(path: Path) -> None:
    allow_list = AllowList(path)
    before = load_clients(path)
    with edit_clients(path) as clients:
        clients[1:] = []
    assert allow_list.refresh() is None
    assert allow_list.find_name("anna") is None
    with edit_clients(path) as clients:
        clients += [make_client("anna", Role.OPERATOR), make_client("new", Role.SENDER)]
    rule = "clients: name: must be new for a new key while the station runs, got 'anna' with another key"
    assert allow_list.refresh() == f"{path}: {rule}"
    assert (allow_list.find_name("anna"), allow_list.find_name("new")) == (None, None)
    with edit_clients(path) as clients:
        clients[:] = before
    assert allow_list.refresh() is None
    assert allow_list.find_name("anna") == before[-1]


def test_sender_limited_to_cameras_is_refused_any_other(path: Path) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    gate = Gate("frames", AllowList(path), count=lambda *refused: counted.update([refused]))
    gate.admit_camera("cam", "top")
    gate.admit_camera("any", "side")
    with pytest.raises(MessageRefusedError, match=r"camera: must be one of \['top'\] for cam, got 'side'") as caught:
        gate.admit_camera("cam", "side")
    assert caught.value.cause == "permission"
    assert counted == {("frames", "permission"): 1}


def test_only_an_operator_has_the_role(path: Path) -> None:
    gate = Gate("requests", AllowList(path))
    gate.admit_role("anna", Role.OPERATOR)
    with pytest.raises(MessageRefusedError, match="role: must be operator, got subscriber, requester of plc"):
        gate.admit_role("plc", Role.OPERATOR)


def test_everyone_may_everything_where_the_station_is_open() -> None:
    gate = Gate("requests")
    gate.admit("unauthenticated 10.0.0.1", 2)
    gate.admit_camera("unauthenticated 10.0.0.1", "top")
    gate.admit_role("unauthenticated 10.0.0.1", Role.OPERATOR)


def test_key_is_refused_once_it_is_revoked_lost_its_role_or_is_gone(path: Path) -> None:
    allow_list = AllowList(path)
    gate = Gate("frames", allow_list)
    assert [refusal(gate, name) for name in ("cam", "any", "plc")] == [None, None, "permission"]
    with edit_clients(path) as clients:
        clients[0] = clients[0].model_copy(update={"revoked": datetime.now(UTC)})
        clients[1] = clients[1].model_copy(update={"roles": (Role.SUBSCRIBER,)})
        clients[2] = clients[2].model_copy(update={"roles": (Role.SENDER,)})
    assert allow_list.refresh() is None
    assert [refusal(gate, name) for name in ("cam", "any", "plc")] == ["permission", "permission", None]
    with edit_clients(path) as clients:
        del clients[2]
    allow_list.refresh()
    assert refusal(gate, "plc") == "permission"


def test_last_good_list_stays_in_force_while_the_file_is_bad_or_gone(path: Path) -> None:
    allow_list = AllowList(path)
    sound = path.read_text()
    for spoil in (lambda: path.write_text("clients: {"), lambda: path.chmod(0o666), path.unlink):
        spoil()
        assert str(path) in (allow_list.refresh() or "")
        assert str(path) in (allow_list.refresh() or "")  # it is still so
        assert refusal(Gate("frames", allow_list), "cam") is None
    path.write_text(sound.replace("name: cam", "name: cam-2"))
    path.chmod(0o644)
    assert allow_list.refresh() is None
    assert refusal(Gate("frames", allow_list), "cam") == "permission"
    assert refusal(Gate("frames", allow_list), "cam-2") is None


def test_file_is_read_only_when_it_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_list = AllowList(path)

    def refuse(path: Path) -> None:
        raise ConfigError("was read")

    monkeypatch.setattr("inspector.security.gate.load_clients", refuse)
    assert allow_list.refresh() is None
    path.touch()
    assert allow_list.refresh() == "was read"


def test_oldest_key_is_the_oldest_that_is_let_in(path: Path) -> None:
    allow_list = AllowList(path)
    assert allow_list.oldest_key() == CREATED.timestamp()
    with edit_clients(path) as clients:
        clients[:] = [
            client if client.name == "any" else client.model_copy(update={"revoked": NEWER}) for client in clients
        ]
    allow_list.refresh()
    assert allow_list.oldest_key() == NEWER.timestamp()
    with edit_clients(path) as clients:
        clients.clear()
    allow_list.refresh()
    assert allow_list.oldest_key() is None


def test_message_of_too_many_parts_is_refused() -> None:
    assert [refusal(Gate("frames"), "a", parts) for parts in (2, 32, 33)] == [None, None, "parts"]
    with pytest.raises(MessageRefusedError, match="33 from camera-pc-2"):
        Gate("frames").admit("camera-pc-2", 33)


def test_each_peer_has_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    gate = Gate("frames", max_rate=10)
    assert [refusal(gate, "a") for _ in range(12)] == [None] * 10 + ["rate"] * 2
    assert refusal(gate, "b") is None
    now[0] += 0.25
    assert [refusal(gate, "a") for _ in range(3)] == [None] * 2 + ["rate"]
    now[0] += 3600
    assert [refusal(gate, "a") for _ in range(12)] == [None] * 10 + ["rate"] * 2


def test_rates_of_a_bounded_number_of_peers_are_kept() -> None:
    gate = Gate("frames", max_rate=1)
    assert refusal(gate, "often") is None
    for number in range(5000):
        assert refusal(gate, f"peer {number}") is None
        assert refusal(gate, "often") == "rate"
    assert len(gate._tokens) == 1024
