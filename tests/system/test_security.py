"""A station with keys: who has none, the wrong one or one for something else gets nowhere, and the line goes on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import pytest
import zmq

from inspector.cli import online
from inspector.client import Refused, StatusChanged, Subscriber, Verdict
from inspector.client.keys import ClientKey
from inspector.errors import InspectorError
from inspector.security.keys import Client, Role, edit_clients, load_clients, make_station_key, read_station_key
from inspector.testing.station_process import RunningStation, base_config, good_frame, next_result, send_frame

WAIT_S = 10.0
MAX_RATE = 200
ROLES = {
    "cam": (Role.SENDER,),
    "leaver": (Role.SENDER,),
    "flooder": (Role.SENDER,),
    "other-cam": (Role.SENDER,),
    "viewer": (Role.SUBSCRIBER,),
    "plc": (Role.SUBSCRIBER, Role.REQUESTER),
    "anna": (Role.OPERATOR,),
}
Connect = Callable[..., zmq.Socket[bytes]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, Path]:
    """Key files by name; `stranger` is on no list."""
    make_station_key(folder / "station.key")
    station_public = read_station_key(str(folder / "station.key"))[0].decode()
    files = {}
    with edit_clients(folder / "clients.yaml") as clients:
        for name in (*ROLES, "stranger"):
            public, secret = (key.decode() for key in zmq.curve_keypair())
            files[name] = folder / f"{name}.key"
            files[name].touch(0o600)
            files[name].write_text(ClientKey(name, "test", station_public, public, secret).dump())
            if name in ROLES:
                cameras = ("bottom",) if name == "other-cam" else None
                now = datetime.now(UTC)
                clients.append(Client(name=name, public_key=public, roles=ROLES[name], cameras=cameras, created=now))
    return files


@pytest.fixture(scope="module")
def config(folder: Path, keys: dict[str, Path], recipe: Path) -> dict[str, Any]:
    config = base_config(recipe)
    config["security"] = {"key": str(folder / "station.key"), "clients": str(folder / "clients.yaml")}
    config["sockets"]["max_rate"] = MAX_RATE
    return config


@pytest.fixture(scope="module")
def station(serve: Callable[[], RunningStation]) -> RunningStation:
    return serve()


def open_socket(station: RunningStation, kind: int, name: str, key: Path | None, endpoint: str = "") -> Any:
    from inspector.client.keys import load_key

    peer = station.context.socket(kind)
    peer.linger = 0
    peer.rcvtimeo = peer.sndtimeo = int(WAIT_S * 1000)
    if kind == zmq.PUSH:
        peer.immediate = True
    if kind == zmq.SUB:
        peer.subscribe(b"")
    if key is not None:
        load_key(key).apply(peer)
    peer.connect(endpoint or station.config["sockets"][name])
    return peer


@pytest.fixture
def connect(station: RunningStation, keys: dict[str, Path]) -> Iterator[Connect]:
    """A socket with the key of this name, or with none; closed at the end."""
    made = []

    def run(kind: int, name: str, client: str | None, endpoint: str = "") -> zmq.Socket[bytes]:
        made.append(open_socket(station, kind, name, keys[client] if client else None, endpoint))
        return made[-1]

    yield run
    for peer in made:
        peer.close()


@pytest.fixture(scope="module")
def line(station: RunningStation, keys: dict[str, Path]) -> Iterator[Callable[[], None]]:
    """Sees that a frame of the legitimate camera is judged and heard of, over connections that last all the tests."""
    push = open_socket(station, zmq.PUSH, "frames", keys["cam"])
    results = open_socket(station, zmq.SUB, "results", keys["plc"])
    assert results.recv_multipart()[0] == b"status"
    seqs = [0]

    def see() -> None:
        seqs.append(seqs[-1] + 1)
        send_frame(push, good_frame(), f"legitimate-{seqs[-1]}")
        result = next_result(results)
        while result["frame_id"] != f"legitimate-{seqs[-1]}":
            result = next_result(results)
        assert (result["verdict"], result["reason"]) == ("PASS", "OK")

    see()
    yield see
    push.close()
    results.close()


@pytest.fixture(autouse=True)
def _undisturbed(line: Callable[[], None], station: RunningStation) -> Iterator[None]:
    """After each test the line goes on, and each frame accepted has its verdict."""
    yield
    line()
    received, passed = "inspector_frames_received_total", "inspector_results_total"
    wait_until(lambda: station.metric(received) == station.metric(passed, verdict="PASS"))


def refused(station: RunningStation, socket: str, cause: str, what: str = "handshakes") -> float:
    return station.metric(f"inspector_{what}_refused_total", socket=socket, cause=cause)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- handshakes


@pytest.mark.parametrize(
    ("client", "causes"),
    # Who uses no key hangs up as well, and which of the two is seen first is chance.
    [("stranger", ("unknown",)), (None, ("mechanism", "incomplete"))],
    ids=["unknown key", "no key"],
)
def test_client_without_a_known_key_gets_nowhere(
    station: RunningStation, connect: Connect, client: str | None, causes: tuple[str, ...]
) -> None:
    def count(name: str) -> float:
        return sum(refused(station, name, cause) for cause in causes)

    sockets = {"frames": zmq.PUSH, "imagezmq": zmq.REQ, "results": zmq.SUB, "overlays": zmq.SUB, "requests": zmq.REQ}
    before = {name: count(name) for name in sockets}
    peers = {name: connect(kind, name, client) for name, kind in sockets.items()}
    for name in sockets:
        wait_until(lambda name=name: count(name) > before[name])
    assert not peers["results"].poll(500)  # a status comes more often than that
    assert not peers["frames"].poll(0, zmq.POLLOUT)
    if client == "stranger":
        assert "sockets.results: a client at 127.0.0.1 was refused: its public key" in station.log_text()
    else:
        assert "a client was refused: it does not use a key" in station.log_text()


@pytest.mark.parametrize(("client", "name"), [("viewer", "frames"), ("cam", "results"), ("viewer", "requests")])
def test_key_is_refused_at_a_socket_that_is_not_its_roles(
    station: RunningStation, connect: Connect, client: str, name: str
) -> None:
    before = refused(station, name, "role")
    connect({"frames": zmq.PUSH, "results": zmq.SUB, "requests": zmq.REQ}[name], name, client)
    wait_until(lambda: refused(station, name, "role") > before)


def test_replayed_connection_is_refused(station: RunningStation, connect: Connect) -> None:
    with Recorder(station.config["sockets"]["frames"]) as recorder:
        push = connect(zmq.PUSH, "frames", "cam", recorder.endpoint)
        send_frame(push, good_frame(), "recorded")
        wait_until(lambda: station.metric("inspector_frames_received_total") > 1 and recorder.sent_bytes > 61_440)
        push.close()
    time.sleep(1.0)  # metrics are a second old at most
    received = station.metric("inspector_frames_received_total")
    before = refused(station, "frames", "cryptography")
    with closing(socket.create_connection(recorder.target, timeout=WAIT_S)) as peer:
        for data in recorder.sent:
            try:
                peer.sendall(data)
                time.sleep(0.02)  # in the order of a real handshake: each part after the answer to the one before
            except OSError:
                break  # hung up on
        wait_until(lambda: refused(station, "frames", "cryptography") > before)
    assert station.metric("inspector_frames_received_total") == received


class Recorder:
    """A proxy for one connection, which keeps what the client says."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").split(":")
        self.target = host, int(port)
        self.sent: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]

    @property
    def sent_bytes(self) -> int:
        return sum(map(len, self.sent))

    def __enter__(self) -> Recorder:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self.target) as server:
            back = threading.Thread(target=self._copy, args=(server, client, []))
            back.start()
            self._copy(client, server, self.sent)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, kept: list[bytes]) -> None:
        try:
            while data := source.recv(65_536):
                kept.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


