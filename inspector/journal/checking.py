"""Whether a journal is sound, and the one that its station wrote last: looked at before it is opened for writing."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from inspector.errors import JournalError
from inspector.journal.mark import Mark, read_mark, write_mark
from inspector.journal.reader import connect_read_only
from inspector.journal.schema import has_events, read_meta, read_version

RESTORE = "see docs/operator/journal-restore.md"
_MAX_QUICK_BYTES = 256 * 1024**2
"""Larger files are not read as a whole: a second is enough for 600 MB in memory, or 100 MB on a slow disk."""
_LEAST_ROWS = 1000
_ROWS_PER_PAGE = 8
_PAGE_BYTES = 4096


def check_journal(path: Path, mark: Mark | None) -> None:
    """See that the file is whole, as far as a start has time for, and no older than its mark.

    A database that was put back beside the log of a later one is made of both: rows and pages between the two are
    missing. So the newest rows are read, more than the log may hold, and small files as a whole. Whether a row was
    altered is not asked: that stops no line, and `inspector journal verify` tells it.

    Args:
        path: of the database; that there is none is no fault.
        mark: what the station noted of it last.

    Raises:
        JournalError: what is wrong, and where to read on.
        sqlite3.Error, OSError: it cannot be read.
    """
    if not path.exists():
        return
    log_bytes = _measure_log(path)
    if path.stat().st_size == 0 and log_bytes:  # SQLite would delete the log
        raise JournalError(f"it is empty, but its log file is not; {RESTORE}")
    with closing(connect_read_only(path)) as connection:
        if read_version(connection) == 0:
            return  # begun anew; or from before there were hashes
        problem = _find_damage(connection, path.stat().st_size, log_bytes) or (mark and find_conflict(connection, mark))
    if problem:
        raise JournalError(f"{problem}; {RESTORE}")


def _measure_log(path: Path) -> int:
    with suppress(FileNotFoundError):
        return os.stat(f"{os.path.realpath(path)}-wal").st_size  # noqa: PTH116
    return 0


def _find_damage(connection: sqlite3.Connection, size: int, log_bytes: int) -> str | None:
    if size <= _MAX_QUICK_BYTES:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if "unable to get the page" in found:  # the disk's fault, and it may pass
            raise OSError(errno.EIO, found)
        if found != "ok":
            return f"it is damaged: {found.splitlines()[-1]}"
    count = max(_LEAST_ROWS, log_bytes // _PAGE_BYTES * _ROWS_PER_PAGE)
    problem = _find_gap(connection, "results", ("anchor", "head"), count)
    if problem is None and has_events(connection):
        problem = _find_gap(connection, "events", ("events_anchor", "events_head"), count)
    return problem and f"it is damaged: {problem}"


def _find_gap(connection: sqlite3.Connection, table: str, ends: tuple[str, str], count: int) -> str | None:
    """Whether rows are missing among the last `count` of a table."""
    (anchor, _), (head, head_hash) = (read_meta(connection, name) for name in ends)
    first = max(anchor, head - count) + 1
    # With what is in them: the longest reach into pages of their own.
    query = f"SELECT COUNT(*), SUM(LENGTH(json)) FROM {table} WHERE n >= ?"  # noqa: S608
    found, _ = connection.execute(query, (first,)).fetchone()
    if found != head - first + 1:
        return f"{table} {first} to {head} must be {head - first + 1} rows, found {found}"
    row = connection.execute(f"SELECT CAST(hash AS BLOB) FROM {table} WHERE n = ?", (head,)).fetchone()  # noqa: S608
    return (
        None
        if row in {None, (head_hash,)}
        else f"the last row of {table}, {head}, differs from the one that was written"
    )


def accept_journal(path: Path, who: str) -> tuple[int, int] | None:
    """Let the next start go on with a journal that is not the one its mark was made of. It must be sound.

    Returns:
        Its last row, and the one that the mark knew of; None where there is nothing to accept.

    Raises:
        JournalError: it is damaged, or the mark cannot be written.
        sqlite3.Error, OSError: it cannot be read.
    """
    check_journal(path, None)
    mark = read_mark(path)
    with closing(connect_read_only(path)) as connection:
        if mark is None or read_version(connection) == 0 or find_conflict(connection, mark) is None:
            return None
        head_n, head_hash = read_meta(connection, "head")
    write_mark(path, Mark(head_n, head_hash, mark.seqs, accepted_by=who))
    return head_n, mark.head_n


def find_conflict(connection: sqlite3.Connection, mark: Mark) -> str | None:
    """What shows that it is not the journal that the mark was made of, grown since."""
    head_n, head_hash = read_meta(connection, "head")
    if head_n == 0:
        return None  # the first was lost, and this one begun in its place
    if head_n < mark.head_n:
        return f"it is older than its mark: its last row is {head_n}, but {mark.head_n} had been recorded"
    row = connection.execute("SELECT CAST(hash AS BLOB) FROM results WHERE n = ?", (mark.head_n,)).fetchone()
    known = {head_n: head_hash} | dict([read_meta(connection, "anchor")])
    hash_ = row[0] if row else known.get(mark.head_n, mark.head_hash)  # pruned since
    if hash_ != mark.head_hash:
        return f"it is not the journal that its mark belongs to: row {mark.head_n} differs"
    return None
