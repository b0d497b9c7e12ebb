"""One source hangs or floods: the other cameras' frames are judged in time, and one that hung comes back by itself."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import zmq

from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, StartStation, base_config, build_message, good_frame
from tests.system.recovery import report, wait_for_pass

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
        line.flow(0.3)
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


DEADLINE_MS = 2000
SENDERS = 12
"""All of one camera; each has a frame ready whenever the station reads."""
SLOW_S = 0.2
"""Of a frame: a round of the senders takes longer than the deadline while each waits for room."""


@contextmanager
def flooding(config: dict[str, Any], camera: str) -> Iterator[None]:
    """A camera with far more frames than the station can judge."""
    over = threading.Event()

    def send_all() -> None:
        with zmq.Context() as context, ExitStack() as stack:
            senders = [stack.enter_context(context.socket(zmq.PUSH)) for _ in range(SENDERS)]
            for sender in senders:
                sender.linger, sender.sndhwm = 0, 2
                sender.connect(config["sockets"]["frames"])
            for number in itertools.count():
                with suppress(zmq.Again):
                    message = build_message(camera, f"flood-{number}", good_frame())
                    senders[number % SENDERS].send_multipart(message, flags=zmq.NOBLOCK)
                if over.wait(0.002):
                    return

    thread = threading.Thread(target=send_all, name="flood")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_frames_are_answered_in_time_while_another_camera_floods_a_buffer_that_blocks(
    start: StartStation, recipe: Path
) -> None:
    camera = {"recipe": str(recipe), "deadline_ms": DEADLINE_MS}
    buffer = {"max_bytes": 3 * good_frame().nbytes, "when_full": "block"}
    config = base_config(recipe, top=camera, flood=camera) | {"buffer": buffer, "tile_batch": 8}
    station = start(config=config, faults=True)
    station.fault(slow_s=SLOW_S)
    with Line(config) as line, flooding(config, "flood"):
        line.wait_for(lambda: "OVERLOAD" in {a.message["reason"] for a in line.results[:]}, "OVERLOAD", 20)
        line.flow(0.5)
        line.wait_for(lambda: len(line.sent) >= 8, "frames sent")
        line.pause()
        line.wait_answered()
        answers = {a.message["frame_id"]: a for a in line.results[:] if a.message["camera"] == "top"}
        ages_s = [answers[name].at_s - line.sent_at_s[name] for name in line.sent]
        assert {answer.message["reason"] for answer in answers.values()} & {"OK", "DEFECT"}
    assert max(ages_s) < 1.25 * DEADLINE_MS / 1000 + 0.5, ages_s
