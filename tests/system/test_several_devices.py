"""Two devices in one station, here two workers on the CPU: each judges its cameras; when one fails, both end.

The tests share a station and the lines of its two cameras, in this order.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
import zmq

from inspector.testing.account import read_journal
from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, StartStation, base_config
from tests.system.recovery import Ending, Serve, wait_for_reason

CAMERAS = {"back": "cpu:0", "side": "cpu:1", "top": "cpu:0"}
STALL_S = 60


@pytest.fixture(scope="module")
def config(recipe: Path) -> dict[str, Any]:
    cameras = {name: {"recipe": str(recipe), "deadline_ms": 20_000} for name in CAMERAS}
    return base_config(recipe, **cameras) | {"device": ["cpu", "cpu"], "stall_after_s": STALL_S}


@pytest.fixture(scope="module")
def lines(serve: Serve) -> Iterator[dict[str, Line]]:
    """The line of each camera; each sees the results of all."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Line(serve().config, camera=name)) for name in CAMERAS}


def list_results(line: Line) -> list[dict[str, Any]]:
    """Those of the line's own camera, as they came."""
    return [arrival.message for arrival in line.results[:] if arrival.message["camera"] == line.camera]


def wait_for_all(line: Line) -> None:
    line.wait_sent()
    line.wait_for(lambda: len(list_results(line)) >= len(line.sent), "verdict of each frame")


def test_each_camera_is_judged_in_order_by_its_device_when_all_send(serve: Serve, lines: dict[str, Line]) -> None:
    station = serve()
    for line in lines.values():
        line.send(20)
    for line in lines.values():
        wait_for_all(line)
        results = list_results(line)
        assert [result["frame_id"] for result in results] == line.sent
        assert [result["seq"] for result in results] == list(range(1, 21))
        expected = {"good": ("PASS", "OK"), "bad": ("FAIL", "DEFECT")}
        for result in results:
            assert (result["verdict"], result["reason"]) == expected[result["frame_id"].partition("-")[0]]
    status = lines["top"].statuses[-1].message
    assert status["devices"] == {"cpu:0": ["back", "top"], "cpu:1": ["side"]}  # in the file by the alphabet
    for camera, device in CAMERAS.items():
        assert station.metric("inspector_camera_device", camera=camera, device=device) == 1
        assert station.metric("inspector_results_total", camera=camera) == 20
    of_top_and_back, of_side = (station.metric("inspector_tiles_total", device=f"cpu:{n}") for n in range(2))
    assert of_top_and_back == 2 * of_side > 0
    assert station.metric("inspector_frames_received_total") == station.metric("inspector_results_total") == 60


def test_other_device_judges_on_while_one_hangs(serve: Serve, lines: dict[str, Line]) -> None:
    station, top, side = serve(), lines["top"], lines["side"]
    answered = len(list_results(top))
    station.fault(hang="device cpu:0")
    top.send(2)
    top.wait_sent()
    side.send(10)
    wait_for_all(side)
    assert len(list_results(top)) == answered
    station.fault()
    wait_for_all(top)
    assert {result["reason"] for result in list_results(top)[answered:]} == {"OK", "DEFECT"}
    assert station.get("/live") == (200, "RUNNING\n")


def test_recipe_is_switched_on_both_devices_or_on_none_by_a_reload(
    serve: Serve, lines: dict[str, Line], recipe: Path
) -> None:
    station = serve()
    new, broken = station.folder / "new", station.folder / "broken"
    for folder in (new, broken):
        shutil.copytree(recipe, folder)
        text = (folder / "recipe.yaml").read_text(encoding="utf-8")
        (folder / "recipe.yaml").write_text(text.replace("recipe_id: tiny", f"recipe_id: {folder.name}"))
    (broken / "weights.safetensors").write_bytes(b"")
    assert reload(station, top=new, side=broken)["state"] == "refused"
    assert judged_by(lines) == {"top": "tiny", "side": "tiny", "back": "tiny"}
    assert reload(station, top=new, side=new)["state"] == "applied"
    assert judged_by(lines) == {"top": "new", "side": "new", "back": "tiny"}


