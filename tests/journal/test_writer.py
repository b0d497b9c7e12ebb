"""The journal keeps every verdict, all or none of a batch, and counts on from where it ended."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.journal.reader import select_rows
from inspector.journal.verification import verify
from inspector.journal.writer import Closing, Journal, OpenFrame, read_results
from inspector.types import Reason, Region, Result, Verdict, Web

Make = Callable[..., Result]
WRITER = """
import sys, time
from pathlib import Path
from inspector.journal.writer import Closing, Journal, OpenFrame
from inspector.types import Reason, Result, Verdict
journal = Journal(Path(sys.argv[1]))
seq = journal.last_seqs().get("top", 0)
while True:
    count = 1 + seq % 7
    numbers = range(seq + 1, seq + count + 1)
    journal.write([OpenFrame(n, "top", f"f{n}", None, None, 1, 2, 3, False) for n in numbers if n % 2], [])
    journal.write([], [Closing(n, Result("line1", "boot", n, "top", f"f{n}", None, None, Verdict.PASS, Reason.OK,
                       0.25, 1.0, (), 1, 2, time.time_ns(), 2000)) for n in numbers])
    seq += count
    print(seq, flush=True)
    if seq % 5 == 0:
        journal.prune(before_utc_ns=None, max_bytes=200_000)
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
        regions=(Region((1, 2, 30, 40), 2.5, 17, web_y=(102, 140), web_mm=(1.02, 1.4), defect=700),),
        web=Web(3, (100, 200), (120, 200), encoder_value=-7, line_pitch_um=10.0),
        latency_ms={"total": 12.5},
        message="said “no”",
    )
    journal.append([kept])
    (read,) = read_results(path, "top", 1)
    assert read == json.loads(json.dumps(kept.to_wire()))
    assert read["frame_id"] == "schön/№ 7"
    assert (read["verdict"], read["reason"], read["reason_code"], read["margin"]) == ("FAIL", "DEFECT", 1, 1.5)
    assert read["regions"] == [
        {"xyxy": [1, 2, 30, 40], "peak": 2.5, "area": 17, "web_y": [102, 140], "web_mm": [1.02, 1.4], "defect": 700}
    ]
    assert read["web"] == {
        "run": 3, "y": [100, 200], "owned": [120, 200], "encoder_value": -7, "line_pitch_um": 10.0,
    }  # fmt: skip


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


# ---------------------------------------------------------------- open frames and amendments


def open_frame(number: int, **changes: Any) -> OpenFrame:
    return dataclasses.replace(OpenFrame(number, "top", f"f{number}", "p1", None, 11, 12, 2000, False), **changes)


def test_open_frames_come_back_whole_by_number_when_opened_again(path: Path) -> None:
    frames = [open_frame(2**62, trigger_id="t", part_id=None, simulated=True), open_frame(7)]
    journal = Journal(path)
    journal.write(frames, [])
    journal.close()
    again = Journal(path)
    assert again.open_frames() == [open_frame(7), frames[0]]
    assert again.open_frames()[1].simulated is True
    again.close()


def test_frames_are_open_no_more_when_their_verdicts_are_written(make: Make, journal: Journal, path: Path) -> None:
    journal.write([open_frame(1), open_frame(2), open_frame(3)], [])
    journal.write([], [Closing(2, make(1)), Closing(99, make(2)), Closing(None, make(3))])  # 99 was never on record
    assert journal.open_frames() == [open_frame(1), open_frame(3)]
    journal.write([open_frame(4)], [Closing(1, make(4)), Closing(3, make(5))])
    assert journal.open_frames() == [open_frame(4)]
    assert seqs(path) == [1, 2, 3, 4, 5]


def test_frame_on_record_that_comes_again_under_its_number_takes_the_former_ones_place(
    make: Make, journal: Journal
) -> None:
    """A trigger, then its frame: with its closing or before it."""
    for with_closing in (True, False):
        journal.write([open_frame(1)], [])
        frame = dataclasses.replace(open_frame(1), frame_id="came")
        journal.write([frame], [Closing(1, make(1))] if with_closing else [])
        assert journal.open_frames() == ([] if with_closing else [frame])


def test_frame_is_never_stored_as_open_when_it_closes_in_the_same_write(make: Make, journal: Journal) -> None:
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    journal.write([open_frame(1)], [Closing(1, make(1))])
    assert journal.open_frames() == []
    assert not [text for text in statements if text.startswith("INSERT OR REPLACE INTO open_frames")]


def test_nothing_is_written_when_one_frame_cannot_be_opened(make: Make, journal: Journal, path: Path) -> None:
    journal.write([open_frame(1)], [])
    for frame in (open_frame(2, frame_id="\udcfc"), open_frame(2, captured_utc_ns=2**63)):
        with pytest.raises(JournalError, match="cannot be written"):
            journal.write([frame], [Closing(1, make(1))])
    assert journal.open_frames() == [open_frame(1)]
    assert seqs(path) == []


