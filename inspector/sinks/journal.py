"""The journal: every verdict in SQLite (WAL) before it is published. Used by one thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspector.errors import JournalError
from inspector.types import Result

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
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


class Journal:
    """Appends results; `seq` goes on from where the last run ended, so that a gap is always a loss."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            JournalError: the file cannot be made or is no journal.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"journal {path}: cannot be opened: {error}") from error

    def last_seqs(self) -> dict[str, int]:
        """The last sequence number of each camera.

        Raises:
            JournalError: the journal cannot be read.
        """
        try:
            rows = self._connection.execute("SELECT camera, MAX(seq) FROM results GROUP BY camera")
            return {camera: int(seq) for camera, seq in rows}
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path}: cannot be read: {error}") from error

    def append(self, results: Sequence[Result]) -> None:
        """Write results in one transaction; on return they are durable.

        Raises:
            JournalError: none of them was written.
        """
        rows = [
            (r.camera, r.seq, r.boot_id, r.frame_id, r.part_id, r.verdict.value, int(r.reason), r.score,
             r.published_utc_ns, json.dumps(r.to_wire()))
            for r in results
        ]  # fmt: skip
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as error:  # text that is not UTF-8, numbers beyond 64 bits
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise JournalError(f"journal {self._path}: cannot be written: {error}") from error

    def close(self) -> None:
        """Close it; the WAL is folded into the file."""
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # WAL with FULL: one fsync per commit; what was committed survives a kill and a power cut.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def read_results(path: Path, camera: str, from_seq: int, limit: int = 1000) -> list[dict[str, Any]]:
    """Results of one camera from `from_seq` on, in order, at most `limit`, from a connection of its own.

    Raises:
        JournalError: the journal cannot be read.
    """
    query = "SELECT json FROM results WHERE camera = ? AND seq >= ? ORDER BY seq LIMIT ?"
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [json.loads(row[0]) for row in connection.execute(query, (camera, from_seq, limit))]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise JournalError(f"journal {path}: cannot be read: {error}") from error
