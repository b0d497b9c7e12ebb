"""The journal keeps every verdict, all or none of a batch, and counts on from where it ended."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.sinks.journal import Journal, read_results
from inspector.types import Reason, Region, Result, Verdict

RESULT = Result(
    station="line1",
    boot_id="boot",
    seq=1,
    camera="top",
    frame_id="f1",
    part_id=None,
    trigger_id=None,
    verdict=Verdict.PASS,
    reason=Reason.OK,
    score=0.25,
    threshold=1.0,
    regions=(),
    captured_utc_ns=1,
    received_utc_ns=2,
    published_utc_ns=3,
    deadline_ms=2000,
)
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


def result(seq: int, **changes: Any) -> Result:
    return dataclasses.replace(RESULT, seq=seq, **changes)


def seqs(path: Path, camera: str = "top", from_seq: int = 1, **limit: int) -> list[int]:
    return [kept["seq"] for kept in read_results(path, camera, from_seq, **limit)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Below folders that are not there yet."""
    return tmp_path / "state" / "line1" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = Journal(path)
    yield made
    made.close()


def test_result_reads_back_as_it_went_to_the_wire_when_appended(journal: Journal, path: Path) -> None:
    kept = result(
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


def test_columns_can_be_searched_when_a_result_was_appended(journal: Journal, path: Path) -> None:
    journal.append([result(1), result(2, score=None, verdict=Verdict.ERROR, reason=Reason.DEADLINE, part_id="p")])
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT camera, seq, boot_id, frame_id, part_id, verdict, reason_code, score, published_utc_ns FROM results"
    ).fetchall()
    connection.close()
    assert rows == [
        ("top", 1, "boot", "f1", None, "PASS", 0, 0.25, 3),
        ("top", 2, "boot", "f1", "p", "ERROR", 11, None, 3),
    ]


def test_results_are_seen_by_another_reader_when_append_returns(journal: Journal, path: Path) -> None:
    for seq in (1, 2, 3):
        journal.append([result(seq)])
        assert seqs(path) == list(range(1, seq + 1))


def test_none_of_a_batch_is_kept_when_one_cannot_be_written(journal: Journal, path: Path) -> None:
    journal.append([result(1), result(2)])
    with pytest.raises(JournalError, match="cannot be written: UNIQUE constraint failed"):
        journal.append([result(3), result(2), result(4)])
    assert seqs(path) == [1, 2]
    journal.append([result(3), result(4)])
    assert seqs(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "change", [{"frame_id": "m\udcfcll.png"}, {"part_id": "\ud800"}, {"published_utc_ns": 2**63}], ids=str
)
def test_none_of_a_batch_is_kept_when_one_has_a_value_sqlite_cannot_hold(
    journal: Journal, path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append([result(1), result(2, **change), result(3)])
    assert seqs(path) == []
    journal.append([result(1)])  # the failed transaction is not still open
    assert seqs(path) == [1]


def test_append_fails_and_works_again_when_another_writer_holds_and_frees_the_file(
    journal: Journal, path: Path
) -> None:
    journal._connection.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="cannot be written: database is locked"):
        journal.append([result(1)])
    assert seqs(path) == []
    other.execute("ROLLBACK")
    other.close()
    journal.append([result(1)])
    assert seqs(path) == [1]


def test_append_fails_keeping_what_there_was_when_the_disk_is_full(journal: Journal, path: Path) -> None:
    journal.append([result(1)])
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        journal.append([result(2), result(3, message="x" * 100_000)])
    assert seqs(path) == [1]
    journal._connection.execute(f"PRAGMA max_page_count={pages + 100}")
    journal.append([result(2)])
    assert seqs(path) == [1, 2]


def test_nothing_changes_when_an_empty_batch_is_appended(journal: Journal, path: Path) -> None:
    journal.append([])
    assert journal.last_seqs() == {}
    assert seqs(path) == []


