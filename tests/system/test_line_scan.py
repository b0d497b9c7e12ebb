"""A web, cut into strips, through a real station: its defects are told once, and what it did not judge is told too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inspector.journal.reader import read_results
from inspector.testing.station_process import (
    FRAME_HW,
    RunningStation,
    StartStation,
    bad_frame,
    base_config,
    next_result,
    send_frame,
)

HEIGHT, WIDTH = FRAME_HW
OVERLAP = 64
DEFECT = (OVERLAP + 40, OVERLAP + 80)
"""So that the second frame is `bad_frame`, and the first one ends within."""
STRIPS = (1, 63, 40, 24, 100, 60)
"""Their heights: frames are cut anywhere in them."""


@pytest.fixture
def web() -> np.ndarray[Any, Any]:
    """Lines of a grey web, with a defect where the first frame ends."""
    lines = np.full((sum(STRIPS), WIDTH, 3), 90, np.uint8)
    lines[OVERLAP : OVERLAP + HEIGHT] = bad_frame()
    return lines


def send_strips(
    station: RunningStation, web: np.ndarray[Any, Any], *, lost: tuple[int, ...] = (), first: int = 0
) -> zmq.Socket[bytes]:
    push, begin = station.open(zmq.PUSH, "frames"), 0
    for number, height in enumerate(STRIPS, first):
        strip = web[begin : begin + height]
        if number not in lost:
            details = {"captured_utc_ns": time.time_ns(), "encoder_value": 4 * begin}
            send_frame(push, strip, f"strip-{number}", part_id="coil-7", **details)
        begin += height
    return push


def test_web_is_judged_line_by_line_and_a_defect_that_two_frames_show_has_one_number(
    start: StartStation, recipe: Path, web: np.ndarray[Any, Any]
) -> None:
    line_scan = {"frame_lines": HEIGHT, "overlap_lines": OVERLAP, "line_pitch_um": 50, "encoder_divider": 4}
    top = {"recipe": str(recipe), "deadline_ms": 20_000, "line_scan": line_scan | {"idle_timeout_s": 1.0}}
    station = start(config=base_config(recipe, top=top))
    results = station.subscribe()
    time.sleep(0.3)
    push = send_strips(station, web)
    got = [next_result(results) for _ in range(4)]
    assert [each["web"]["y"] for each in got] == [[0, 128], [64, 192], [128, 256], [160, 288]]
    assert [each["web"]["owned"] for each in got] == [[0, 128], [128, 192], [192, 256], [256, 288]]
    assert [each["web"]["encoder_value"] for each in got] == [0, 256, 512, 640]
    assert {each["part_id"] for each in got} == {"coil-7"}
    assert [each["verdict"] for each in got] == ["FAIL", "FAIL", "PASS", "PASS"]
    before, again = (each["regions"] for each in got[:2])
    assert [(each["defect"], each["web_y"]) for each in before] == [(each["defect"], each["web_y"]) for each in again]
    assert len({each["defect"] for each in before}) == len(before)  # each is one defect of the web, in both frames
    assert all(DEFECT[0] <= each["web_y"][0] < each["web_y"][1] <= DEFECT[1] for each in before)
    assert before[0]["web_mm"] == pytest.approx([line * 0.05 for line in before[0]["web_y"]])
    assert [each["web"] for each in read_results(station.journal, "top", 1)] == [each["web"] for each in got]
    # A strip is lost, then the station is stopped: two errors, and nothing passes.
    send_frame(push, web[:10], "strip-8", part_id="coil-7", captured_utc_ns=time.time_ns(), encoder_value=4 * 300)
    gap = next_result(results)
    assert (gap["verdict"], gap["reason"], gap["web"]["owned"]) == ("ERROR", "LINES_MISSING", [288, 300])
    assert station.stop() == 0
    *_, last = read_results(station.journal, "top", 1)
    assert (last["verdict"], last["reason"], last["web"]["y"]) == ("ERROR", "SHUTDOWN", [300, 310])
