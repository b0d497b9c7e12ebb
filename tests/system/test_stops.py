"""A stop from every state, within one deadline; a second signal; a start that finds its port taken."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, StartStation, base_config, good_frame
from tests.system.chaos import long_only
from tests.system.recovery import report, wait_for_pass, wait_for_reason

STOP_S = 3.0
END_S = 4.0
"""On a busy machine; most of it is the interpreter's own end."""


def start_faulty(start: StartStation, recipe: Path, **changes: Any) -> RunningStation:
    """A station whose deadline is not what ends a frame here."""
    config = base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 60_000})
    return start(faults=True, config=config | {"stop_timeout_s": STOP_S, "stall_after_s": 60} | changes)


def stop(station: RunningStation) -> tuple[int, float]:
    """Exit status, and the seconds it took."""
    started = time.monotonic()
    status = station.stop(30)
    return status, time.monotonic() - started


# ---------------------------------------------------------------- one signal


def test_stop_is_clean_while_the_recipe_is_read_from_a_disk_that_hangs(
    start: StartStation, recipe: Path, tmp_path: Path
) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    shutil.copy(recipe / "recipe.yaml", hanging)
    os.mkfifo(hanging / "weights.safetensors")  # read without end: nobody writes
    station = start(config=base_config(hanging), wait=False)
    wait_until(lambda: answer(station) == (503, "STARTING\n"))
    status, seconds = stop(station)
    assert status == 0
    assert seconds < END_S


def answer(station: RunningStation) -> tuple[int, str] | None:
    try:
        return station.get("/ready")
    except OSError:
        return None


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@long_only
def test_stop_is_clean_and_quick_when_no_frame_came(start: StartStation) -> None:
    station = start()
    assert station.get("/ready") == (200, "READY\n")
    status, seconds = stop(station)
    assert status == 0
    assert seconds < END_S


def test_stop_is_clean_while_the_buffer_is_full_and_senders_push(start: StartStation, recipe: Path) -> None:
    buffer = {"max_bytes": 5 * good_frame().nbytes, "when_full": "block"}
    station = start_faulty(start, recipe, buffer=buffer)
    with Line(station.config) as line:
        station.fault(slow_s=0.5)
        line.flow(0.0)
        line.wait_for(lambda: station.metric("inspector_buffer_bytes") == buffer["max_bytes"], "full buffer")
        line.wait_for(lambda: line.results, "result")
        status, seconds = stop(station)
        line.pause()
        account = line.account(station.journal)
    assert status == 0
    assert seconds < STOP_S + END_S
    assert {a.message["reason"] for a in line.results} <= {"OK", "DEFECT", "SHUTDOWN"}
    assert line.results[-1].message["reason"] == "SHUTDOWN"
    assert line.statuses[-1].message["state"] == "STOPPING"
    assert account.broken == {}
    assert (account.accepted, account.unrecorded, account.unpublished) == (len(line.results), (), ())


@long_only
def test_stop_is_clean_while_a_source_is_lost(start: StartStation, recipe: Path) -> None:
    lost = {"recipe": str(recipe), "source": {"type": "opencv", "device": "rtsp://127.0.0.1:1"}}
    config = base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 60_000}, side=lost)
    station = start(config=config | {"stop_timeout_s": STOP_S}, wait=False)
    wait_until(lambda: (answer(station) or (0, ""))[1].startswith("DEGRADED: source side: "))
    with Line(station.config) as line:
        line.send(2)
        wait_for_pass(line, since=0)  # the other camera's frames are judged all the same
        status, seconds = stop(station)
        assert status == 0
        assert seconds < STOP_S + END_S
        assert line.account(station.journal).broken == {}


def test_all_are_answered_by_the_end_of_the_stop_while_the_device_hangs(start: StartStation, recipe: Path) -> None:
    station = start_faulty(start, recipe)
    with Line(station.config) as line:
        hang(station, line)
        status, seconds = stop(station)
        line.pause()
        account = line.account(station.journal)
    assert status == 1  # it had to be cut off
    assert seconds < STOP_S + END_S
    assert "threads still running at the stop deadline: device" in station.log_text()
    assert {a.message["reason"] for a in line.results} == {"SHUTDOWN"}
    assert account.broken == {}
    assert (account.accepted, account.unrecorded, account.unpublished) == (len(line.results), (), ())


