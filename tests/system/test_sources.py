"""One source hangs: it alone is DEGRADED, the other cameras' frames are judged, and it comes back by itself."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
from line import Line
from recovery import report, wait_for_pass
from station_process import RunningStation, StartStation, base_config, good_frame

STALL_S = 2
STOP_S = 3.0
END_S = 4.0
"""On a busy machine; most of it is the interpreter's own end."""


def start_hanging(start: StartStation, recipe: Path, folder: Path) -> RunningStation:
    """A station with a camera over ZeroMQ and one whose folder hangs from the start, until told otherwise."""
    camera = {"recipe": str(recipe), "deadline_ms": 60_000}
    shelf = camera | {"source": {"type": "folder", "path": str(folder), "watch": True, "poll_s": 0.1}}
    config = base_config(recipe, top=camera, shelf=shelf) | {"stall_after_s": STALL_S, "stop_timeout_s": STOP_S}
    station = start(config=config, faults=True, wait=False)
    station.fault(hang_folder=str(folder))
    return station


def test_other_cameras_are_judged_while_a_folder_hangs_and_its_own_frames_once_it_is_back(
    start: StartStation, recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    station = start_hanging(start, recipe, folder)
    station.wait_ready()
    with Line(station.config) as line:
        line.flow(0.1)
        line.wait_for(lambda: station.get("/ready")[0] == 503, "DEGRADED")
        assert station.get("/ready")[1].startswith("DEGRADED: source shelf: shelf: no answer for ")
        time.sleep(STALL_S + 0.5)
        wait_for_pass(line)
        assert station.get("/live")[0] == 200
        assert station.metric("inspector_source_up", camera="shelf") == 0
        assert station.metric("inspector_source_up", camera="top") == 1
        cv2.imwrite(str(folder / "part.png"), good_frame())
        station.fault()
        answered = time.monotonic()
        line.wait_for(
            lambda: [a for a in line.results[:] if a.message["frame_id"] == "part.png"], "frame of the folder"
        )
        (part,) = (a.message for a in line.results[:] if a.message["frame_id"] == "part.png")
        assert (part["camera"], part["verdict"]) == ("shelf", "PASS")
        report("a folder hangs", "DEGRADED; the other cameras nothing", time.monotonic() - answered)
        line.wait_for(lambda: station.get("/ready")[0] == 200, "recovery")
        line.pause()
        line.wait_answered()
        station.fault(hang_folder=str(folder))
        time.sleep(0.5)
        started = time.monotonic()
        assert station.stop() == 0
        assert time.monotonic() - started < STOP_S + END_S
    assert "FAULT" not in station.log_text()
    assert "stopped; 0 frames unanswered" in station.log_text()
