"""Software triggers at 20 a second, whatever answers them: each has one verdict, with its id; a group has one each.

    INSPECTOR_CHAOS=1 pytest -s tests/system/test_trigger_rate.py

prints how much more time a verdict takes than the judging of its frame, from the answer to the request on: exposure,
the way of the frame, the journal and two sockets; and on a machine that is too slow for the rate, the frames before it.
INSPECTOR_TRIGGERS=200 and INSPECTOR_TRIGGERS_PER_S=2 ask for another number and rate.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inspector.errors import ConfigError
from inspector.journal.reader import select_rows
from inspector.journal.verification import verify
from inspector.sources.cameras.gige import load_aravis
from inspector.testing.station_process import (
    RunningStation,
    StartStation,
    bad_frame,
    base_config,
    build_message,
    good_frame,
)
from tests.system.chaos import scaled, tell, timeout

TRIGGERS = int(os.environ.get("INSPECTOR_TRIGGERS") or scaled(40, 2000))
PERIOD_S = 1 / float(os.environ.get("INSPECTOR_TRIGGERS_PER_S") or 20)
MOST_OPEN = 100
"""On a machine that is too slow for the rate no more are fired at once."""
LONG_MS = 60_000
"""More than any frame takes, on a busy machine too."""
FAKE = "arv-fake-gv-camera-0.8"
JUDGING = ("preprocess", "infer", "decide")
SMALL = {"trigger": "request", "pixel_format": "RGB8", "width": 160, "height": 128}


def answer_triggers(results: str, frames: str) -> None:
    """A camera program: a frame for each trigger, until it is ended; that of an odd number is bad."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    told, out = context.socket(zmq.SUB), context.socket(zmq.PUSH)
    told.subscribe("trigger/")
    told.connect(results)
    out.connect(frames)
    while True:
        message = json.loads(told.recv_multipart()[1])
        trigger_id = message["trigger_id"]
        frame = bad_frame() if int(trigger_id.rpartition("-")[2]) % 2 else good_frame()
        header = {"trigger_id": trigger_id, "captured_utc_ns": time.time_ns()}
        out.send_multipart(build_message(message["camera"], f"frame-{trigger_id}", frame, **header))


@contextmanager
def run_program(station: RunningStation) -> Iterator[None]:
    """The camera program in a process of its own, once the station knows that it listens."""
    sockets = station.config["sockets"]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=answer_triggers, args=(sockets["results"], sockets["frames"]), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


class Plc:
    """Fires, and reads all verdicts."""

    def __init__(self, station: RunningStation) -> None:
        self._requests = station.open(zmq.REQ, "requests")
        self._results = station.subscribe()
        self.accepted: dict[str, float] = {}
        self.verdicts: list[tuple[float, dict[str, Any]]] = []

    def fire(self, camera: str | list[str], trigger_id: str, timeout_ms: int = LONG_MS) -> None:
        """Fire, and note when it was accepted."""
        asked = {"request": "trigger", "camera": camera, "trigger_id": trigger_id, "timeout_ms": timeout_ms}
        self._requests.send_json(asked)
        answer: Any = self._requests.recv_json()
        assert answer["ok"], answer
        self.accepted[trigger_id] = time.monotonic()

    def read_until(self, moment: float) -> None:
        """Read verdicts until a moment (monotonic)."""
        while self._results.poll(max(0, int((moment - time.monotonic()) * 1000))):
            topic, body = self._results.recv_multipart()
            verdict = json.loads(body)
            if topic.startswith(b"result/") and verdict["trigger_id"] in self.accepted:  # else of the warm-up, late
                self.verdicts.append((time.monotonic(), verdict))

    def warm_up(self, camera: str | list[str]) -> None:
        """Fire until a frame comes: its program has heard of the first trigger, its camera is up."""
        deadline = time.monotonic() + LONG_MS / 1000
        while not any(verdict["reason"] != "NO_FRAME" for _, verdict in self.verdicts):
            assert time.monotonic() < deadline, self.verdicts
            self.fire(camera, f"warm-{len(self.accepted)}", 3000)
            self.read_until(time.monotonic() + 3.5)

    def run(self, camera: str | list[str], count: int, verdicts: int) -> None:
        """Fire so often, each `PERIOD_S`, and read until so many verdicts are there."""
        self.verdicts.clear()
        self.accepted.clear()
        began = time.monotonic()
        for number in range(count):
            self.read_until(began + number * PERIOD_S)
            while len(self.accepted) - len(self.verdicts) > MOST_OPEN:
                self.read_until(time.monotonic() + PERIOD_S)
            self.fire(camera, f"t-{number}")
        deadline = time.monotonic() + LONG_MS / 1000
        while len(self.verdicts) < verdicts and time.monotonic() < deadline:
            self.read_until(time.monotonic() + 0.05)

    def tell_latency(self, what: str) -> None:
        """Print what a trigger adds to the judging of its frame."""
        added, judging = [], []
        for moment, verdict in self.verdicts:
            judging_ms = sum(verdict["latency_ms"].get(stage, 0.0) for stage in JUDGING)
            judging.append(judging_ms)
            added.append((moment - self.accepted[verdict["trigger_id"]]) * 1000 - judging_ms)
        p50, p99 = np.quantile(added, (0.5, 0.99))
        rate = (len(self.accepted) - 1) / (max(self.accepted.values()) - min(self.accepted.values()))
        figures = f"judging p50 {np.median(judging):.1f} ms, added p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        tell(f"{what}: {len(added)} triggers, {rate:.1f}/s; {figures}")


