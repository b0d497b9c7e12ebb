"""The wall clock is stepped while frames flow: it is for people, and nothing in time hangs on it."""

from __future__ import annotations

import time

import pytest
from line import Line
from station_process import StartStation, base_config

HOUR_S = 3600


@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_step_of_the_wall_clock_costs_no_frame_and_no_status(start: StartStation, recipe, offset_s: int) -> None:
    # A deadline far beyond a slow machine's worst and far below the step.
    station = start(faults=True, config=base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 120_000}))
    with Line(station.config) as line:
        line.flow(0.05)
        for settings in ({}, {"utc_offset_s": offset_s}, {}):
            station.fault(**settings)
            results, statuses = len(line.results), len(line.statuses)
            line.wait_for(lambda: len(line.results) > results + 10, "result")  # noqa: B023 (called at once)
            line.wait_for(lambda: len(line.statuses) > statuses + 3, "status")  # noqa: B023
        line.pause()
        line.wait_answered()
        account = line.account(station.journal)
    messages = [arrival.message for arrival in line.results]
    stepped = [m for m in messages if abs(m["published_utc_ns"] / 1e9 - time.time() - offset_s) < HOUR_S / 2]
    assert len(stepped) > 5  # the clock was stepped for the daemon
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