def hang(station: RunningStation, line: Line) -> None:
    """Frames under way and waiting, none of which will be judged."""
    station.fault(hang=True)
    line.send(6)
    line.wait_for(lambda: station.metric("inspector_frames_in_flight") == 6, "frames in flight")


def test_none_passes_and_the_stop_ends_in_time_while_the_journal_hangs(start: StartStation, recipe: Path) -> None:
    station = start_faulty(start, recipe)
    with Line(station.config) as line:
        line.send(2)
        line.wait_answered()
        station.fault(slow_commit_s=30)
        line.send(6)
        line.wait_for(lambda: station.metric("inspector_frames_in_flight") == 6, "frames in flight")
        status, seconds = stop(station)
        assert status == 1
        assert seconds < STOP_S + END_S
        assert "threads still running at the stop deadline: journal" in station.log_text()
        assert {a.message["verdict"] for a in line.results[2:]} == {"ERROR"}
        line.wait_answered(5)
        account = line.account(station.journal)
        # Nothing of them is on record: each was answered ERROR, and is not known to the next start.
        assert account.broken == {}
        assert len(account.unrecorded) == 6


# ---------------------------------------------------------------- two signals, and a kill


@pytest.mark.parametrize(
    "fault", [pytest.param({"slow_s": 0.5}, id="draining"), pytest.param({"hang": True}, id="hung", marks=long_only)]
)
def test_second_signal_ends_at_once_and_the_next_start_answers_what_was_open(
    start: StartStation, recipe: Path, fault: dict[str, Any]
) -> None:
    station = start_faulty(start, recipe, stop_timeout_s=30.0)
    with Line(station.config) as line:
        station.fault(**fault)
        line.send(20)
        line.wait_for(lambda: station.metric("inspector_frames_in_flight") > 10, "frames in flight")
        station.process.send_signal(signal.SIGTERM)
        line.wait_for(lambda: line.statuses[-1].message["state"] == "STOPPING", "STOPPING")
        status, seconds = stop(station)
        assert status == 128 + signal.SIGTERM
        assert seconds < END_S
        stopped, since = time.monotonic(), len(line.results)
        line.pause()
        station.fault()
        station = start_faulty(lambda **options: start(**options | {"config": station.config}), recipe)
        wait_for_reason(line, "RESTART", since=since, count=5)
        line.send(2)
        seen = "silence, then ERROR RESTART"
        report(f"second signal, {next(iter(fault))}", seen, wait_for_pass(line, since=since) - stopped)
        line.wait_for(lambda: not station.metric("inspector_frames_in_flight"), "last answer")
        assert line.account(station.journal).broken == {}


@long_only
def test_start_names_the_field_while_its_port_is_taken_and_answers_what_was_open_once_it_is_free(
    start: StartStation, recipe: Path
) -> None:
    station = start_faulty(start, recipe)
    endpoint = station.config["sockets"]["results"]
    with Line(station.config) as line:
        hang(station, line)
        station.process.kill()
        station.process.wait()
        killed = time.monotonic()
        line.pause()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", int(endpoint.rpartition(":")[2])))
            thief.listen()
            refused = start(config=station.config, wait=False)
            assert refused.process.wait(60) == 1  # systemd tries again
        lines = station.path.read_text().splitlines()
        number = next(number for number, text in enumerate(lines, start=1) if text.startswith("  results:"))
        words = f"sockets.results: must be an endpoint this process can bind, got '{endpoint}'"
        assert f"station.yaml:{number}:3: {words}" in refused.log_text()
        start(config=station.config)
        wait_for_reason(line, "RESTART", since=0, count=6)
        line.send(1)
        report("kill -9, its port taken for a while", "silence, then ERROR RESTART", wait_for_pass(line) - killed)
        line.wait_answered()
        assert line.account(station.journal).broken == {}
