"""Recipes and settings of a running station change, or stay, while frames flow."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
import zmq

from inspector.files import compute_sha256
from inspector.journal.events import select_events
from inspector.journal.verification import verify
from inspector.testing.station_process import (
    RunningStation,
    StartStation,
    bad_frame,
    base_config,
    good_frame,
    send_frame,
)
from tests.system.chaos import long_only

WAIT_S = 60.0
UNANSWERED = 8
"""Frames at most: a machine of any speed has room for them, and keeps their deadlines."""


class Load:
    """Good frames that never stop coming, and their results."""

    def __init__(self, station: RunningStation) -> None:
        self.results: list[dict[str, Any]] = []
        self.sent = 0
        self._stop = threading.Event()
        self._station = station
        self._in, self._out = station.subscribe(), station.open(zmq.PUSH, "frames")
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.03):
            if self.sent - len(self.results) < UNANSWERED:
                send_frame(self._out, good_frame(), f"f{self.sent}")
                self.sent += 1

    def _receive(self) -> None:
        deadline = None
        while deadline is None or (len(self.results) < self.sent and time.monotonic() < deadline):
            if self._in.poll(50):
                topic, body = self._in.recv_multipart()
                if topic != b"status":
                    self.results.append(json.loads(body))
            if deadline is None and not self._threads[0].is_alive():  # it may still be sending one when it is stopped
                deadline = time.monotonic() + WAIT_S

    def wait_for(self, what: Callable[[dict[str, Any]], bool], count: int = 3) -> None:
        """Until so many more results are like this."""
        start, deadline = len(self.results), time.monotonic() + WAIT_S
        while sum(what(result) for result in self.results[start:]) < count:
            assert time.monotonic() < deadline, self.results[start:][-3:]
            time.sleep(0.02)

    def end(self) -> list[dict[str, Any]]:
        """All results: one a frame, in order, without a gap."""
        if not self._stop.is_set():
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert [result["frame_id"] for result in self.results] == [f"f{n}" for n in range(self.sent)]
        assert [result["seq"] for result in self.results] == list(range(1, self.sent + 1))
        return self.results

    def abandon(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def recipes(tmp_path: Path, recipe: Path) -> Path:
    """The station file's folder `recipes`: the tiny recipe `one`, and `two`, by which all frames fail."""
    shutil.copytree(recipe, tmp_path / "recipes" / "one")
    shutil.copytree(recipe, tmp_path / "recipes" / "two")
    change_recipe(tmp_path / "recipes" / "two", recipe_id="two", threshold={"value": 1e-6, "method": "manual"})
    return tmp_path / "recipes"


def change_recipe(folder: Path, **changes: Any) -> None:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture
def station(start: StartStation, recipes: Path) -> RunningStation:
    return start(config=base_config(recipes / "one"))


@pytest.fixture
def load(station: RunningStation) -> Iterator[Load]:
    load = Load(station)
    yield load
    load.abandon()


def ask(station: RunningStation, **request: str) -> dict[str, Any]:
    peer = station.open(zmq.REQ, "requests")
    peer.send_json({"request": "recipe"} | request)
    return peer.recv_json()


def prepare(station: RunningStation, recipe: str) -> dict[str, Any]:
    """Ask for it and wait; how it ended."""
    answer = ask(station, action="prepare", camera="top", recipe=recipe)
    assert (answer["ok"], answer["state"]) == (True, "preparing")
    deadline = time.monotonic() + WAIT_S
    while (change := ask(station, action="status")["last_switch"]["top"])["state"] == "preparing":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return change


def switch(station: RunningStation, recipe: str) -> None:
    """Prepare it and put it in place."""
    sha256 = prepare(station, recipe)["recipe_sha256"]
    assert ask(station, action="switch", camera="top", recipe_sha256=sha256)["ok"] is True


def reload(station: RunningStation, config: dict[str, Any] | str) -> dict[str, Any]:
    """Write the station file, send SIGHUP and wait; how it ended."""
    asked = time.time_ns()
    station.path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    station.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + WAIT_S
    while True:
        change = ask(station, action="status")["last_reload"]
        if change and change["asked_utc_ns"] > asked and change["state"] != "preparing":
            return change
        assert time.monotonic() < deadline
        time.sleep(0.1)


def judged_with(folder: Path) -> Callable[[dict[str, Any]], bool]:
    """Whether a result names the recipe in this folder, and its threshold and verdict are that recipe's."""
    sha256 = compute_sha256(folder / "recipe.yaml")
    threshold = yaml.safe_load((folder / "recipe.yaml").read_text())["threshold"]["value"]

    def holds(result: dict[str, Any]) -> bool:
        if result["recipe_sha256"] != sha256:
            return False
        assert result["threshold"] == threshold
        assert result["verdict"] == ("PASS" if result["score"] <= threshold else "FAIL")
        return True

    return holds


