"""Hardware triggers through the daemon: announced before their frame, after it, or too late."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import zmq

from inspector.journal.reader import select_rows
from inspector.journal.verification import verify
from inspector.testing.account import read_journal
from inspector.testing.station_process import RunningStation, StartStation, base_config, build_message, good_frame

WAIT_MS = 60_000
"""More than anything takes that is to come."""


class Line:
    """Cameras fired by a wire, and a PLC."""

    def __init__(self, station: RunningStation) -> None:
        self._frames = station.open(zmq.PUSH, "frames")
        self._requests = station.open(zmq.REQ, "requests")
        self._results = station.subscribe()

    def signal(self, camera: str, frame_id: str) -> int:
        """A frame of a signal, which was given at the time returned."""
        given = time.time_ns()
        self._frames.send_multipart(build_message(camera, frame_id, good_frame(), captured_utc_ns=given + 1000))
        return given

    def announce(self, camera: str, trigger_id: str, **fields: Any) -> dict[str, Any]:
        """Announce; a refusal is returned too."""
        asked = {"request": "announce", "camera": camera, "trigger_id": trigger_id, "timeout_ms": WAIT_MS} | fields
        self._requests.send_json(asked)
        answer: dict[str, Any] = self._requests.recv_json()
        return answer

    def receive(self) -> tuple[str, str | None, str]:
        """Frame, trigger and reason of the next result."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while True:
            assert time.monotonic() < deadline
            assert self._results.poll(WAIT_MS)
            topic, body = self._results.recv_multipart()
            if topic.startswith(b"result/"):
                result = json.loads(body)
                return result["frame_id"], result["trigger_id"], result["reason"]


def wait_until_received(station: RunningStation, count: int) -> None:
    deadline = time.monotonic() + WAIT_MS / 1000
    while station.metric("inspector_frames_received_total", camera="top") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def describe_camera(recipe: Path, within_ms: int) -> dict[str, Any]:
    fields = {"recipe": str(recipe), "deadline_ms": WAIT_MS, "triggers": "hardware"}
    return fields | {"announce_within_ms": within_ms}


def test_frame_has_one_verdict_with_its_id_when_announced_before_it_or_while_it_waits(
    start: StartStation, recipe: Path
) -> None:
    cameras = {"top": describe_camera(recipe, WAIT_MS - 1), "side": describe_camera(recipe, 1)}
    station = start(config=base_config(recipe, **cameras))
    line = Line(station)
    assert line.announce("top", "t1")["ok"]  # the signal comes after it
    line.signal("top", "f1")
    assert line.receive() == ("f1", "t1", "OK")
    given = line.signal("top", "f2")
    wait_until_received(station, 2)
    answer = line.announce("top", "t2", given_utc_ns=given)
    assert answer == {"ok": True, "camera": "top", "trigger_id": "t2", "timeout_ms": WAIT_MS}
    assert line.receive() == ("f2", "t2", "OK")
    given = line.signal("side", "f3")
    assert line.receive() == ("f3", None, "TRIGGER_MISMATCH")  # nobody announced it in time
    late = line.announce("side", "t3", given_utc_ns=given)
    assert late["error"].startswith("camera side: frame f3 was captured then, and is answered already")
    assert station.stop() == 0
    rows = [row.wire for row in select_rows(station.journal)]
    assert [(row["frame_id"], row["trigger_id"]) for row in rows] == [("f1", "t1"), ("f2", "t2"), ("f3", None)]
    assert verify(station.journal).faults == ()
    assert "stopped; 0 frames unanswered" in station.log_text()


def test_frame_that_waited_at_a_kill_is_answered_restart_without_an_id(start: StartStation, recipe: Path) -> None:
    station = start(config=base_config(recipe, top=describe_camera(recipe, WAIT_MS - 1)))
    Line(station).signal("top", "f1")
    wait_until_received(station, 1)
    station.process.kill()
    station.process.wait()
    again = start(config=station.config)
    while read_journal(again.journal)[1]:  # what was open is being closed
        time.sleep(0.05)
    assert again.stop() == 0
    rows = [row.wire for row in select_rows(again.journal)]
    assert [(row["frame_id"], row["trigger_id"], row["reason"]) for row in rows] == [("f1", None, "RESTART")]