# ---------------------------------------------------------------- messages


def test_revoked_sender_is_refused_at_once_and_cannot_come_back(
    station: RunningStation, connect: Connect, folder: Path
) -> None:
    push = connect(zmq.PUSH, "frames", "leaver")
    send_frame(push, good_frame(), "before")
    wait_until(lambda: station.metric("inspector_frames_in_flight") == 0)
    with edit_clients(folder / "clients.yaml") as clients:
        number = [client.name for client in clients].index("leaver")
        clients[number] = clients[number].model_copy(update={"revoked": datetime.now(UTC)})
    time.sleep(1.3)
    received = station.metric("inspector_frames_received_total")
    before = refused(station, "frames", "permission", "messages")
    send_frame(push, good_frame(), "after")
    wait_until(lambda: refused(station, "frames", "permission", "messages") == before + 1)
    assert station.metric("inspector_frames_received_total") == received
    connect(zmq.PUSH, "frames", "leaver")
    wait_until(lambda: refused(station, "frames", "revoked") > 0)


def test_sender_of_other_cameras_is_refused_this_one(station: RunningStation, connect: Connect) -> None:
    req = connect(zmq.REQ, "imagezmq", "other-cam")
    send_frame(req, good_frame(), "not-mine")
    assert req.recv() == b"ERROR camera: must be one of ['bottom'] for other-cam, got 'top'"
    wait_until(lambda: refused(station, "imagezmq", "permission", "messages") == 1)