def test_each_result_is_one_recipes_when_recipes_are_switched_under_load(
    station: RunningStation, load: Load, recipes: Path
) -> None:
    old, new = judged_with(recipes / "one"), judged_with(recipes / "two")
    load.wait_for(old)
    assert ask(station, action="switch", camera="top")["ok"] is False
    prepared = prepare(station, "recipes/two")
    assert prepared["state"] == "prepared"
    load.wait_for(old)
    assert ask(station, action="switch", camera="top", recipe="recipes/two")["ok"] is False
    assert ask(station, action="switch", camera="top", id=prepared["id"])["state"] == "switched"
    load.wait_for(new)
    status = ask(station, action="status")
    used = status["recipes"]["top"]
    assert (used["recipe_id"], used["folder"], used["from_station_file"]) == ("two", str(recipes / "two"), False)
    assert station.metric("inspector_recipe_switches_total", camera="top", outcome="switched") == 1
    assert station.metric("inspector_threshold", camera="top") == 1e-6
    assert station.metric("inspector_recipe_info", recipe_id="two") == 1
    assert station.metric("inspector_recipe_info", recipe_id="tiny") == 0
    results = load.end()
    kinds = [new(result) for result in results]
    assert kinds == sorted(kinds)  # once switched, never back
    assert all(old(result) or new(result) for result in results)
    assert {result["verdict"] for result in results} == {"PASS", "FAIL"}


def test_who_changed_what_is_on_record_when_it_was_asked_for_and_when_a_file_was_edited(
    start: StartStation, station: RunningStation, recipes: Path
) -> None:
    switch(station, "recipes/two")
    assert ask(station, request="drain")["ok"] is True
    assert station.process.wait(20) == 0
    change_recipe(recipes / "one", threshold={"value": 7.0, "method": "manual"})
    assert start(config=station.config).stop() == 0
    events = list(select_events(station.journal))
    peer = "unauthenticated 127.0.0.1"
    (user,) = {event.who for event in events if event.kind == "start"}
    assert [(event.kind, event.outcome, event.who) for event in events] == [
        ("start", "started", user),
        ("recipe", "switched", "station file"),
        ("recipe", "switched", peer),
        ("drain", "asked", peer),
        ("stop", "stopped", peer),
        ("start", "started", user),
        ("recipe", "switched", "station file"),  # another, and another threshold, than what was judged with last
        ("stop", "stopped", "signal SIGTERM"),
    ]
    switched = [event.details for event in events if event.kind == "recipe"]
    assert switched[0]["old"] is None
    assert [details["new"]["recipe_id"] for details in switched] == ["tiny", "two", "tiny"]
    assert [details["old"] for details in switched[1:]] == [details["new"] for details in switched[:-1]]
    assert (switched[2]["old"]["threshold"], switched[2]["new"]["threshold"]) == (1e-6, 7.0)
    assert len({event.boot_id for event in events}) == 2
    assert verify(station.journal).faults == ()


@long_only
def test_station_files_recipe_counts_when_the_station_was_switched_and_started_again(
    start: StartStation, recipes: Path
) -> None:
    config = base_config(recipes / "one")
    station = start(config=config)
    switch(station, "recipes/two")
    assert station.stop() == 0
    used = ask(start(config=config), action="status")["recipes"]["top"]
    assert (used["recipe_id"], used["from_station_file"]) == ("tiny", True)


