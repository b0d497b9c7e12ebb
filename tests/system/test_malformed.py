"""Ten thousand malformed messages among good frames, and the same for the requests socket and the HTTP port."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import zmq

from inspector.testing.line import Line
from inspector.testing.malformed import MAX_HEADER, MAX_MESSAGE, PNG, Malformer, names_camera
from inspector.testing.station_process import (
    FRAME_HW,
    RunningStation,
    StartStation,
    base_config,
    build_message,
    good_frame,
    next_result,
)
from inspector.types import Reason

MESSAGES = 10_000
GOOD_EVERY = 100
GROWTH_BYTES = 80 * 1024**2
"""What the daemon may grow by: half of what it was sent, so messages kept would show; 30 MiB were measured."""


# ---------------------------------------------------------------- the frames socket


def test_each_of_ten_thousand_malformed_messages_is_answered_once_or_counted(start: StartStation, recipe: Path) -> None:
    config = base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 120_000})
    config["sockets"]["max_message"] = MAX_MESSAGE
    config["logging"] = {"format": "json"}
    station = start(config=config)
    malformer = Malformer(seed=1)
    messages = [malformer.make(number) for number in range(MESSAGES)]
    named = sum(map(names_camera, messages))
    assert 0.4 * MESSAGES < named < 0.9 * MESSAGES
    good = {f"good-{number}" for number in range(0, MESSAGES, GOOD_EVERY)}
    push = station.open(zmq.PUSH, "frames")
    with Line(config) as line:
        _send_good_and_wait(line, push, "warm", 20)
        series = _count_series(station)
        memory = _read_memory(station)
        for number, parts in enumerate(messages):
            if f"good-{number}" in good:
                push.send_multipart(build_message("top", f"good-{number}", good_frame()))
            push.send_multipart(parts)
        expected = 20 + named + len(good)
        line.wait_for(lambda: len(line.results) >= expected, "answer to each")
        _send_good_and_wait(line, push, "last", 1)
        account = line.account(station.journal)
    grown = _read_memory(station) - memory
    results = [arrival.message for arrival in line.results]
    assert len(results) == expected + 1
    sound = [r for r in results if r["frame_id"].partition("-")[0] in {"warm", "good", "last"}]
    assert {(r["verdict"], r["reason"]) for r in sound} == {("PASS", "OK")}
    assert {r["frame_id"] for r in sound} == {*(f"warm-{n}" for n in range(20)), *good, "last-0"}
    others = Counter(r["reason"] for r in results if r not in sound and not r["frame_id"].startswith("damaged"))
    assert set(others) <= {"BAD_FRAME", "FRAME_MISMATCH"}
    assert others["BAD_FRAME"] > 0.95 * named
    assert [r["seq"] for r in results] == list(range(1, len(results) + 1))
    assert station.metric("inspector_frames_received_total") == len(results)
    assert station.metric("inspector_results_total") == len(results)
    assert station.metric("inspector_frames_unidentified_total") == MESSAGES - named
    # Each kind of error met is one more; a first score in another band is none.
    assert _count_series(station) <= series + len(Reason)
    assert account.broken == {}
    assert (account.unrecorded, account.unpublished) == ((), ())
    assert grown < GROWTH_BYTES
    warned = station.metric("inspector_log_messages_total", level="warning")
    assert station.stop() == 0
    _check_log(station.log_text().splitlines(), warned)


def _check_log(lines: list[str], warned: float) -> None:
    """Each line is whole and says what it is, whatever the frames were called; the flood did not fill the log."""
    ours = (re.sub(r"libpng \w+: [^{]*", "", line) for line in lines)  # it writes by itself
    entries = [json.loads(line) for line in ours if line]
    assert all({"time", "level", "thread", "logger", "message"} <= entry.keys() for entry in entries)
    assert {entry["station"] for entry in entries} == {"test"}
    warnings = [entry for entry in entries if entry["level"] == "warning"]
    assert 0 < warned <= len(warnings) < 100
    assert any(entry["message"].endswith(" more like this)") for entry in warnings)
    assert ("top", "BAD_FRAME") in {(entry.get("camera"), entry.get("reason")) for entry in warnings}
    changes = [(entry["from"], entry["to"]) for entry in entries if "from" in entry]
    assert changes == [("STARTING", "READY"), ("READY", "RUNNING"), ("RUNNING", "STOPPING")]


def test_image_that_claims_more_than_the_recipes_frame_is_a_mismatch_undecoded(start: StartStation) -> None:
    station = start()
    peer = station.subscribe()
    png = bytearray(PNG)
    png[16:24] = struct.pack(">II", 5000, 4000)  # its checksum is wrong now: decoded it would be a BAD_FRAME
    header = {"camera": "top", "frame_id": "large", "encoding": "png"}
    station.open(zmq.PUSH, "frames").send_multipart([json.dumps(header).encode(), bytes(png)])
    result = next_result(peer)
    assert (result["frame_id"], result["verdict"], result["reason"]) == ("large", "ERROR", "FRAME_MISMATCH")
    assert result["message"] == f"frame_hw: the recipe expects {FRAME_HW}, got (4000, 5000)"


def _send_good_and_wait(line: Line, push: zmq.Socket[bytes], name: str, count: int) -> None:
    before = len(line.results)
    for number in range(count):
        push.send_multipart(build_message("top", f"{name}-{number}", good_frame()))
    line.wait_for(lambda: len(line.results) >= before + count, f"answer to {name}")


def _count_series(station: RunningStation) -> int:
    return sum(not line.startswith("#") for line in station.get("/metrics")[1].splitlines())


def _read_memory(station: RunningStation) -> int:
    """Resident bytes of the daemon."""
    status = Path(f"/proc/{station.process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


# ---------------------------------------------------------------- requests


def test_malformed_requests_are_each_refused_and_the_next_is_answered(start: StartStation) -> None:
    station = start()
    malformer = Malformer(seed=2)
    dealer = station.open(zmq.DEALER, "requests")
    for first in range(0, 300, 50):  # more than a hundred answers do not wait for a peer that reads none
        for number in range(first, first + 50):
            # Frame messages are no requests: their headers are JSON of every kind and none of them asks for anything.
            dealer.send_multipart([b"", malformer.make(number)[0][:MAX_HEADER]])
        for number in range(first, first + 50):
            answer = json.loads(dealer.recv_multipart()[-1])
            assert answer["ok"] is False, number
            assert answer["error"]
    for request in _wrong_requests():
        dealer.send_multipart([b"", request])
        answer = json.loads(dealer.recv_multipart()[-1])
        assert answer["ok"] is False, request[:80]
        assert answer["error"]


def _wrong_requests() -> list[bytes]:
    wrong = [None, True, 1.5, -1, 0, 2**63, 10**400, "", "top", [], {}, float("nan"), float("inf"), "\ud800", [[["x"]]]]
    requests: list[Any] = [{"request": value} for value in wrong]
    requests += [{"request": "replay", "camera": "top", "from_seq": value} for value in wrong]
    requests += [{"request": "replay", "camera": value, "from_seq": 1} for value in wrong if value != "top"]
    requests += [{"request": "replay"}, {"request": "replay", "camera": "top"}]
    return [json.dumps(request).encode() for request in requests]


def test_requests_socket_lives_on_when_envelopes_are_wrong_or_requests_huge(start: StartStation) -> None:
    station = start()
    for parts in (1, 3, 7, 20):
        peer = station.open(zmq.DEALER, "requests")
        for _ in range(50):
            peer.send_multipart([b"x"] * parts)
        peer.send_multipart([b""] * parts)
    huge = station.open(zmq.DEALER, "requests")
    huge.send_multipart([b"", b"[" * (8 * 1024**2)])  # hung up on
    gone = station.context.socket(zmq.DEALER)
    gone.connect(station.config["sockets"]["requests"])
    gone.send_multipart([b"", b'{"request": "status"}'])
    gone.close(linger=100)  # its answer has nowhere to go
    ask = station.open(zmq.REQ, "requests")
    for _ in range(3):
        ask.send_json({"request": "status"})
        answer = ask.recv_json()
        assert (answer["ok"], answer["station"]) == (True, "test")
    assert station.process.poll() is None


# ---------------------------------------------------------------- raw TCP


def test_http_port_answers_and_frames_flow_when_200_connections_hang_or_send_garbage(start: StartStation) -> None:
    station = start()
    port = station.config["http"]["port"]
    noise = random.Random(3)
    halves = [
        b"",
        b"GET /metrics HT",
        b"GET /live HTTP/1.1\r\nHost: x\r\n",
        b"POST /ready HTTP/1.1\r\nContent-Length: 9\r\n",
    ]
    with contextlib.ExitStack() as stack, Line(station.config) as line:
        for number in range(200):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            peer.sendall(noise.randbytes(200) if number % 2 else halves[number // 2 % len(halves)])
        for _ in range(20):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            peer.sendall(halves[1])
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()  # by a reset, in the middle of a request
        line.send(6)
        line.wait_answered()
        for path in ("/live", "/ready"):
            assert station.get(path) == (200, "RUNNING\n")
        assert station.metric("inspector_results_total") == 6
        assert station.get("/" + "x" * 60_000)[0] == 431
        assert {a.message["verdict"] for a in line.results} == {"PASS", "FAIL"}
        assert line.account(station.journal).broken == {}
    assert station.stop() == 0
    assert "Traceback" not in station.log_text()


def test_zeromq_ports_live_on_when_peers_do_not_speak_zeromq(start: StartStation) -> None:
    station = start()
    noise = random.Random(4)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    # After a sound greeting: a frame that says it is as long as 64 bits can say.
    endless = greeting + b"\x02" + struct.pack(">Q", 2**63) + b"x"
    with contextlib.ExitStack() as stack, Line(station.config) as line:
        for name in ("frames", "results", "overlays", "requests"):
            port = int(station.config["sockets"][name].rpartition(":")[2])
            for number in range(20):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                with contextlib.suppress(OSError):
                    peer.sendall((noise.randbytes(100), greeting[: noise.randrange(64)], endless)[number % 3])
        time.sleep(0.2)
        line.send(4)
        line.wait_answered()
        assert [a.message["verdict"] for a in line.results] == ["PASS", "FAIL", "PASS", "FAIL"]
        assert line.account(station.journal).broken == {}
    assert station.stop() == 0
