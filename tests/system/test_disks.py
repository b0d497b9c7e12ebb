"""Disks that are slow, full or broken, and journals that were altered or replaced while the station was down."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.journal.writer import read_results
from inspector.testing.line import Line
from inspector.testing.station_process import StartStation, base_config
from tests.system.recovery import Serve, assert_deadlines_are_kept, endure, report, wait_for_pass

DEADLINE_MS = 500


@pytest.fixture(scope="module")
def config(recipe: Path) -> dict[str, Any]:
    return base_config(recipe, top={"recipe": str(recipe), "deadline_ms": DEADLINE_MS})


# ---------------------------------------------------------------- the journal's disk


def test_frames_are_errors_at_their_deadline_while_the_journal_is_slow_and_pass_again_when_it_is_not(
    serve: Serve, line: Line
) -> None:
    station = serve()
    line.flow(0.1)
    arrivals = endure(station, line, "DEADLINE", count=12, slow_commit_s=1.0)
    line.pause()
    line.wait_answered()
    assert_deadlines_are_kept(arrivals, DEADLINE_MS)
    assert "judged, but not recorded before the deadline" in {a.message["message"] for a in arrivals}
    assert_on_record_is_what_was_published(line, station.journal)
    assert any(row["amends"] for row in read_rows(station.journal))
    assert line.account(station.journal).broken == {}


def test_frames_are_errors_while_the_journal_cannot_be_written_and_come_on_record_when_it_can(
    serve: Serve, line: Line
) -> None:
    station = serve()
    answers = []
    line.flow(0.1)
    endure(
        station, line, "NOT_READY", count=8, meanwhile=lambda: answers.append(station.get("/ready")), fail_commit=True
    )  # fmt: skip
    line.pause()
    line.wait_answered()
    ((code, text),) = answers
    assert code == 503
    assert text.startswith("DEGRADED: journal: ")
    station.wait_ready(5)
    assert_on_record_is_what_was_published(line, station.journal)
    account = line.account(station.journal)
    assert (account.broken, account.unrecorded) == ({}, ())
    assert station.get("/ready") == (200, "RUNNING\n")


def assert_on_record_is_what_was_published(line: Line, journal: Path) -> None:
    """Every result, once those that were published without waiting are on record, too."""
    published = [(a.message["seq"], a.message["verdict"], a.message["reason"]) for a in line.results]

    def read() -> list[tuple[Any, ...]]:
        return [(r["seq"], r["verdict"], r["reason"]) for r in read_results(journal, "top", 1)]

    with contextlib.suppress(AssertionError):
        line.wait_for(lambda: read() == published, "agreement", timeout_s=5)
    assert read() == published


def read_rows(journal: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(journal)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM results ORDER BY n")]
    connection.close()
    return rows


# ---------------------------------------------------------------- the evidence's disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB where the station keeps its evidence."""
    folder = tmp_path / "state" / "test" / "evidence"
    folder.mkdir(parents=True)
    yield from mount(folder, "1m")


