"""The journal keeps every verdict, all or none of a batch, and counts on from where it ended."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.sinks.journal import Journal, read_results
from inspector.types import Reason, Region, Result, Verdict

Make = Callable[..., Result]
KILLED = """
import os, signal, sys
from pathlib import Path
from inspector.sinks.journal import Journal
from inspector.types import Reason, Result, Verdict
journal = Journal(Path(sys.argv[1]))
for seq in (1, 2, 3):
    journal.append([Result("line1", "boot", seq, "top", "f", None, None, Verdict.PASS, Reason.OK,
                           0.25, 1.0, (), 1, 2, 3, 2000)])
journal._connection.execute("BEGIN")
journal._connection.execute("UPDATE results SET json = '{}'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def seqs(path: Path, camera: str = "top", from_seq: int = 1, **limit: int) -> list[int]:
    return [kept["seq"] for kept in read_results(path, camera, from_seq, **limit)]


def test_result_reads_back_as_it_went_to_the_wire_when_appended(make: Make, journal: Journal, path: Path) -> None:
    kept = make(
        7,
        frame_id="schön/№ 7",
        part_id="p7",
        verdict=Verdict.FAIL,
        reason=Reason.DEFECT,
        score=2.5,
        regions=(Region((1, 2, 30, 40), 2.5, 17),),
        latency_ms={"total": 12.5},
        message="said “no”",
    )
    journal.append([kept])
    (read,) = read_results(path, "top", 1)
    assert read == json.loads(json.dumps(kept.to_wire()))
    assert read["frame_id"] == "schön/№ 7"
    assert (read["verdict"], read["reason"], read["reason_code"], read["margin"]) == ("FAIL", "DEFECT", 1, 1.5)
    assert read["regions"] == [{"xyxy": [1, 2, 30, 40], "peak": 2.5, "area": 17}]


def test_columns_can_be_searched_when_a_result_was_appended(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1), make(2, score=None, verdict=Verdict.ERROR, reason=Reason.DEADLINE, part_id="p")])
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT camera, seq, boot_id, frame_id, part_id, verdict, reason_code, score, published_utc_ns FROM results"
    ).fetchall()
    connection.close()
    assert rows == [
        ("top", 1, "boot", "f1", None, "PASS", 0, 0.25, 3),
        ("top", 2, "boot", "f1", "p", "ERROR", 11, None, 3),
    ]


def test_results_are_seen_by_another_reader_when_append_returns(make: Make, journal: Journal, path: Path) -> None:
    for seq in (1, 2, 3):
        journal.append([make(seq)])
        assert seqs(path) == list(range(1, seq + 1))


def test_none_of_a_batch_is_kept_when_one_cannot_be_written(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1), make(2)])
    with pytest.raises(JournalError, match="cannot be written: UNIQUE constraint failed"):
        journal.append([make(3), make(2), make(4)])
    assert seqs(path) == [1, 2]
    journal.append([make(3), make(4)])
    assert seqs(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "change", [{"frame_id": "m\udcfcll.png"}, {"part_id": "\ud800"}, {"published_utc_ns": 2**63}], ids=str
)
def test_none_of_a_batch_is_kept_when_one_has_a_value_sqlite_cannot_hold(
    make: Make, journal: Journal, path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append([make(1), make(2, **change), make(3)])
    assert seqs(path) == []
    journal.append([make(1)])  # the failed transaction is not still open
    assert seqs(path) == [1]


def test_append_fails_and_works_again_when_another_writer_holds_and_frees_the_file(
    make: Make, journal: Journal, path: Path
) -> None:
    journal._connection.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="cannot be written: database is locked"):
        journal.append([make(1)])
    assert seqs(path) == []
    other.execute("ROLLBACK")
    other.close()
    journal.append([make(1)])
    assert seqs(path) == [1]


def test_append_fails_keeping_what_there_was_when_the_disk_is_full(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1)])
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        journal.append([make(2), make(3, message="x" * 100_000)])
    assert seqs(path) == [1]
    journal._connection.execute(f"PRAGMA max_page_count={pages + 100}")
    journal.append([make(2)])
    assert seqs(path) == [1, 2]


def test_nothing_changes_when_an_empty_batch_is_appended(journal: Journal, path: Path) -> None:
    journal.append([])
    assert journal.last_seqs() == {}
    assert seqs(path) == []


# ---------------------------------------------------------------- opening


def test_last_seqs_are_the_highest_of_each_camera_when_opened_again(make: Make, path: Path) -> None:
    journal = Journal(path)
    assert journal.last_seqs() == {}
    journal.append([make(9), make(10), make(3, camera="side")])
    journal.append([make(2, camera="side")])
    assert journal.last_seqs() == {"top": 10, "side": 3}
    journal.close()
    again = Journal(path)
    assert again.last_seqs() == {"top": 10, "side": 3}
    again.append([make(11)])
    assert again.last_seqs() == {"top": 11, "side": 3}
    again.close()
    assert seqs(path) == [9, 10, 11]


def test_write_ahead_log_is_folded_in_when_closed(make: Make, path: Path) -> None:
    journal = Journal(path)
    journal.append([make(1)])
    assert [row[0] for row in journal._connection.execute("PRAGMA journal_mode")] == ["wal"]
    assert [row[0] for row in journal._connection.execute("PRAGMA synchronous")] == [2]  # FULL
    journal.close()
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]
    assert seqs(path) == [1]


def test_committed_results_are_kept_and_open_ones_are_not_when_the_process_is_killed(make: Make, path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, check=False, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert seqs(path) == [1, 2, 3]
    journal = Journal(path)
    assert journal.last_seqs() == {"top": 3}
    journal.append([make(4)])
    journal.close()
    assert seqs(path) == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"verdicts, in words\n" * 500, b"SQLite format 3\0" + bytes(4080)], ids=len)
def test_journal_is_refused_and_left_as_it_is_when_the_file_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"journal .*journal\.sqlite: cannot be opened: "):
        Journal(path)
    assert path.read_bytes() == content


def test_journal_is_refused_when_its_place_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "journal.sqlite").mkdir()
    for path in (tmp_path / "file" / "journal.sqlite", tmp_path / "journal.sqlite"):
        with pytest.raises(JournalError, match=r"cannot be opened: "):
            Journal(path)


@pytest.mark.parametrize("statement", ["CREATE TABLE results (verdict TEXT)", "PRAGMA user_version = 1"])
def test_journal_is_refused_and_left_as_it_is_when_it_is_the_database_of_another_program(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    content = path.read_bytes()
    with pytest.raises(JournalError, match="cannot be opened: it is no journal: its "):
        Journal(path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["journal.sqlite"]


def test_journal_is_refused_by_number_when_a_newer_version_wrote_it(journal: Journal, path: Path) -> None:
    journal._connection.execute("PRAGMA user_version = 99")
    message = r"user_version: must be at most 1, got 99: a newer version of inspector wrote it"
    with pytest.raises(JournalError, match=f"cannot be opened: {message}"):
        Journal(path)
    with pytest.raises(JournalError, match=f"cannot be read: {message}"):
        read_results(path, "top", 1)
