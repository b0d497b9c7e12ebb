"""Results are read beside the writer: final ones, in order, from a connection that changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.journal.reader import Selection, read_results, select_rows
from inspector.journal.writer import Closing, Journal
from inspector.types import Reason, Result, Verdict

Make = Callable[..., Result]


def seqs(path: Path, camera: str = "top", from_seq: int = 1, **limit: int) -> list[int]:
    return [kept["seq"] for kept in read_results(path, camera, from_seq, **limit)]


def test_results_come_in_order_from_seq_on_when_read(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(seq) for seq in (5, 3, 10, 4, 1)])
    journal.append([make(2, camera="side"), make(2)])
    assert seqs(path) == [1, 2, 3, 4, 5, 10]
    assert seqs(path, from_seq=4) == [4, 5, 10]
    assert seqs(path, from_seq=10) == [10]
    assert seqs(path, from_seq=11) == []
    assert seqs(path, camera="side") == [2]
    assert seqs(path, camera="TOP") == []


def test_results_are_the_first_ones_when_there_are_more_than_the_limit(
    make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(seq) for seq in range(1, 1004)])
    assert seqs(path, from_seq=2) == list(range(2, 1002))  # 1000 unless told
    assert seqs(path, from_seq=2, limit=3) == [2, 3, 4]
    assert seqs(path, from_seq=1003, limit=3) == [1003]
    assert seqs(path, limit=0) == []


def test_results_are_read_without_waiting_when_a_writer_is_in_the_middle(
    make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(1)])
    journal._connection.execute("BEGIN IMMEDIATE")
    journal._connection.execute("UPDATE results SET json = '{}'")
    assert seqs(path) == [1]
    journal._connection.execute("ROLLBACK")


@pytest.mark.parametrize("name", ["line #1", "50% off", "why?mode=rwc", "a&b", "schön"])
def test_results_are_read_when_the_path_has_odd_characters(make: Make, tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "journal.sqlite"
    journal = Journal(path)
    journal.append([make(1)])
    assert seqs(path) == [1]
    journal.close()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]  # reading made no file of another name


def test_results_are_read_when_the_path_is_relative(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal(Path("state/journal.sqlite"))
    journal.append([make(1)])
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
    with pytest.raises(JournalError, match=r"cannot be read: it is not a journal: it has no tables"):
        read_results(path, "top", 1)


# ---------------------------------------------------------------- selecting


def chosen(path: Path, **rules: Any) -> list[int]:
    return [row.n for row in select_rows(path, Selection(**rules))]


def test_rows_are_those_that_every_rule_fits_when_selected(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1, published_utc_ns=10), make(2, published_utc_ns=20, part_id="p'; --", frame_id="f2")])
    fail = {"verdict": Verdict.FAIL, "reason": Reason.DEFECT}
    journal.append([make(1, camera="side", published_utc_ns=30, **fail), make(3, published_utc_ns=40, **fail)])
    assert chosen(path) == [1, 2, 3, 4]
    assert chosen(path, camera="top") == [1, 2, 4]
    assert chosen(path, verdict="FAIL") == [3, 4]
    assert chosen(path, verdict="FAIL", camera="side") == [3]
    assert chosen(path, reason_code=0) == [1, 2]
    assert chosen(path, part_id="p'; --") == [2]
    assert chosen(path, frame_id="f2") == [2]
    assert chosen(path, since_utc_ns=20, until_utc_ns=40) == [2, 3]
    assert chosen(path, camera="none") == []


def test_amended_rows_are_left_out_unless_they_are_asked_for(make: Make, journal: Journal, path: Path) -> None:
    journal.write([], [Closing(None, make(1)), Closing(None, make(2))])
    journal.write([], [Closing(None, make(1, message="late"), amends=True)])
    assert [(row.n, row.amends, row.wire["message"]) for row in select_rows(path)] == [(2, None, None), (3, 1, "late")]
    assert [(row.n, row.amends) for row in select_rows(path, with_amended=True)] == [(1, None), (2, None), (3, 1)]
    assert [row.n for row in select_rows(path, newest_first=True, limit=1)] == [3]
    assert chosen(path, camera="top", verdict="PASS") == [2, 3]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a read-only disk")
def test_rows_are_read_when_an_archived_copy_is_on_a_read_only_disk(make: Make, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a disk: {mounted.stderr.decode()}")
    try:
        journal = Journal(disk / "journal.sqlite")
        journal.append([make(1)])
        shutil.copytree(disk, disk / "taken while running")  # with its log, which holds more than the file
        shutil.copytree(disk, disk / "without index", ignore=lambda *_: ["journal.sqlite-shm"])
        journal.close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert [row.n for row in select_rows(disk / "journal.sqlite")] == [1]
        assert [row.n for row in select_rows(disk / "taken while running" / "journal.sqlite")] == [1]
        with pytest.raises(JournalError, match="unable to open"):
            list(select_rows(disk / "without index" / "journal.sqlite"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