def spoil_weights(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def add_golden_frame_that_does_not_hold(folder: Path) -> None:
    (folder / "golden").mkdir()
    cv2.imwrite(str(folder / "golden" / "good.png"), bad_frame())
    sha256 = compute_sha256(folder / "golden" / "good.png")
    golden = [{"file": "golden/good.png", "sha256": sha256, "verdict": "PASS"}]
    change_recipe(folder, golden=golden)


def test_old_recipe_judges_on_without_a_gap_when_the_new_one_is_refused(
    station: RunningStation, load: Load, recipes: Path
) -> None:
    old = judged_with(recipes / "one")
    shutil.copytree(recipes / "two", recipes / "three")
    spoil_weights(recipes / "two")
    add_golden_frame_that_does_not_hold(recipes / "three")
    for name, words in (("two", "weights.safetensors"), ("three", "golden frame: must be judged PASS, got FAIL")):
        refused = prepare(station, f"recipes/{name}")
        assert refused["state"] == "refused"
        assert words in refused["error"]
        assert words in station.log_text()
        switched = ask(station, action="switch", camera="top", id=refused["id"])
        assert switched["ok"] is False
        assert words in switched["error"]
    missing = ask(station, action="prepare", camera="top", recipe="recipes/four")
    assert missing["error"].startswith("recipe: must be a recipe folder on the station's machine, got 'recipes/four'")
    load.wait_for(old)
    assert station.get("/ready")[0] == 200
    assert station.metric("inspector_recipe_switches_total", camera="top", outcome="refused") == 2
    assert all(old(result) for result in load.end())


def test_recipe_and_settings_change_when_a_good_station_file_is_reloaded(
    station: RunningStation, load: Load, recipes: Path
) -> None:
    load.wait_for(judged_with(recipes / "one"))
    assert not re.search("DEBUG|level=", station.log_text())
    station.process.send_signal(signal.SIGUSR1)
    wait_for_line(station, r" DEBUG publisher frame \d+: seq \d+, PASS OK$")
    config = station.config | {"cameras": {"top": {"recipe": "recipes/two", "deadline_ms": 10_000}}}
    config["logging"] = {"format": "keyvalue", "level": "debug"}
    assert reload(station, config)["state"] == "applied"
    load.wait_for(judged_with(recipes / "two"))
    wait_for_line(station, r'^time=\S+ level=debug thread=publisher logger=\S+ message="frame \d+: .* FAIL DEFECT"')
    change_recipe(recipes / "two", recipe_id="two-b", threshold={"value": 2e-6, "method": "manual"})
    assert reload(station, config)["state"] == "applied"
    load.wait_for(judged_with(recipes / "two"))
    assert station.metric("inspector_reloads_total", outcome="applied") == 2
    results = load.end()
    assert [r["deadline_ms"] for r in (results[0], results[-1])] == [20_000, 10_000]
    assert all(r["verdict"] != "ERROR" for r in results)
    assert list(dict.fromkeys(r["recipe_id"] for r in results)) == ["tiny", "two", "two-b"]


def wait_for_line(station: RunningStation, pattern: str) -> None:
    """Until the log has a line like this."""
    deadline = time.monotonic() + WAIT_S
    while not re.search(pattern, station.log_text(), re.MULTILINE):
        assert time.monotonic() < deadline, station.log_text()[-4000:]
        time.sleep(0.1)


def test_station_goes_on_as_it_is_when_the_new_file_is_refused(
    station: RunningStation, load: Load, recipes: Path
) -> None:
    spoil_weights(recipes / "two")
    cameras = {"top": {"recipe": "recipes/two", "deadline_ms": 10_000}}
    bad = {
        "overlays:\n  frames: some\n": ["overlays.frames: ", "cameras: required, but missing"],
        yaml.safe_dump(station.config | {"http": {"port": 1}, "device": "auto"}): [
            "http.port: cannot change without a restart",
            "device: cannot change without a restart, is 'cpu', got 'auto'",
        ],
        yaml.safe_dump(station.config | {"cameras": cameras}): ["cameras.top.recipe: ", "weights.safetensors"],
    }
    for text, words in bad.items():
        refused = reload(station, text)
        assert refused["state"] == "refused"
        for word in words:
            assert word in refused["error"]
            assert word in station.log_text()
    load.wait_for(judged_with(recipes / "one"))
    assert station.get("/ready")[0] == 200
    assert station.metric("inspector_reloads_total", outcome="refused") == 3
    assert {r["deadline_ms"] for r in load.end()} == {20_000}


@long_only
def test_station_lives_and_reloads_when_hung_up_while_starting(start: StartStation, recipes: Path) -> None:
    station = start(config=base_config(recipes / "one"), wait=False)
    deadline = time.monotonic() + WAIT_S
    while "SigCgt" not in (status := Path(f"/proc/{station.process.pid}/status").read_text()) or not _catches(status):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    station.process.send_signal(signal.SIGHUP)
    station.wait_ready()
    while not (change := ask(station, action="status")["last_reload"]) or change["state"] == "preparing":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert change["state"] == "applied"
    assert station.stop() == 0


def _catches(status: str) -> bool:
    (line,) = (line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


@long_only
def test_stop_does_not_wait_when_a_recipe_is_being_prepared(station: RunningStation, recipes: Path) -> None:
    (recipes / "two" / "recipe.yaml").unlink()
    os.mkfifo(recipes / "two" / "recipe.yaml")  # whoever reads it waits for ever
    (recipes / "two" / "weights.safetensors").unlink()
    answer = ask(station, action="prepare", camera="top", recipe="recipes/two")
    assert answer["state"] == "preparing"
    time.sleep(1.0)
    assert ask(station, action="status")["last_switch"]["top"]["state"] == "preparing"
    started = time.monotonic()
    station.process.send_signal(signal.SIGHUP)
    assert station.stop() == 0
    assert time.monotonic() - started < 4


@long_only
def test_command_prepares_and_switches_or_tells_why_not(station: RunningStation, recipes: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "inspector", "recipe", *arguments]
        command += ["--requests", station.config["sockets"]["requests"]]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stdout + ended.stderr

    status, out = run("top", str(recipes / "two"))
    assert (status, out.splitlines()[0]) == (0, f"camera top: now judged with two from {recipes / 'two'}")
    assert "until the daemon restarts or reloads" in out
    spoil_weights(recipes / "two")
    status, out = run("top", str(recipes / "two"))
    assert status == 1
    assert "the recipe was refused, the previous one stays in use" in out
    assert "weights.safetensors" in out
    status, out = run("bottom", str(recipes / "one"))
    assert status == 1
    assert "camera: must be one of ['top'], got 'bottom'" in out
