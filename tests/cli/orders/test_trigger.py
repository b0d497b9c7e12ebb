"""`inspector trigger` fires a camera, waits for that trigger's verdict, and exits by it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zmq

from inspector.testing.fake_station import make_fail, make_result

Run = Callable[..., tuple[int, str]]
Serve = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def serve(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> Serve:
    """Answer the next request so, then publish these results of its trigger; what was asked is in the list."""

    def serve(reply: dict[str, Any], *results: dict[str, Any], parts: Any = None) -> list[dict[str, Any]]:
        requests, publisher = context.socket(zmq.REP), context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        sockets = {
            name: f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
            for name, socket in (("requests", requests), ("results", publisher))
        }
        station = {"schema": 1, "station": "press-3", "sockets": sockets, "cameras": {}}
        station["cameras"] = {name: {"deadline_ms": 100} for name in ("top", "side")}
        if parts is not None:
            station["parts"] = parts
        (tmp_path / "station.yaml").write_text(yaml.safe_dump(station))
        asked: list[dict[str, Any]] = []

        def run() -> None:
            end = time.monotonic() + 20
            while not requests.poll(20) and time.monotonic() < end:
                publisher.send_multipart([b"status", b"{}"])
            asked.append(json.loads(requests.recv(zmq.NOBLOCK)))
            requests.send_json(reply)
            for result in results:
                sent = {"latency_ms": {"total": 7.0}} | result
                topic = result["camera"] if "views" in result else f"result/{result['camera']}"
                publisher.send_multipart([topic.encode(), json.dumps(sent).encode()])
            for socket in (requests, publisher):
                socket.close(linger=1000)

        threading.Thread(target=run).start()
        return asked

    return serve


def test_verdict_of_the_trigger_is_printed_and_others_are_not(run: Run, serve: Serve, tmp_path: Path) -> None:
    ours = make_result(2, trigger_id="t1")
    asked = serve({"ok": True, "timeout_ms": 50}, make_fail(1, trigger_id="t0"), ours)
    status, printed = run("trigger", tmp_path / "station.yaml", "top", "--id", "t1", "--part", "p1", "--timeout-ms", 50)
    assert asked == [{"request": "trigger", "camera": "top", "trigger_id": "t1", "part_id": "p1", "timeout_ms": 50}]
    assert (status, printed) == (0, "PASS OK top #2 f2 score 0.5/1 7 ms")


def test_exit_is_1_when_it_is_no_pass(run: Run, serve: Serve, tmp_path: Path) -> None:
    serve({"ok": True, "timeout_ms": 50}, make_fail(1, trigger_id="t1"))
    status, printed = run("trigger", tmp_path / "station.yaml", "top", "--id", "t1")
    assert (status, printed.startswith("FAIL DEFECT top #1")) == (1, True)


def test_group_is_asked_for_at_once_and_exit_is_1_unless_all_pass(run: Run, serve: Serve, tmp_path: Path) -> None:
    answer = {"ok": True, "timeout_ms": 50}
    passed, failed = make_result(2, trigger_id="t1"), make_fail(5, camera="side", trigger_id="t1")
    asked = serve(answer, failed, make_result(6, camera="side", trigger_id="t1"), passed)
    status, printed = run("trigger", tmp_path / "station.yaml", "top", "side", "--id", "t1")
    assert asked == [{"request": "trigger", "camera": ["top", "side"], "trigger_id": "t1"}]
    assert status == 1
    assert printed.startswith("FAIL DEFECT side #5 f5")
    assert "PASS OK top #2 f2" in printed
    assert "#6" not in printed
    serve(answer, passed, make_result(5, camera="side", trigger_id="t1"))
    assert run("trigger", tmp_path / "station.yaml", "top", "side", "--id", "t1")[0] == 0


def test_refusal_and_silence_are_told(run: Run, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve({"ok": False, "error": "camera top: offline, takes no triggers"})
    status, printed = run("trigger", tmp_path / "station.yaml", "top")
    assert status == 1
    assert printed.startswith("inspector: refused: camera top: offline, takes no triggers see ")
    monkeypatch.setattr("inspector.cli.orders.trigger._MORE_S", 0.1)
    serve({"ok": True, "timeout_ms": 50})
    status, printed = run("trigger", tmp_path / "station.yaml", "top", "--id", "t1")
    assert status == 1
    assert printed.startswith("inspector: camera top: no verdict on trigger t1 came in time see ")


def make_part(part_id: str, verdict: str, reason: str) -> dict[str, Any]:
    views = [{"camera": camera, "reason": "OK"} for camera in ("top", "side")]
    return make_result(9, camera="part/body", frame_id=part_id, verdict=verdict, reason=reason, views=views)


@pytest.mark.parametrize("by", ["part_id", "trigger_id"])
def test_part_that_the_trigger_names_is_waited_for_and_exit_is_1_unless_it_passes_too(
    run: Run, serve: Serve, tmp_path: Path, by: str
) -> None:
    parts = {"body": {"cameras": ["top", "side"], "by": by, "window_ms": 3000}}
    ours, other = {"part_id": ("p1", "p2"), "trigger_id": ("t1", "t2")}[by]
    view, answer = make_result(2, trigger_id="t1"), {"ok": True, "timeout_ms": 50}
    fire = ("trigger", tmp_path / "station.yaml", "top", "--id", "t1", "--part", "p1")
    for verdict, reason, expected in (("ERROR", "VIEW_MISSING", 1), ("PASS", "OK", 0)):
        serve(answer, view, make_part(other, "FAIL", "DEFECT"), make_part(ours, verdict, reason), parts=parts)
        status, printed = run(*fire)
        assert status == expected
        assert f"part/body #9 {ours}" in printed
        assert f"part/body #9 {other}" not in printed


def test_part_that_is_silent_is_told_and_one_that_the_trigger_does_not_name_is_not_waited_for(
    run: Run, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.cli.orders.trigger._MORE_S", 0.1)
    parts = {"body": {"cameras": ["top", "side"], "by": "part_id", "window_ms": 100}}
    view, answer = make_result(2, trigger_id="t1"), {"ok": True, "timeout_ms": 50}
    serve(answer, view, parts=parts)
    status, printed = run("trigger", tmp_path / "station.yaml", "top", "--id", "t1", "--part", "p1")
    assert (status, "part body: no verdict on trigger t1 came in time" in printed) == (1, True)
    serve(answer, view, parts=parts)
    assert run("trigger", tmp_path / "station.yaml", "top", "--id", "t1")[0] == 0
