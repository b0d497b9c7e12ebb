"""Deleting the oldest results, within the writer's transaction."""

from __future__ import annotations

import math
import sqlite3
from contextlib import suppress

from inspector.journal.schema import read_meta, write_meta


def count_prunable(
    connection: sqlite3.Connection,
    before_utc_ns: int | None,
    older_limit: int | None,
    max_bytes: int | None,
    limit: int,
) -> int:
    """How many of the oldest rows are to go now, at most `limit`; see `Journal.prune`."""
    anchor, _ = read_meta(connection, "anchor")
    head, _ = read_meta(connection, "head")
    rows = head - anchor
    older = _count_older(connection, anchor, before_utc_ns, limit)
    if older_limit is not None:
        older = min(older, older_limit)
    return min(max(older, _count_excess(connection, rows, max_bytes)), rows, limit)


def delete_oldest(connection: sqlite3.Connection, count: int) -> None:
    """Take that many rows away; the running hash then begins at the last of them."""
    n = read_meta(connection, "anchor")[0] + count
    row = connection.execute("SELECT hash FROM results WHERE n = ?", (n,)).fetchone()
    if row is None:
        raise sqlite3.DataError(f"row {n} of results is missing")
    connection.execute(
        "INSERT INTO pruned_seqs SELECT camera, MAX(seq) FROM results WHERE n <= ? GROUP BY camera"
        " ON CONFLICT (camera) DO UPDATE SET seq = MAX(seq, excluded.seq)",
        (n,),
    )
    connection.execute("DELETE FROM results WHERE n <= ?", (n,))
    write_meta(connection, "anchor", (n, row[0]))


def shrink(connection: sqlite3.Connection, pages: int) -> None:
    """Give free pages back to the file system, where the file was made for it (from version 1 on)."""
    with suppress(sqlite3.Error):  # the rows are gone; the pages go with the next call
        # Not `execute`: it ends after the first page, as the pragma has rows without columns.
        connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _count_older(connection: sqlite3.Connection, anchor: int, before_utc_ns: int | None, limit: int) -> int:
    if before_utc_ns is None:
        return 0
    query = "SELECT n FROM results WHERE n > ? AND n <= ? AND published_utc_ns >= ? ORDER BY n LIMIT 1"
    first_kept = connection.execute(query, (anchor, anchor + limit, before_utc_ns)).fetchone()
    return limit if first_kept is None else int(first_kept[0]) - anchor - 1


def _count_excess(connection: sqlite3.Connection, rows: int, max_bytes: int | None) -> int:
    """How many of all rows, each of average size, take what is too much."""
    if max_bytes is None or rows == 0:
        return 0
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    used: int = (pages - free) * page_bytes
    return math.ceil((used - max_bytes) * rows / used)
