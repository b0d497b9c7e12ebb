"""The wall clock is stepped while frames flow: it is for people, and nothing in time hangs on it."""

from __future__ import annotations

import time
from pathlib import Path

from inspector.testing.line import Line
from inspector.testing.station_process import StartStation, base_config

HOUR_S = 3600


def test_steps_of_the_wall_clock_cost_no_frame_and_no_status(start: StartStation, recipe: Path) -> None:
    # A deadline far beyond a slow machine's worst and far below the step.
    station = start(faults=True, config=base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 120_000}))
    with Line(station.config) as line:
        line.flow(0.05)
        for settings in ({}, {"utc_offset_s": HOUR_S}, {"utc_offset_s": -HOUR_S}, {}):
            station.fault(**settings)
            results, statuses = len(line.results), len(line.statuses)
            line.wait_for(lambda: len(line.results) > results + 10, "result")  # noqa: B023 (called at once)
            line.wait_for(lambda: len(line.statuses) > statuses + 3, "status")  # noqa: B023
        line.pause()
        line.wait_answered()
        account = line.account(station.journal)
    messages = [arrival.message for arrival in line.results]
    offsets_s = [m["published_utc_ns"] / 1e9 - time.time() for m in messages]
    for step_s in (HOUR_S, -HOUR_S):  # the clock was stepped for the daemon
        assert sum(abs(offset_s - step_s) < HOUR_S / 2 for offset_s in offsets_s) > 5
    assert {(m["frame_id"].partition("-")[0], m["verdict"], m["reason"]) for m in messages} == {
        ("good", "PASS", "OK"),
        ("bad", "FAIL", "DEFECT"),
    }
    assert all(0 <= value < 120_000 for m in messages for value in m["latency_ms"].values())
    assert [m["seq"] for m in messages] == list(range(1, len(line.sent) + 1))
    lifebits = [arrival.message["lifebit"] for arrival in line.statuses]
    assert lifebits == sorted(lifebits)
    assert lifebits[-1] > lifebits[0]
    assert account.broken == {}
    assert (account.accepted, account.unrecorded, account.unpublished) == (account.sent, (), ())
    assert station.stop() == 0