def test_flood_of_one_sender_is_refused_undecoded(station: RunningStation, connect: Connect) -> None:
    flood = connect(zmq.PUSH, "frames", "flooder")
    for _ in range(4 * MAX_RATE):
        flood.send_multipart([b"{}", b""])
    wait_until(lambda: refused(station, "frames", "rate", "messages") > 0)
    many = connect(zmq.PUSH, "frames", "flooder")
    time.sleep(0.1)
    many.send_multipart([b""] * 100_000)
    wait_until(lambda: refused(station, "frames", "parts", "messages") == 1)


def test_requester_may_ask_but_not_change_anything(station: RunningStation, connect: Connect) -> None:
    requester, operator = (connect(zmq.REQ, "requests", name) for name in ("plc", "anna"))

    def ask(peer: zmq.Socket[bytes], **request: Any) -> dict[str, Any]:
        peer.send_json(request)
        return json.loads(peer.recv())

    prepare = {"request": "recipe", "action": "prepare", "camera": "top", "recipe": "/nowhere"}
    assert ask(requester, request="status")["ok"] is True
    assert ask(requester, request="replay", camera="top", from_seq=1)["ok"] is True
    for request in (prepare, {"request": "recipe", "action": "switch", "camera": "top"}, {"request": "drain"}):
        answer = ask(requester, **request)
        assert answer["error"] == "role: must be operator, got subscriber, requester of plc"
    wait_until(lambda: refused(station, "requests", "permission", "messages") == 3)
    assert ask(operator, request="status")["last_switch"].get("top") is None
    assert "role" not in str(ask(operator, **prepare).get("error"))


# ---------------------------------------------------------------- our own clients, and the list


def test_our_own_clients_use_the_key_file_and_say_when_they_are_refused(
    station: RunningStation, keys: dict[str, Path], line: Callable[[], None], tmp_path: Path
) -> None:
    endpoints = station.config["sockets"]
    cv2.imwrite(str(tmp_path / "part.png"), good_frame())
    with Subscriber(endpoints["results"], requests=endpoints["requests"], key=keys["plc"]) as subscriber:
        wait_until(lambda: isinstance(subscriber.receive(WAIT_S), StatusChanged))  # from then on parts pass
        online.send([tmp_path / "part.png"], to=endpoints["frames"], camera="top", count=1, key=keys["cam"], fps=0.0,
                    timeout=WAIT_S, live=True)  # fmt: skip
        verdict = subscriber.wait_for("top", frame_id="0-part.png", timeout_s=WAIT_S)
        assert verdict.passed, verdict
    with Subscriber(endpoints["results"], key=keys["cam"]) as subscriber:
        refusal = subscriber.receive(WAIT_S)
        assert isinstance(refusal, Refused)
        assert refusal.why.startswith("the station refuses this key")
        answer = subscriber.wait_for("top", frame_id="x", timeout_s=0.1)
        assert isinstance(answer, Verdict)
        assert (answer.reason, answer.doubt) == ("NO_ANSWER", refusal.why)
    for key, why in ((keys["stranger"], "the station refuses this key"), (None, "requires a key")):
        with pytest.raises(InspectorError, match=why):
            online.send([tmp_path / "part.png"], to=endpoints["frames"], camera="top", count=1, key=key, fps=0.0,
                        timeout=WAIT_S)  # fmt: skip
        with pytest.raises(InspectorError, match=why):
            online.tail(from_=endpoints["results"], as_json=False, count=1, timeout=WAIT_S, key=key)


def test_bad_list_degrades_the_station_and_the_last_good_one_stays(
    station: RunningStation, connect: Connect, folder: Path
) -> None:
    path = folder / "clients.yaml"
    sound = path.read_bytes()
    path.write_bytes(b"clients: {")
    wait_until(lambda: "clients: " in station.get("/ready")[1])
    status, text = station.get("/ready")
    assert (status, text.partition(":")[0]) == (200, "DEGRADED")  # frames are judged all the same
    results = connect(zmq.SUB, "results", "viewer")
    assert results.recv_multipart()[0] == b"status"
    path.write_bytes(sound)
    wait_until(lambda: station.get("/ready") == (200, "RUNNING\n"))
    oldest = min(client.created for client in load_clients(path)).timestamp()
    assert station.metric("inspector_oldest_key_timestamp_seconds") == pytest.approx(oldest, abs=1)
    assert "the last valid list stays in use" in station.log_text()
