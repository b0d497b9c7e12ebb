"""The journal: every verdict in SQLite (WAL) before it is published. Used by one thread.

Append-only: a row is never changed, only pruned when it is the oldest, and each carries a running hash over all before.
Beside the verdicts are events: who changed what they are made with.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from inspector.errors import JournalError
from inspector.sinks.journal_events import Event, append_events, prune_events, read_last_judged
from inspector.sinks.journal_reader import read_results
from inspector.sinks.journal_schema import INSERT_RESULT, compute_hash, migrate, read_version
from inspector.types import Result

__all__ = ["Closing", "Journal", "OpenFrame", "read_results"]

_BUSY_TIMEOUT_S = 0.5  # deadlines run while another process holds the file
_WAL_BYTES = 64 * 1024**2  # what a long read beside it made the log grow to is given back

# One step down the index per camera, where GROUP BY reads all of it.
_LAST_SEQS = """
WITH RECURSIVE cameras(camera) AS (
    SELECT MIN(camera) FROM results
    UNION ALL
    SELECT (SELECT MIN(camera) FROM results WHERE camera > cameras.camera) FROM cameras WHERE camera IS NOT NULL
)
SELECT camera, (SELECT MAX(seq) FROM results WHERE camera = cameras.camera) FROM cameras WHERE camera IS NOT NULL
"""
_FINAL = "SELECT n, json FROM results WHERE camera = ? AND seq = ? ORDER BY n DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """An accepted frame that owes its verdict: all that is needed to answer it after a restart.

    Attributes:
        number: unique among open frames.
    """

    number: int
    camera: str
    frame_id: str
    part_id: str | None
    trigger_id: str | None
    captured_utc_ns: int
    received_utc_ns: int
    deadline_ms: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Closing:
    """The verdict on a frame.

    Attributes:
        number: of the open frame it closes; None where it was never on record as open.
        amends: this camera and seq are on record already, and this is what was published instead.
    """

    number: int | None
    result: Result
    amends: bool = False


class Journal:
    """Appends results; `seq` goes on from where the last run ended, so that a gap is always a loss."""

    def __init__(self, path: Path) -> None:
        """Open or make it; a file of an earlier version is brought to the present one.

        Raises:
            JournalError: the file cannot be made, is no journal, or a later version of this program wrote it.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(path)
        except (OSError, sqlite3.Error, JournalError) as error:
            raise JournalError(f"journal {path}: cannot be opened: {error}") from error

    def last_seqs(self) -> dict[str, int]:
        """The last sequence number of each camera, pruned results included.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._reading():
            pruned = dict(self._connection.execute("SELECT camera, seq FROM pruned_seqs"))
            kept = dict(self._connection.execute(_LAST_SEQS))
        return {camera: max(kept.get(camera, 0), pruned.get(camera, 0)) for camera in (*pruned, *kept)}

    def last_results(self) -> dict[str, dict[str, Any]]:
        """What was published last of each camera that has results on record: the highest seq, as on the wire.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._reading():
            lasts = self._connection.execute(_LAST_SEQS).fetchall()
            finals = {camera: self._connection.execute(_FINAL, (camera, seq)).fetchone() for camera, seq in lasts}
            return {camera: json.loads(text) for camera, (_, text) in finals.items()}

    def open_frames(self) -> list[OpenFrame]:
        """Frames whose verdict is not on record, by number.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._reading():
            rows = self._connection.execute("SELECT * FROM open_frames ORDER BY number").fetchall()
        return [replace(OpenFrame(*row), simulated=bool(row[-1])) for row in rows]

    def last_judged(self) -> dict[str, dict[str, Any] | None]:
        """What each camera was judged with last according to the events: `new` of its last switch, None: nothing.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._reading():
            return read_last_judged(self._connection)

    def write(self, opened: Sequence[OpenFrame], closings: Sequence[Closing], events: Sequence[Event] = ()) -> None:
        """Put frames accepted, verdicts and events on record in one transaction; on return they are durable.

        A frame opened and closed in the same write is never stored as open; an amending closing of what is not on
        record is stored as a plain one.

        Raises:
            JournalError: none of it was written.
        """
        if not opened and not closings and not events:
            return
        closed = {closing.number for closing in closings if closing.number is not None}
        still_open = [astuple(frame) for frame in opened if frame.number not in closed]
        stored = closed.difference(frame.number for frame in opened)
        with self._transaction():
            execute_many = self._connection.executemany
            execute_many("INSERT INTO open_frames VALUES (?,?,?,?,?,?,?,?,?)", still_open)
            execute_many("DELETE FROM open_frames WHERE number = ?", [(number,) for number in stored])
            if closings:
                rows = self._chain(closings)
                execute_many(INSERT_RESULT, rows)
                self._write_meta("head", (rows[-1][0], rows[-1][-1]))
            append_events(self._connection, events)

    def append(self, results: Sequence[Result]) -> None:
        """Put verdicts on record that close no frame on record.

        Raises:
            JournalError: none of them was written.
        """
        self.write((), [Closing(None, result) for result in results])

    def prune(self, *, before_utc_ns: int | None, max_bytes: int | None, limit: int = 5000) -> int:
        """Delete the oldest results: those published before an instant, and what makes the file too large.

        Oldest is what was written first: a row stamped later than `before_utc_ns` keeps all rows after it, whatever
        their clock said, until the file is too large.

        Args:
            before_utc_ns: results published before it go; None: age does not count.
            max_bytes: of the file without its free pages and log; None: size does not count.
            limit: most rows to delete in this call, and most pages to give back to the file system.

        Returns:
            How many rows went; `limit` where more may be due.

        Raises:
            JournalError: nothing was deleted.
        """
        with self._transaction():
            (anchor, _), (head, _) = self._read_meta("anchor"), self._read_meta("head")
            rows = head - anchor
            older = self._count_older(anchor, before_utc_ns, limit)
            count = min(max(older, self._count_excess(rows, max_bytes)), rows, limit)
            if count > 0:
                self._delete_until(anchor + count)
            prune_events(self._connection, limit)
        if count > 0:
            self._shrink(limit)
        return count

    def close(self) -> None:
        """Close it; the WAL is folded into the file."""
        self._connection.close()

    def _chain(self, closings: Sequence[Closing]) -> list[tuple[Any, ...]]:
        """The rows of `results` that follow the head, each with its hash."""
        n, hash_ = self._read_meta("head")
        written: dict[tuple[str, int], int] = {}  # in this batch
        rows = []
        for closing in closings:
            n += 1
            key = (closing.result.camera, closing.result.seq)
            amended = (written.get(key) or self._find_final(*key)) if closing.amends else None
            row = (n, *_columns(closing.result), amended)
            hash_ = compute_hash(hash_, row)
            rows.append((*row, hash_))
            written[key] = n
        return rows

    def _find_final(self, camera: str, seq: int) -> int | None:
        """Number of the last row on a result."""
        found = self._connection.execute(_FINAL, (camera, seq)).fetchone()
        return None if found is None else int(found[0])

    def _count_older(self, anchor: int, before_utc_ns: int | None, limit: int) -> int:
        if before_utc_ns is None:
            return 0
        query = "SELECT n FROM results WHERE n > ? AND n <= ? AND published_utc_ns >= ? ORDER BY n LIMIT 1"
        first_kept = self._connection.execute(query, (anchor, anchor + limit, before_utc_ns)).fetchone()
        return limit if first_kept is None else int(first_kept[0]) - anchor - 1

    def _count_excess(self, rows: int, max_bytes: int | None) -> int:
        """How many of all rows, each of average size, take what is too much."""
        if max_bytes is None or rows == 0:
            return 0
        pages, free, page_bytes = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        used: int = (pages - free) * page_bytes
        return math.ceil((used - max_bytes) * rows / used)

    def _delete_until(self, n: int) -> None:
        row = self._connection.execute("SELECT hash FROM results WHERE n = ?", (n,)).fetchone()
        if row is None:
            raise sqlite3.DataError(f"row {n} of results is missing")
        (hash_,) = row
        self._connection.execute(
            "INSERT INTO pruned_seqs SELECT camera, MAX(seq) FROM results WHERE n <= ? GROUP BY camera"
            " ON CONFLICT (camera) DO UPDATE SET seq = MAX(seq, excluded.seq)",
            (n,),
        )
        self._connection.execute("DELETE FROM results WHERE n <= ?", (n,))
        self._write_meta("anchor", (n, hash_))

    def _shrink(self, pages: int) -> None:
        """Give free pages back to the file system, where the file was made for it (from version 1 on)."""
        with suppress(sqlite3.Error):  # the rows are gone; the pages go with the next call
            # Not `execute`: it ends after the first page, as the pragma has rows without columns.
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")

    def _read_meta(self, name: str) -> tuple[int, bytes]:
        row: tuple[int, bytes] = self._connection.execute("SELECT n, hash FROM meta WHERE name = ?", (name,)).fetchone()
        return row

    def _write_meta(self, name: str, row: tuple[int, bytes]) -> None:
        self._connection.execute("UPDATE meta SET n = ?, hash = ? WHERE name = ?", (*row, name))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(f"journal {self._path}: cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as error:  # text that is not UTF-8, numbers beyond 64 bits
            raise JournalError(f"journal {self._path}: cannot be written: {error}") from error
        finally:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")


def _columns(r: Result) -> tuple[Any, ...]:
    """A row without `n`, `amends` and `hash`, its values as SQLite gives them back: NaN is NULL there, -0.0 is 0.0."""
    score = None if r.score is None or math.isnan(r.score) else r.score + 0.0
    return (r.camera, r.seq, r.boot_id, r.frame_id, r.part_id, r.verdict.value, int(r.reason), score,
            r.published_utc_ns, json.dumps(r.to_wire()))  # fmt: skip


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S)
    try:
        read_version(connection)  # before anything is changed: another program's file stays as it is
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # heard only while there is no table
        # WAL with FULL: one fsync per commit; what was committed survives a kill and a power cut.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        migrate(connection)
    except (sqlite3.Error, JournalError):
        connection.close()
        raise
    return connection
