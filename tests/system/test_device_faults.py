"""The device computes nonsense, runs out of memory, hangs or dies; threads die; the process stands still.

The tests share a station and a line, in this order: each leaves it as it was, or to be started anew.
"""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from inspector.testing.account import read_journal
from inspector.testing.line import Line
from inspector.testing.station_process import base_config
from tests.system.chaos import scaled
from tests.system.recovery import (
    Ending,
    Serve,
    assert_deadlines_are_kept,
    endure,
    report,
    wait_for_pass,
    wait_for_reason,
)

DEADLINE_MS = 500
STALL_S = 3
STOP_S = 3.0
BUSY_S = 10.0
"""How much later a busy machine may do what is due."""

THREADS = ("publisher", "journal", "ingest-zmq", "evidence", "overlays", "requests", "http")


@pytest.fixture(scope="module")
def config(recipe: Path) -> dict[str, Any]:
    config = base_config(recipe, top={"recipe": str(recipe), "deadline_ms": DEADLINE_MS})
    return config | {"stall_after_s": STALL_S, "stop_timeout_s": STOP_S}


# ---------------------------------------------------------------- faults that pass


@pytest.mark.parametrize(("fault", "reason"), [("nan", "NOT_FINITE"), ("oom", "OUT_OF_MEMORY")])
def test_frames_are_errors_while_the_device_fails_and_pass_again_once_it_does_not(
    serve: Serve, line: Line, fault: str, reason: str
) -> None:
    station = serve()
    line.flow(0.1)
    arrivals = endure(station, line, reason, **{fault: True})
    line.pause()
    line.wait_answered()
    failed = [arrival.message for arrival in arrivals if arrival.message["reason"] == reason]
    assert {(message["verdict"], message["score"]) for message in failed} == {("ERROR", None)}
    assert station.get("/live") == (200, "RUNNING\n")
    account = line.account(station.journal)
    assert (account.broken, account.unrecorded) == ({}, ())


def test_frame_is_judged_in_smaller_batches_when_memory_runs_out_once(serve: Serve, line: Line) -> None:
    station = serve()
    since = len(line.results)
    seen: set[str] = set()
    while not {"OK", "DEFECT"} <= seen:
        station.fault(oom_once=True)
        line.send(1)
        line.wait_answered()
        seen = {arrival.message["reason"] for arrival in line.results[since:]}
    station.fault()
    assert seen <= {"OK", "DEFECT", "DEADLINE"}  # the last on a machine that is too busy
    report("oom_once", "its verdict, a little later", 0.0)


def test_frames_are_answered_in_time_while_the_device_hangs_and_pass_again_when_it_goes_on(
    serve: Serve, line: Line
) -> None:
    station = serve()
    abandoned = station.metric("inspector_frames_abandoned_total")
    line.flow(0.1)
    arrivals = endure(station, line, "DEADLINE", count=8, hang=True)
    line.pause()
    line.wait_answered()
    assert_deadlines_are_kept(arrivals, DEADLINE_MS)
    assert station.metric("inspector_frames_abandoned_total") > abandoned  # the one the device was at
    assert station.metric("inspector_results_total") == station.metric("inspector_frames_received_total")
    assert station.get("/live") == (200, "RUNNING\n")
    assert line.account(station.journal).broken == {}


def test_station_goes_on_when_the_process_was_stopped_for_longer_than_a_stall(serve: Serve, line: Line) -> None:
    station = serve()
    line.flow(0.1)
    wait_for_pass(line)
    statuses = len(line.statuses)
    station.process.send_signal(signal.SIGSTOP)
    before, stopped = len(line.sent), time.monotonic()
    time.sleep(STALL_S + 2)
    sent = set(line.sent[before:])  # taken by the kernel
    station.process.send_signal(signal.SIGCONT)
    continued = time.monotonic()
    report("process stopped for 5 s", "silence", wait_for_pass(line) - continued)
    time.sleep(1)  # time enough to see a stall, wrongly
    line.pause()
    line.wait_answered()
    assert sent
    assert sent <= {arrival.message["frame_id"] for arrival in line.results}
    assert not [arrival for arrival in line.statuses if stopped + 1 < arrival.at_s < continued]
    lifebits = [arrival.message["lifebit"] for arrival in line.statuses[statuses:]]
    assert lifebits[-1] > lifebits[0] + 3  # on which the watchdog is fed
    assert "FAULT" not in {arrival.message["state"] for arrival in line.statuses}
    assert station.get("/live") == (200, "RUNNING\n")
    assert line.account(station.journal).broken == {}


# ---------------------------------------------------------------- faults that end the process