def reload(station: RunningStation, **recipes: Path) -> dict[str, Any]:
    """Have the station file read again with these recipes; what came of it."""
    before = ask(station)["last_reload"]
    cameras = {
        name: camera | ({"recipe": str(recipes[name])} if name in recipes else {})
        for name, camera in station.config["cameras"].items()
    }
    station.path.write_text(yaml.safe_dump(station.config | {"cameras": cameras}), encoding="utf-8")
    station.process.send_signal(signal.SIGHUP)
    while (change := ask(station)["last_reload"]) == before or change["state"] == "preparing":
        time.sleep(0.05)
    return change


def ask(station: RunningStation) -> dict[str, Any]:
    peer = station.open(zmq.REQ, "requests")
    peer.send_json({"request": "status"})
    answer: dict[str, Any] = json.loads(peer.recv())
    return answer


def judged_by(lines: dict[str, Line]) -> dict[str, str]:
    """The recipe of the next verdict of each camera."""
    found = {}
    for name, line in lines.items():
        line.send(1)
        wait_for_all(line)
        found[name] = list_results(line)[-1]["recipe_id"]
    return found


def test_all_are_answered_and_no_device_judges_on_when_one_fails(serve: Serve, lines: dict[str, Line]) -> None:
    station, side = serve(), lines["side"]
    ending, since = Ending(station), len(side.results)
    station.fault(cuda_error="device cpu:1")
    side.send(4)
    wait_for_reason(side, "INFERENCE_FAULT", since=since)
    assert ending.wait() == 1
    side.pause()
    status = side.statuses[-1].message
    assert status["state"] == "FAULT"
    assert re.match("device cpu:1: .*CUDA error: an illegal memory access", status["last_error"])
    assert {arrival.message["reason"] for arrival in side.results[since:]} <= {"INFERENCE_FAULT", "SHUTDOWN"}
    assert read_journal(station.journal)[1] == set()  # no frame is left open
    station = serve()
    for line in lines.values():
        answered = len(list_results(line))
        line.send(2)
        line.wait_sent()
        wait_for_both(line, since=answered)
        final = [result["frame_id"] for result in list_results(line) if not result["replay"]]
        assert len(final) == len(set(final))
        passed = [result["frame_id"] for result in list_results(line) if result["verdict"] == "PASS"]
        assert all(frame_id.startswith("good-") for frame_id in passed)
    assert station.metric("inspector_frames_in_flight") == 0


def wait_for_both(line: Line, *, since: int) -> None:
    """A PASS and a FAIL from result number `since` on."""
    line.wait_for(lambda: {"OK", "DEFECT"} <= {each["reason"] for each in list_results(line)[since:]}, "both verdicts")


def test_station_goes_on_without_a_device_that_is_missing_where_its_file_says_so(
    start: StartStation, recipe: Path
) -> None:
    cameras = {name: {"recipe": str(recipe), "deadline_ms": 20_000} for name in CAMERAS}
    cameras["side"]["device"] = "cuda:63"
    config = base_config(recipe, **cameras) | {"device": ["cuda:63", "cpu"], "missing_device": "leave_out"}
    station = start(config=config)
    with contextlib.ExitStack() as stack:
        lines = {name: stack.enter_context(Line(config, camera=name)) for name in CAMERAS}
        assert judged_by(lines) == dict.fromkeys(CAMERAS, "tiny")
        assert {list_results(line)[-1]["verdict"] for line in lines.values()} == {"PASS"}
        status = lines["side"].statuses[-1].message
    assert status["state"] == "DEGRADED"
    assert status["devices"] == {"cpu": ["back", "side", "top"]}
    assert "cuda:63" in status["last_error"]
    assert station.get("/ready")[0] == 200
    assert reload(station)["state"] == "applied"  # the file names the missing device still
    assert station.stop() == 0
