"""A file of an earlier version is brought to the present one, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal import schema as journal_schema
from inspector.journal.reader import read_results, select_rows
from inspector.journal.verification import verify
from inspector.journal.writer import Journal
from inspector.types import Result

Make = Callable[..., Result]
LEGACY = """
CREATE TABLE results (
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    frame_id TEXT NOT NULL,
    part_id TEXT,
    verdict TEXT NOT NULL,
    reason_code INTEGER NOT NULL,
    score REAL,
    published_utc_ns INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (camera, seq)
) WITHOUT ROWID;
"""


@pytest.fixture
def legacy(make: Make, tmp_path: Path) -> Path:
    """A file as it was before versions: side 1, top 1, side 2, top 2, in the order of publishing."""
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(LEGACY)
    published = {("top", 1): 20, ("top", 2): 40, ("side", 1): 10, ("side", 2): 30}
    for (camera, seq), ns in published.items():
        r = make(seq, camera=camera, published_utc_ns=ns, score=None if seq == 2 else -0.25)
        connection.execute(
            "INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?)",
            (camera, seq, r.boot_id, r.frame_id, None, r.verdict.value, 0, r.score, ns, json.dumps(r.to_wire())),
        )
    connection.commit()
    connection.close()
    return path


def test_results_are_numbered_as_published_and_chained_when_a_legacy_file_is_opened(make: Make, legacy: Path) -> None:
    journal = Journal(legacy)
    assert journal.last_seqs() == {"side": 2, "top": 2}
    rows = [(row.n, row.wire["camera"], row.wire["seq"]) for row in select_rows(legacy)]
    assert rows == [(1, "side", 1), (2, "top", 1), (3, "side", 2), (4, "top", 2)]
    journal.append([make(3)])
    journal.close()
    found = verify(legacy)
    assert (found.rows, found.head_n, found.faults) == (5, 5, ())
    assert [kept["seq"] for kept in read_results(legacy, "top", 1)] == [1, 2, 3]


def test_legacy_file_stays_as_it_was_when_its_migration_fails(
    legacy: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def fail_at_third(previous: bytes, row: object) -> bytes:
        hashed.append(1)
        if len(hashed) == 3:
            raise sqlite3.OperationalError("disk I/O error")
        return bytes(32)

    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "compute_hash", fail_at_third)
        with pytest.raises(JournalError, match="cannot be opened: disk I/O error"):
            Journal(legacy)
    connection = sqlite3.connect(legacy)
    tables = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
    assert [name for name, _ in tables] == ["results"]
    assert connection.execute("SELECT COUNT(*) FROM results").fetchone() == (4,)
    connection.close()
    Journal(legacy).close()
    assert verify(legacy).faults == ()


def test_reading_says_what_to_do_when_the_file_was_not_migrated_yet(legacy: Path) -> None:
    with pytest.raises(JournalError, match="user_version: must be 1 to 3, got 0: start its station, which upgrades it"):
        verify(legacy)


def test_header_names_program_and_version_when_the_file_is_new(journal: Journal) -> None:
    def read(pragma: str) -> int:
        return int(journal._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    assert (read("application_id"), read("user_version"), read("auto_vacuum")) == (0x494E534A, 3, 2)


def test_final_rows_are_found_by_indexes_when_queried(journal: Journal) -> None:
    query = f"SELECT json FROM results WHERE camera = ? AND seq >= ? AND {journal_schema.NOT_AMENDED} ORDER BY seq"  # noqa: S608
    plan = " ".join(row[3] for row in journal._connection.execute(f"EXPLAIN QUERY PLAN {query}", ("top", 1)))
    assert "results USING INDEX results_by_seq (camera=? AND seq>?)" in plan
    assert "later USING COVERING INDEX results_by_amended (amends=?)" in plan
    assert "B-TREE" not in plan


def test_journal_is_refused_when_its_head_is_gone(journal: Journal, path: Path) -> None:
    journal._connection.execute("DELETE FROM meta WHERE name = 'head'")
    with pytest.raises(JournalError, match="it is damaged: meta must have the rows anchor, events_anchor"):
        Journal(path)