# ---------------------------------------------------------------- opening


def test_last_seqs_are_the_highest_of_each_camera_when_opened_again(path: Path) -> None:
    journal = Journal(path)
    assert journal.last_seqs() == {}
    journal.append([result(9), result(10), result(3, camera="side")])
    journal.append([result(2, camera="side")])
    assert journal.last_seqs() == {"top": 10, "side": 3}
    journal.close()
    again = Journal(path)
    assert again.last_seqs() == {"top": 10, "side": 3}
    again.append([result(11)])
    assert again.last_seqs() == {"top": 11, "side": 3}
    again.close()
    assert seqs(path) == [9, 10, 11]


def test_write_ahead_log_is_folded_in_when_closed(path: Path) -> None:
    journal = Journal(path)
    journal.append([result(1)])
    assert [row[0] for row in journal._connection.execute("PRAGMA journal_mode")] == ["wal"]
    assert [row[0] for row in journal._connection.execute("PRAGMA synchronous")] == [2]  # FULL
    journal.close()
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]
    assert seqs(path) == [1]


def test_committed_results_are_kept_and_open_ones_are_not_when_the_process_is_killed(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, check=False, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert seqs(path) == [1, 2, 3]
    journal = Journal(path)
    assert journal.last_seqs() == {"top": 3}
    journal.append([result(4)])
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


# ---------------------------------------------------------------- reading


def test_results_come_in_order_from_seq_on_when_read(journal: Journal, path: Path) -> None:
    journal.append([result(seq) for seq in (5, 3, 10, 4, 1)])
    journal.append([result(2, camera="side"), result(2)])
    assert seqs(path) == [1, 2, 3, 4, 5, 10]
    assert seqs(path, from_seq=4) == [4, 5, 10]
    assert seqs(path, from_seq=10) == [10]
    assert seqs(path, from_seq=11) == []
    assert seqs(path, camera="side") == [2]
    assert seqs(path, camera="TOP") == []


def test_results_are_the_first_ones_when_there_are_more_than_the_limit(journal: Journal, path: Path) -> None:
    journal.append([result(seq) for seq in range(1, 1004)])
    assert seqs(path, from_seq=2) == list(range(2, 1002))  # 1000 unless told
    assert seqs(path, from_seq=2, limit=3) == [2, 3, 4]
    assert seqs(path, from_seq=1003, limit=3) == [1003]
    assert seqs(path, limit=0) == []


def test_results_are_read_without_waiting_when_a_writer_is_in_the_middle(journal: Journal, path: Path) -> None:
    journal.append([result(1)])
    journal._connection.execute("BEGIN IMMEDIATE")
    journal._connection.execute("UPDATE results SET json = '{}'")
    assert seqs(path) == [1]
    journal._connection.execute("ROLLBACK")


@pytest.mark.parametrize("name", ["line #1", "50% off", "why?mode=rwc", "a&b", "schön"])
def test_results_are_read_when_the_path_has_odd_characters(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "journal.sqlite"
    journal = Journal(path)
    journal.append([result(1)])
    assert seqs(path) == [1]
    journal.close()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]  # reading made no file of another name


def test_results_are_read_when_the_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal(Path("state/journal.sqlite"))
    journal.append([result(1)])
    assert seqs(Path("state/journal.sqlite")) == [1]
    journal.close()


def test_reading_fails_and_makes_no_file_when_there_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with pytest.raises(JournalError, match=r"journal .*journal\.sqlite: cannot be read: unable to open"):
        read_results(path, "top", 1)
    assert not path.exists()


def test_reading_fails_when_the_file_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"verdicts, in words\n" * 500)
    with pytest.raises(JournalError, match="cannot be read: file is not a database"):
        read_results(path, "top", 1)
    path.write_bytes(b"")
    with pytest.raises(JournalError, match=r"cannot be read: it is no journal: it has no tables"):
        read_results(path, "top", 1)
