"""Whatever was done to the file behind the journal's back is found and named."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal.verification import CameraSeqs, verify
from inspector.journal.writer import Closing, Journal, OpenFrame
from inspector.types import Result

Make = Callable[..., Result]


@pytest.fixture
def written(make: Make, journal: Journal, path: Path) -> Path:
    """Rows 1 to 10: top 1 to 5, side 1 to 4, and one that amends top 5."""
    journal.append([make(seq) for seq in range(1, 6)])
    journal.append([make(seq, camera="side") for seq in range(1, 5)])
    journal.write(
        [OpenFrame(3, "top", "f", None, None, 1, 2, 3, False)],
        [Closing(None, make(5, message="late"), amends=True)],
    )
    return path


def tamper(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def test_all_is_counted_and_the_head_named_when_nothing_is_wrong(written: Path, journal: Journal) -> None:
    found = verify(written)
    assert found.faults == ()
    assert (found.rows, found.amendments, found.open_frames, found.head_n) == (10, 1, 1, 10)
    assert found.cameras == {"side": CameraSeqs(1, 4, 0), "top": CameraSeqs(1, 5, 0)}
    (head,) = journal._connection.execute("SELECT hash FROM results WHERE n = 10").fetchone()
    assert found.head_hash == head.hex()


def test_journal_without_results_is_whole(journal: Journal, path: Path) -> None:
    found = verify(path)
    assert (found.rows, found.head_n, found.head_hash, found.faults) == (0, 0, "00" * 32, ())


@pytest.mark.parametrize(
    ("script", "faults"),
    [
        ("UPDATE results SET json = replace(json, 'PASS', 'FAIL') WHERE n = 4", ["row 4 (top 4): altered, or in"]),
        ("UPDATE results SET verdict = 'FAIL' WHERE n = 7", ["row 7 (side 2): altered, or in"]),
        ("UPDATE results SET score = NULL WHERE n = 1", ["row 1 (top 1): altered, or in"]),
        ("UPDATE results SET amends = NULL, seq = 6 WHERE n = 10", ["row 10 (top 6): altered, or in"]),
        ("UPDATE results SET json = CAST(x'ff00' AS TEXT) WHERE n = 2", ["row 2 (top 2): altered, or in"]),
        ("UPDATE results SET json = x'00' WHERE n = 2", ["row 2 (top 2): altered, or in"]),
        ("UPDATE results SET hash = 'text' WHERE n = 2", ["row 2 (top 2): altered, or in"]),
        (
            "DELETE FROM results WHERE n IN (3, 4)",
            ["row 3: missing; the next one recorded is row 5 (top 5)", "camera top: 2 sequence number(s) missing"],
        ),
        ("DELETE FROM results WHERE n = 1", ["row 1: missing; the next one recorded is row 2"]),
        ("DELETE FROM results WHERE n > 8", ["row 9: missing, together with all rows up to the head, row 10"]),
        ("DELETE FROM results", ["row 1: missing, together with all rows up to the head, row 10"]),
        (
            "DELETE FROM results WHERE n > 8; UPDATE meta SET n = 8 WHERE name = 'head'",
            ["head: must have the hash of row 8"],
        ),
        (
            "UPDATE results SET n = 99 WHERE n = 6; UPDATE results SET n = 6 WHERE n = 7;"
            " UPDATE results SET n = 7 WHERE n = 99",
            ["row 6 (side 2): altered, or in the wrong place"],
        ),
        (
            "INSERT INTO results SELECT 11, camera, 6, boot_id, frame_id, part_id, verdict, reason_code, score,"
            " published_utc_ns, json, NULL, hash FROM results WHERE n = 5",
            ["row 11 (top 6): altered", "row 11: comes after the head, which is row 10"],
        ),
        ("UPDATE results SET n = 0 WHERE n = 1", ["row 0 (top 1): comes before the first one, which is 1"]),
        ("UPDATE meta SET hash = zeroblob(32) WHERE name = 'head'", ["head: must have the hash of row 10"]),
        ("UPDATE meta SET hash = x'00' WHERE name = 'anchor'", ["row 1 (top 1): altered"]),
        (
            "DROP INDEX results_by_seq; UPDATE results SET seq = 2 WHERE n = 3",
            [
                "row 3 (top 2): altered",
                "camera top: 1 sequence number(s) missing, the first is 3",
                "camera top: 1 result(s) with two unamended rows, the first is 2",
            ],
        ),
    ],
)
def test_fault_names_the_first_row_when_the_file_was_changed(written: Path, script: str, faults: list[str]) -> None:
    tamper(written, script)
    found = verify(written).faults
    assert len(found) == len(faults), found
    for said, expected in zip(found, faults, strict=True):
        assert said.startswith(expected)


def test_gap_is_a_fault_when_a_result_was_never_recorded(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(seq) for seq in (3, 4, 7, 9)])
    found = verify(path)
    assert found.faults == ("camera top: 3 sequence number(s) missing, the first is 5",)
    assert found.cameras == {"top": CameraSeqs(3, 9, 3)}
    journal.append([make(seq) for seq in (8, 6, 5)])  # recorded late
    assert verify(path).faults == ()


def test_rows_verify_when_their_values_are_ones_that_sqlite_changes(make: Make, journal: Journal, path: Path) -> None:
    scores = (math.nan, -0.0, 0.0, math.inf, -math.inf, 1, 2**53 + 1, 5e-324, 1e300, -1e18, 0.1, None)
    journal.append([make(seq, score=score) for seq, score in enumerate(scores, 1)])
    texts = ("", "a\0b", "“q”", "\r\n", "😀", "1", "1e5", "\x7f")
    journal.append([make(seq, frame_id=text, part_id=text, camera="side") for seq, text in enumerate(texts, 1)])
    found = verify(path)
    assert (found.rows, found.faults) == (len(scores) + len(texts), ())


def test_journal_verifies_as_of_its_start_when_the_daemon_writes_meanwhile(make: Make, written: Path) -> None:
    journal = Journal(written)
    numbers = iter(range(6, 1000))
    before = verify(written)

    def write_between(statement: str) -> None:
        if statement.startswith("SELECT"):
            journal.append([make(next(numbers))])

    connect = sqlite3.connect

    def connect_traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(write_between)
        return connection  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect_traced)
        found = verify(written)
    assert next(numbers) > 8  # it was written to
    assert found.faults == ()
    assert before.head_n < found.head_n < verify(written).head_n
    journal.close()


def test_verification_fails_in_words_when_the_file_is_damaged(written: Path, journal: Journal) -> None:
    journal.append([])
    journal.close()
    content = bytearray(written.read_bytes())
    (page_bytes,) = (int.from_bytes(content[16:18], "big"),)
    for page in range(2, len(content) // page_bytes):
        content[page * page_bytes : (page + 1) * page_bytes] = b"\xff" * page_bytes
    written.write_bytes(content)
    with pytest.raises(JournalError, match=r"cannot be read: .*malformed"):
        verify(written)