def test_result_is_what_was_published_instead_when_amended(make: Make, journal: Journal, path: Path) -> None:
    journal.write([], [Closing(None, make(1)), Closing(None, make(2)), Closing(None, make(1, camera="side"))])
    late = make(1, verdict=Verdict.ERROR, reason=Reason.DEADLINE)
    journal.write([], [Closing(None, late, amends=True)])
    assert [kept["verdict"] for kept in read_results(path, "top", 1)] == ["ERROR", "PASS"]
    journal.write([], [Closing(None, make(1, message="again"), amends=True)])
    assert [kept["message"] for kept in read_results(path, "top", 1)] == ["again", None]
    rows = journal._connection.execute("SELECT n, camera, seq, verdict, amends FROM results ORDER BY n").fetchall()
    assert rows == [
        (1, "top", 1, "PASS", None), (2, "top", 2, "PASS", None), (3, "side", 1, "PASS", None),
        (4, "top", 1, "ERROR", 1), (5, "top", 1, "PASS", 4),
    ]  # fmt: skip


def test_amendment_follows_its_row_when_both_come_in_one_write(make: Make, journal: Journal, path: Path) -> None:
    journal.write([open_frame(1)], [Closing(None, make(1)), Closing(1, make(1, message="late"), amends=True)])
    assert journal._connection.execute("SELECT n, amends FROM results").fetchall() == [(1, None), (2, 1)]
    assert [kept["message"] for kept in read_results(path, "top", 1)] == ["late"]


def test_amendment_is_a_plain_row_when_there_is_none_to_amend(make: Make, journal: Journal, path: Path) -> None:
    journal.write([], [Closing(None, make(1), amends=True)])
    assert journal._connection.execute("SELECT n, amends FROM results").fetchall() == [(1, None)]
    with pytest.raises(JournalError, match="UNIQUE constraint failed"):
        journal.write([], [Closing(None, make(1))])
    assert seqs(path) == [1]


def test_last_results_are_final_ones_of_the_highest_seq_when_amended(make: Make, journal: Journal) -> None:
    assert journal.last_results() == {}
    journal.append([make(9), make(10), make(8), make(3, camera="side")])
    late = make(10, verdict=Verdict.ERROR, reason=Reason.DEADLINE, message="late")
    journal.write([], [Closing(None, late, amends=True), Closing(None, make(9, message="x"), amends=True)])
    expected = {"top": late, "side": make(3, camera="side")}
    assert journal.last_results() == {
        camera: json.loads(json.dumps(last.to_wire())) for camera, last in expected.items()
    }


def test_write_gives_up_within_the_deadline_when_another_process_holds_the_file(make: Make, journal: Journal) -> None:
    other = sqlite3.connect(journal._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(JournalError, match="database is locked"):
        journal.append([make(1)])
    assert time.monotonic() - started < 1.5
    other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_journal_stays_usable_when_its_disk_is_full(make: Make, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode()}")
    try:
        journal = Journal(disk / "journal.sqlite")
        journal.append([make(1)])
        (disk / "ballast").write_bytes(bytes(1 << 20))
        kept = _fill(make, journal)
        assert kept > 10
        (disk / "ballast").unlink()
        journal.append([make(kept + 1)])
        assert journal.last_seqs() == {"top": kept + 1}
        journal.close()
        assert verify(disk / "journal.sqlite").faults == ()
        assert seqs(disk / "journal.sqlite") == list(range(1, kept + 2))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _fill(make: Make, journal: Journal) -> int:
    """The last seq that fitted."""
    for seq in range(2, 10_000):
        try:
            journal.append([make(seq, message="x" * 1000)])
        except JournalError as error:
            assert "disk is full" in str(error)  # noqa: PT017
            return seq - 1
    raise AssertionError("the disk never was full")


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


def test_all_that_was_durable_is_there_and_whole_when_the_process_is_killed_ten_times(path: Path) -> None:
    chance = random.Random(7)
    durable = 0
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # started
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
            printed = writer.stdout.read().split()
            durable = int(printed[-1]) if printed else durable
        found = verify(path)
        assert found.faults == ()
        journal = Journal(path)
        last = journal.last_seqs()["top"]
        assert last >= durable
        for frame in journal.open_frames():
            assert (frame.number, frame.frame_id) == (frame.number, f"f{frame.number}")
            assert frame.number > last
            journal._connection.execute("DELETE FROM open_frames")
        journal.close()
        kept = [row.wire for row in select_rows(path)]
        lowest = found.cameras["top"].lowest
        assert [(wire["seq"], wire["frame_id"]) for wire in kept] == [
            (seq, f"f{seq}") for seq in range(lowest, last + 1)
        ]
    assert durable > 20


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
    with pytest.raises(JournalError, match="cannot be opened: it is not a journal: its "):
        Journal(path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["journal.sqlite"]


def test_journal_is_refused_by_number_when_a_newer_version_wrote_it(journal: Journal, path: Path) -> None:
    journal._connection.execute("PRAGMA user_version = 99")
    message = r"user_version: must be at most 3, got 99: a newer version of inspector wrote it; upgrade"
    with pytest.raises(JournalError, match=f"cannot be opened: {message}"):
        Journal(path)
    with pytest.raises(JournalError, match=f"cannot be read: {message}"):
        read_results(path, "top", 1)
