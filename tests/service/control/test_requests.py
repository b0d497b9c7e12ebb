"""Every request is answered, the malformed ones with what is wrong, and none ends the thread."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspector.errors import ConfigError
from inspector.journal.writer import Journal
from inspector.service.control.requests import RequestsThread
from inspector.service.telemetry.health import Health
from inspector.types import Result

Ask = Callable[[Any], dict[str, Any]]
Connect = Callable[..., zmq.Socket]
Launch = Callable[[Any], Any]

WAIT_S = 10.0
ENDPOINT = "inproc://requests"
SHUTDOWN = {"ok": False, "error": "SHUTDOWN: the station stopped before it could answer"}
STATUS = {"station": "press-3", "state": "RUNNING", "last_seq": {"top": 3}}


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def drains() -> queue.Queue[str]:
    """Holds who asked for each drain."""
    return queue.Queue()


@pytest.fixture
def build(context: zmq.Context, path: Path, health: Health, drains: queue.Queue[str]) -> Callable[..., RequestsThread]:
    """A requests thread that is bound and not started yet."""

    def build(endpoint: str = ENDPOINT, status: Callable[[], dict[str, Any]] = lambda: dict(STATUS)) -> RequestsThread:
        return RequestsThread(
            context,
            endpoint,
            cameras=("top", "side"),
            journal_path=path,
            status=status,
            drain=drains.put,
            health=health,
        )

    return build


@pytest.fixture
def thread(build: Callable[..., RequestsThread], launch: Launch) -> RequestsThread:
    return launch(build())


@pytest.fixture
def connect(context: zmq.Context, thread: RequestsThread) -> Iterator[Connect]:
    """A peer of the running thread, or of another endpoint."""
    peers = []

    def connect(kind: int, endpoint: str | bytes = ENDPOINT) -> zmq.Socket:
        peers.append(context.socket(kind))
        peers[-1].rcvtimeo = int(WAIT_S * 1000)
        peers[-1].connect(endpoint)
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close(linger=0)


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """Send a body, as it is or as JSON, from a REQ peer; the answer."""
    socket = connect(zmq.REQ)

    def ask(body: Any) -> dict[str, Any]:
        socket.send(body if isinstance(body, bytes) else json.dumps(body).encode())
        return json.loads(socket.recv())

    return ask


def replay(**changes: Any) -> dict[str, Any]:
    return {"request": "replay", "camera": "top", "from_seq": 1} | changes


def write(path: Path, results: list[Result]) -> None:
    journal = Journal(path)
    journal.append(results)
    journal.close()


# ---------------------------------------------------------------- commands


def test_status_is_the_publishers_when_asked(ask: Ask) -> None:
    assert ask({"request": "status"}) == {"ok": True, **STATUS}


def test_drain_is_passed_on_once_when_asked(ask: Ask, drains: queue.Queue[str]) -> None:
    assert ask({"request": "drain"}) == {"ok": True, "draining": True}
    assert drains.qsize() == 1


def test_who_asks_is_passed_on_when_a_drain_or_a_recipe_is_asked_for(
    context: zmq.Context, health: Health, launch: Launch, connect: Connect, drains: queue.Queue[str]
) -> None:
    thread = RequestsThread(
        context,
        "tcp://127.0.0.1:*",
        cameras=("top",),
        journal_path=Path("none"),
        status=dict,
        drain=drains.put,
        orders={"recipe": lambda request, who: {"who": who}},
        health=health,
    )
    peer = connect(zmq.REQ, thread._socket.last_endpoint)
    launch(thread)
    peer.send_json({"request": "recipe", "action": "status"})
    assert peer.recv_json() == {"ok": True, "who": "unauthenticated 127.0.0.1"}
    peer.send_json({"request": "drain"})
    assert peer.recv_json()["ok"] is True
    assert drains.get(timeout=WAIT_S) == "unauthenticated 127.0.0.1"


def test_results_are_replayed_in_order_and_marked_when_asked_for(
    ask: Ask, path: Path, make_result: Callable[..., Result]
) -> None:
    results = [make_result(seq) for seq in (1, 2, 3)]
    write(path, [*reversed(results), make_result(7, camera="side")])
    wires = [json.loads(json.dumps(result.to_wire())) | {"replay": True} for result in results]
    assert ask(replay()) == {"ok": True, "results": wires, "more": False}
    assert ask(replay(from_seq=3)) == {"ok": True, "results": wires[2:], "more": False}
    assert [(r["camera"], r["seq"]) for r in ask(replay(camera="side"))["results"]] == [("side", 7)]


@pytest.mark.parametrize("from_seq", [4, 2**63 - 1])
def test_replay_is_empty_when_nothing_came_since(
    ask: Ask, path: Path, make_result: Callable[..., Result], from_seq: int
) -> None:
    write(path, [make_result(3)])
    assert ask(replay(from_seq=from_seq)) == {"ok": True, "results": [], "more": False}


def test_replay_gives_a_thousand_and_then_the_rest_when_there_are_more(
    ask: Ask, path: Path, make_result: Callable[..., Result]
) -> None:
    write(path, [make_result(seq) for seq in range(1, 1003)])
    first = ask(replay())
    assert [result["seq"] for result in first["results"]] == list(range(1, 1001))
    assert first["more"] is True
    rest = ask(replay(from_seq=1001))
    assert [result["seq"] for result in rest["results"]] == [1001, 1002]
    assert rest["more"] is False


# ---------------------------------------------------------------- faults


MALFORMED = {
    b"": "request: must be a JSON object: Expecting value",
    b"{": "Expecting property name",
    b"\xff\xfe\xfd": "decode",
    b"[" * 50_000: "recursion",
    b"9" * 5000: "digits",
    b"null": "request: must be a JSON object, got NoneType",
    b'["status"]': "request: must be a JSON object, got list",
    b'"status"': "request: must be a JSON object, got str",
}


def test_malformed_requests_are_told_what_is_wrong_and_the_next_is_served(ask: Ask) -> None:
    for body, words in MALFORMED.items():
        answer = ask(body)
        assert answer["ok"] is False, body[:20]
        assert words in answer["error"]
    assert ask({"request": "status"})["ok"] is True


def test_unknown_request_is_told_those_that_are_known(ask: Ask) -> None:
    for value in ("dance", None, 1, ["status"], {"status": 1}, "\ud800"):
        error = f"request: must be one of ['status', 'replay', 'drain'], got {value!r}"
        assert ask({"request": value}) == {"ok": False, "error": error}
    assert ask({"request": "x" * 500})["error"].endswith("got '" + "x" * 79)
    assert ask({})["error"] == "request: must be one of ['status', 'replay', 'drain'], is missing"


def test_request_with_a_key_that_nobody_reads_is_refused_with_the_known_ones(
    ask: Ask, drains: queue.Queue[str]
) -> None:
    known = "must be one of ['request', 'camera', 'from_seq'], the keys of replay"
    assert ask(replay(form_seq=3)) == {"ok": False, "error": f"form_seq: {known}"}
    assert ask({"request": "drain", "after_s": 60})["error"] == "after_s: must be one of ['request'], the keys of drain"
    assert drains.empty()


def test_request_without_a_required_key_is_told_that_it_is_missing(ask: Ask) -> None:
    error = "from_seq: is missing; replay takes ['request', 'camera', 'from_seq']"
    assert ask({"request": "replay", "camera": "top"}) == {"ok": False, "error": error}


def test_replay_is_refused_naming_field_rule_and_value_when_from_seq_is_out_of_bounds(ask: Ask) -> None:
    for from_seq in (0, -1, 2**63, 10**30, 1.0, "1", True, None, [1]):
        error = f"from_seq: must be a whole number from 1 to 2^63 - 1, got {from_seq!r}"
        assert ask(replay(from_seq=from_seq)) == {"ok": False, "error": error}


def test_replay_is_refused_when_the_camera_is_none_of_the_stations(ask: Ask) -> None:
    for camera in ("nowhere", "", None, ["top"], {"top": 1}, 1, "\ud800"):
        error = f"camera: must be one of ['top', 'side'], got {camera!r}"
        assert ask(replay(camera=camera)) == {"ok": False, "error": error}


def test_replay_tells_why_when_the_journal_cannot_be_read_and_the_next_is_served(ask: Ask, path: Path) -> None:
    answer = ask(replay())  # nothing was ever written
    assert answer["ok"] is False
    assert answer["error"].startswith(f"journal {path}: cannot be read: ")
    path.write_bytes(b"no database at all" * 100)
    assert "file is not a database" in ask(replay())["error"]
    assert ask({"request": "status"})["ok"] is True


# ---------------------------------------------------------------- envelopes


def test_answer_keeps_the_envelope_when_peers_are_req_or_dealer(connect: Connect) -> None:
    req, dealer = connect(zmq.REQ), connect(zmq.DEALER)
    body = b'{"request": "drain"}'
    answer = b'{"ok": true, "draining": true}'
    req.send(body)
    assert req.recv_multipart() == [answer]
    dealer.send_multipart([body])
    assert dealer.recv_multipart() == [answer]
    dealer.send_multipart([b"", body])
    assert dealer.recv_multipart() == [b"", answer]
    dealer.send_multipart([b"tag", b"", body])
    assert dealer.recv_multipart() == [b"tag", b"", answer]


def test_each_peer_gets_its_own_answers_when_dealers_ask_ahead(connect: Connect) -> None:
    peers = {name: connect(zmq.DEALER) for name in ("status", "drain", "dance")}
    for _ in range(5):
        for name, peer in peers.items():
            peer.send_json({"request": name})
    got = {name: [json.loads(peer.recv()) for _ in range(5)] for name, peer in peers.items()}
    assert got["status"] == [{"ok": True, **STATUS}] * 5
    assert got["drain"] == [{"ok": True, "draining": True}] * 5
    assert [answer["ok"] for answer in got["dance"]] == [False] * 5


def test_answers_do_not_pile_up_when_a_peer_reads_none(
    context: zmq.Context, build: Callable[..., RequestsThread], launch: Launch, tmp_path: Path
) -> None:
    asked = threading.Semaphore(0)

    def status() -> dict[str, Any]:
        asked.release()
        return {"text": "x" * 100_000}

    endpoint = f"ipc://{tmp_path}/requests"
    launch(build(endpoint, status))
    with context.socket(zmq.DEALER) as peer:
        peer.rcvhwm, peer.linger = 1, 0
        peer.connect(endpoint)
        for _ in range(400):
            peer.send_json({"request": "status"})
        for _ in range(400):
            assert asked.acquire(timeout=WAIT_S)
        answers = 0
        while peer.poll(500):
            answers += bool(peer.recv())
        assert 100 <= answers < 200


def test_others_are_served_when_a_peer_left_before_its_answer(
    connect: Connect, ask: Ask, drains: queue.Queue[str]
) -> None:
    gone = connect(zmq.DEALER)
    gone.send_json({"request": "drain"})
    gone.close(linger=1000)
    assert drains.get(timeout=WAIT_S)
    assert ask({"request": "status"})["ok"] is True


def test_peer_is_hung_up_on_and_others_are_served_when_a_request_is_too_large(
    connect: Connect, build: Callable[..., RequestsThread], launch: Launch
) -> None:
    thread = build("tcp://127.0.0.1:*")
    large, other = (connect(zmq.DEALER, thread._socket.last_endpoint) for _ in range(2))
    launch(thread)
    lost = large.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    large.send(b'{"request": "status"}'.ljust(65_536))
    assert json.loads(large.recv())["ok"] is True
    large.send(b'{"request": "status"}'.ljust(65_537))
    assert lost.poll(int(WAIT_S * 1000)) == zmq.POLLIN
    other.send_json({"request": "status"})
    assert json.loads(other.recv())["ok"] is True
    large.disable_monitor()
    lost.close()


# ---------------------------------------------------------------- life


def test_endpoint_in_use_is_a_config_error_naming_the_field_when_bound(
    thread: RequestsThread, build: Callable[..., RequestsThread]
) -> None:
    rule = f"sockets.requests: must be an endpoint this process can bind, got '{ENDPOINT}': "
    with pytest.raises(ConfigError, match=rule):
        build()


def can_end(context: zmq.Context) -> bool:
    """Whether no socket is left open that would hold up the end of the process."""
    term = threading.Thread(target=context.term, daemon=True)
    term.start()
    term.join(2.0)
    return not term.is_alive()


def test_socket_is_closed_when_the_thread_is_stopped(
    context: zmq.Context, build: Callable[..., RequestsThread], end: Callable[[Any], None], launch: Launch
) -> None:
    end(launch(build()))
    assert can_end(context)


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_requests_that_wait_at_the_end_are_told_that_the_station_stopped(
    context: zmq.Context, build: Callable[..., RequestsThread], connect: Connect, kind: int, end: Callable[[Any], None]
) -> None:
    thread = build("inproc://stopped")
    peers = [connect(kind, "inproc://stopped") for _ in range(3)]
    for peer in peers:
        peer.send_json({"request": "status"})
    thread.stop()
    thread.start()
    assert [json.loads(peer.recv()) for peer in peers] == [SHUTDOWN] * 3
    end(thread)


def test_failure_is_kept_and_the_socket_closed_when_the_thread_dies(
    context: zmq.Context, build: Callable[..., RequestsThread], launch: Launch, beats: queue.Queue[str]
) -> None:
    def status() -> dict[str, Any]:
        raise RuntimeError("queue is gone")

    thread = launch(build(status=status))
    peer = context.socket(zmq.DEALER)
    peer.connect(ENDPOINT)
    peer.send_json({"request": "status"})
    peer.rcvtimeo = int(WAIT_S * 1000)
    assert json.loads(peer.recv()) == SHUTDOWN
    thread.join(WAIT_S)
    peer.close(linger=0)
    assert not thread.is_alive()
    assert str(thread.failure) == "queue is gone"
    assert beats.queue[-1] == "forget requests"
    assert can_end(context)


def test_thread_beats_when_nobody_asks_and_is_forgotten_when_it_ended(
    build: Callable[..., RequestsThread], launch: Launch, end: Callable[[Any], None], beats: queue.Queue[str]
) -> None:
    thread = launch(build())
    assert [beats.get(timeout=WAIT_S) for _ in range(2)] == ["requests"] * 2
    end(thread)
    assert beats.queue[-1] == "forget requests"