@pytest.mark.parametrize(
    ("fault", "words"), [("cuda_error", "CUDA error: an illegal memory access"), ("die", "told to die")]
)
def test_all_are_answered_and_the_process_ends_when_the_device_does(
    serve: Serve, line: Line, fault: str, words: str
) -> None:
    station, since = serve(), len(line.results)
    ending = Ending(station)
    station.fault(**{fault: True})
    line.send(8)
    wait_for_reason(line, "INFERENCE_FAULT", since=since)
    faulted = time.monotonic()
    assert ending.wait() == 1
    assert time.monotonic() - faulted < STOP_S + BUSY_S
    line.pause()
    assert 503 in ending.live
    status = line.statuses[-1].message
    assert status["state"] == "FAULT"
    assert re.match(f"device: .*{words}", status["last_error"])
    account = line.account(station.journal)
    assert account.broken == {}
    accepted = len(line.results)
    assert {a.message["reason"] for a in line.results[since:]} <= {"INFERENCE_FAULT", "SHUTDOWN", "DEADLINE"}
    after(serve, line, since=accepted, fault=fault, seen="ERROR INFERENCE_FAULT, status FAULT, exit 1", since_s=faulted)
    assert "RESTART" not in {a.message["reason"] for a in line.results[since:]}  # none was left


def after(serve: Serve, line: Line, *, since: int, fault: str, seen: str, since_s: float) -> None:
    """Start again, and see that frames pass and all accounts are in order."""
    station = serve()
    assert station.metric("inspector_starts_total", after="fault") >= 1
    assert station.metric("inspector_starts_total", after="kill") == 0
    sent = len(line.sent)
    line.flow(0.1)
    report(fault, seen, wait_for_pass(line, since=since) - since_s)
    line.pause()
    line.wait_for(lambda: set(line.sent[sent:]) <= {a.message["frame_id"] for a in line.results[:]}, "answer")
    assert line.account(station.journal).broken == {}
    assert station.metric("inspector_frames_in_flight") == 0


def test_process_names_the_device_and_ends_when_it_hangs_for_longer_than_a_stall(serve: Serve, line: Line) -> None:
    station, since, logged = serve(), len(line.results), len(serve().log_text())
    ending = Ending(station)
    station.fault(hang=True)
    line.flow(0.1)
    hung = time.monotonic()
    line.wait_for(lambda: line.statuses[-1].message["state"] == "FAULT", "FAULT")
    faulted = time.monotonic()
    assert ending.wait() == 1
    assert STALL_S - 0.5 < faulted - hung < STALL_S + BUSY_S
    assert time.monotonic() - faulted < STOP_S + BUSY_S
    line.pause()
    assert 503 in ending.live
    assert line.statuses[-1].message["last_error"] == f"device: no progress for {float(STALL_S)} s"
    assert_deadlines_are_kept(line.results[since:], DEADLINE_MS)
    text = station.log_text()[logged:]
    assert text.count("(most recent call first)") > len(THREADS)  # the stack of every thread
    assert "in call" in text  # that of the one that hangs
    assert "threads still running at the stop deadline: device" in text
    assert line.account(station.journal).broken == {}
    seen = f"ERROR DEADLINE, after {STALL_S} s status FAULT, exit 1"
    after(serve, line, since=len(line.results), fault="hang for longer than stall_after_s", seen=seen, since_s=hung)


@pytest.mark.parametrize("name", scaled(THREADS[:2], THREADS))
def test_process_names_the_thread_and_ends_when_one_dies(serve: Serve, line: Line, name: str) -> None:
    station, since, logged = serve(), len(line.results), len(serve().log_text())
    line.flow(0.03)
    wait_for_pass(line)
    station.fault(kill_thread=name)
    killed = time.monotonic()
    assert station.process.wait(20) == 1
    line.pause()
    assert time.monotonic() - killed < STOP_S + BUSY_S
    text = station.log_text()[logged:]
    assert re.search(rf"→ FAULT: {name}: ", text)
    assert re.search(r"DEBUG \S+ frame \d+: ", text)  # what went before
    if name != "publisher":  # whose the status is
        assert line.statuses[-1].message["state"] == "FAULT"
        assert line.statuses[-1].message["last_error"].startswith(f"{name}: ")
    waiting = set(read_journal(station.journal)[1])
    after(serve, line, since=len(line.results), fault=f"thread {name} dies", seen="FAULT, exit 1", since_s=killed)
    restarted = {a.message["frame_id"] for a in line.results[since:] if a.message["reason"] == "RESTART"}
    assert restarted == waiting