@pytest.fixture
def small_state(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB where the station keeps its state."""
    folder = tmp_path / "state"
    folder.mkdir()
    yield from mount(folder, "8m")


def mount(folder: Path, size: str) -> Iterator[Path]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_verdicts_go_on_and_the_station_is_degraded_while_the_disk_for_evidence_is_full(
    small_disk: Path, start: StartStation
) -> None:
    station = start(evidence={"min_free": 0})
    with Line(station.config) as line:
        line.send(2)
        line.wait_answered()
        line.wait_for(lambda: list(small_disk.rglob("*FAIL*.json")), "evidence")
        with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        line.flow(0.1)
        line.wait_for(lambda: station.get("/ready")[1].startswith("DEGRADED: evidence: "), "DEGRADED")
        assert station.get("/ready")[0] == 200
        statuses = len(line.statuses)
        line.wait_for(lambda: "DEGRADED" in {a.message["state"] for a in line.statuses[statuses:]}, "status")
        line.pause()
        line.wait_answered()
        (small_disk / "filler").unlink()
        freed = time.monotonic()
        line.wait_for(lambda: station.get("/ready") == (200, "RUNNING\n"), "recovery", timeout_s=10)
        report("disk full for evidence", "its verdicts, status DEGRADED", time.monotonic() - freed)
        kept = len(list(small_disk.rglob("*FAIL*.png")))
        line.send(2)
        line.wait_answered()
        line.wait_for(lambda: len(list(small_disk.rglob("*FAIL*.png"))) > kept, "evidence")
        assert {a.message["reason"] for a in line.results} == {"OK", "DEFECT"}
        assert line.account(station.journal).broken == {}
    assert station.metric("inspector_evidence_dropped_total") > 0
    assert station.stop() == 0


# ---------------------------------------------------------------- the journal's file


def test_frames_are_errors_while_the_journal_is_away_and_no_number_is_given_twice_once_it_is_lost(
    start: StartStation,
) -> None:
    station = start(evidence={"frames": "none"})
    files = [station.journal, *(station.journal.with_name(f"journal.sqlite-{end}") for end in ("wal", "shm"))]
    with Line(station.config) as line:
        line.send(2)
        line.wait_answered()
        for file in files:
            file.rename(file.with_name(f"away-{file.name}"))
        line.wait_for(lambda: station.get("/ready")[0] == 503, "DEGRADED, though no frame comes")
        line.send(2)
        line.wait_answered()
        assert {arrival.message["reason"] for arrival in line.results[2:]} == {"NOT_READY"}
        for file in files:
            file.with_name(f"away-{file.name}").rename(file)
        back = time.monotonic()
        station.wait_ready(10)
        line.send(2)
        report("journal away", "ERROR NOT_READY", wait_for_pass(line, since=4) - back)
        line.wait_answered()
        assert line.account(station.journal).broken == {}
        shutil.rmtree(station.journal.parent)
        line.send(2)
        line.wait_answered()
        assert {(a.message["reason"], a.message["recorded"]) for a in line.results[6:]} == {("NOT_READY", False)}
        assert station.stop() == 0
        station = start(config=station.config)
        line.send(2)
        wait_for_pass(line, since=8)
        line.wait_answered()
        seqs = [arrival.message["seq"] for arrival in line.results if not arrival.message["replay"]]
    assert seqs[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert seqs[8] > 8 + 1000
    assert "8 or more results are not recorded, from number 1 on" in station.log_text()
    assert station.metric("inspector_journal_lost_total") == 8
    assert verify(station.journal).returncode == 0
    assert station.stop() == 0


def test_station_whose_disk_is_full_is_started_again_and_comes_back_once_there_is_room(
    small_state: Path, start: StartStation
) -> None:
    station = start(evidence={"frames": "none"})
    with Line(station.config) as line:
        line.send(1)
        line.wait_answered()
        station.process.kill()
        station.process.wait()
        with (small_state / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        refused = start(config=station.config, wait=False)
        assert refused.process.wait(60) == 1
        assert "cannot start now" in refused.log_text()
        (small_state / "filler").unlink()
        start(config=station.config)
        line.send(2)
        wait_for_pass(line, since=1)
        line.wait_answered()
        assert line.account(station.journal).broken == {}


def test_altered_row_is_named_by_verify_and_a_file_that_is_no_journal_stops_the_start(start: StartStation) -> None:
    station = start(evidence={"frames": "none"})
    with Line(station.config) as line:
        line.send(3)
        line.wait_answered()
        assert station.stop() == 0
        connection = sqlite3.connect(station.journal)
        connection.execute("""UPDATE results SET json = replace(json, '"FAIL"', '"PASS"') WHERE n = 2""")
        connection.commit()
        connection.close()
        station = start(config=station.config)  # what it owes the line comes first
        line.send(2)
        wait_for_pass(line, since=3)
    verified = verify(station.journal)
    assert verified.returncode == 1
    assert "FAULT row 2 (top 2): altered" in verified.stdout
    assert station.stop() == 0
    for path in station.journal.parent.glob("journal.sqlite*"):
        path.unlink()
    station.journal.write_bytes(b"shopping list\n" * 100)
    stopped = time.monotonic()
    refused = start(config=station.config, wait=False)
    assert refused.process.wait(30) == 78
    report("journal replaced by another file", "exit 78, until a hand mends it", time.monotonic() - stopped)
    assert f"state_dir: journal {station.journal}: cannot be opened: file is not a database" in refused.log_text()
    assert station.journal.read_bytes() == b"shopping list\n" * 100


def verify(journal: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inspector", "journal", "verify", str(journal)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