@contextmanager
def run_fake_gige() -> Iterator[None]:
    process = subprocess.Popen([FAKE, "-i", "127.0.0.1"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def describe_source(kind: str) -> tuple[dict[str, Any], Any]:
    """The source's settings, and what must run beside the station."""
    if kind == "pylon":
        if importlib.util.find_spec("pypylon") is None:
            pytest.skip("pypylon is not installed (pip install 'inspector[pylon]')")
        return {"type": "pylon", "features": {"TestImageSelector": "Testimage2"}} | SMALL, nullcontext()
    if kind == "gige":
        try:
            load_aravis()
        except ConfigError as error:
            pytest.skip(str(error))
        if shutil.which(FAKE) is None:
            pytest.skip(f"{FAKE} is not installed (Debian package aravis-tools)")
        return {"type": "gige", "device": "127.0.0.1", "frame_rate": 100} | SMALL, run_fake_gige()
    return {"type": "zmq"}, nullcontext()


@timeout(240, 900)
@pytest.mark.parametrize("kind", ["zmq", "gige", "pylon"])
def test_each_trigger_has_the_verdict_of_its_frame_at_20_a_second(
    start: StartStation, recipe: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    source, beside = describe_source(kind)
    camera = {"recipe": str(recipe), "deadline_ms": LONG_MS, "triggers": "software", "source": source}
    with beside:
        station = start(config=base_config(recipe, top=camera))
        with run_program(station) if kind == "zmq" else nullcontext():
            plc = Plc(station)
            while kind != "zmq" and not station.metric("inspector_source_up", camera="top"):
                time.sleep(0.1)
            plc.warm_up("top")
            plc.run("top", TRIGGERS, TRIGGERS)
        plc.tell_latency(kind)
        assert station.stop() == 0
    ids = [f"t-{number}" for number in range(TRIGGERS)]
    assert [verdict["trigger_id"] for _, verdict in plc.verdicts] == ids
    if kind == "zmq":
        expected = [("DEFECT" if number % 2 else "OK", f"frame-t-{number}") for number in range(TRIGGERS)]
        assert [(verdict["reason"], verdict["frame_id"]) for _, verdict in plc.verdicts] == expected
    else:  # each trigger took one image, and no image is missing between two
        numbers = [int(verdict["frame_id"].rpartition("-")[2]) for _, verdict in plc.verdicts]
        assert numbers == list(range(numbers[0], numbers[0] + TRIGGERS))
        assert {verdict["verdict"] for _, verdict in plc.verdicts} <= {"PASS", "FAIL"}
    recorded = [row.wire["trigger_id"] for row in select_rows(station.journal)]
    assert [name for name in recorded if name and name.startswith("t-")] == ids
    assert verify(station.journal).faults == ()


@timeout(240, 900)
def test_group_has_one_verdict_of_each_camera_and_none_is_fired_when_one_is_offline(
    start: StartStation, recipe: Path
) -> None:
    camera = {"recipe": str(recipe), "deadline_ms": LONG_MS, "triggers": "software"}
    names = ["top", "side"]
    count = TRIGGERS // 4
    station = start(config=base_config(recipe, **{name: dict(camera) for name in names}))
    with run_program(station):
        plc = Plc(station)
        plc.warm_up(names)
        plc.read_until(time.monotonic() + 1.5)
        plc.run(names, count, 2 * count)
        assert sorted((verdict["camera"], verdict["trigger_id"]) for _, verdict in plc.verdicts) == sorted(
            (name, f"t-{number}") for name in names for number in range(count)
        )
        requests = station.open(zmq.REQ, "requests")
        requests.send_json({"request": "offline", "camera": "side"})
        requests.recv_json()
        requests.send_json({"request": "trigger", "camera": names, "trigger_id": "t-refused"})
        assert requests.recv_json() == {"ok": False, "error": "camera side: offline, takes no triggers"}
    assert station.metric("inspector_triggers_open") == 0
    assert station.stop() == 0
    assert all(row.wire["trigger_id"] != "t-refused" for row in select_rows(station.journal))
