"""A GigE Vision camera through the daemon: it is killed and comes back."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.errors import ConfigError
from inspector.sources.cameras.gige import load_aravis
from inspector.testing.station_process import RunningStation, StartStation, base_config

PROGRAM = "arv-fake-gv-camera-0.8"
WAIT_S = 90.0


def wait_for(station: RunningStation, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {station.log_text()}"
        assert station.process.poll() is None, station.log_text()
        time.sleep(0.2)


def test_camera_that_was_killed_is_told_and_its_frames_come_again_once_it_is_back(
    start: StartStation, recipe: Path
) -> None:
    try:
        load_aravis()
    except ConfigError as error:
        pytest.skip(str(error))
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed (Debian package aravis-tools)")
    source = {
        "type": "gige",
        "device": "127.0.0.1",
        "pixel_format": "RGB8",
        "width": 160,
        "height": 128,
        "frame_rate": 5,
    }
    camera = {"recipe": str(recipe), "deadline_ms": 20_000, "max_age_ms": None, "source": source}
    process = subprocess.Popen([PROGRAM, "-i", "127.0.0.1"])
    try:
        station = start(config=base_config(recipe, top=camera))

        def received() -> float:
            return station.metric("inspector_frames_received_total", camera="top")

        wait_for(station, lambda: station.metric("inspector_source_up", camera="top") == 1, "up")
        wait_for(station, lambda: received() > 5, "frames")
        assert "<td>Width</td><td>160</td><td>160</td>" in station.get("/status")[1]
        process.kill()
        process.wait()
        wait_for(station, lambda: station.metric("inspector_source_up", camera="top") == 0, "down")
        wait_for(station, lambda: station.get("/ready")[0] == 503, "not ready")
        before = received()
        process = subprocess.Popen([PROGRAM, "-i", "127.0.0.1"])
        wait_for(station, lambda: station.metric("inspector_source_up", camera="top") == 1, "up again")
        wait_for(station, lambda: received() > before + 5, "frames again")
        wait_for(station, lambda: station.get("/ready")[0] == 200, "ready again")
        assert station.stop() == 0
        assert "stopped; 0 frames unanswered" in station.log_text()
    finally:
        process.kill()
        process.wait()
