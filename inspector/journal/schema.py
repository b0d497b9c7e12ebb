"""The journal's file: tables, their versions, and the running hashes over results and events."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from inspector.errors import JournalError
from inspector.journal import taken

APPLICATION_ID = 0x494E534A
"""`INSJ` in the header of each file from version 1 on: another program's database is never taken for a journal."""

COLUMNS = (
    "n", "camera", "seq", "boot_id", "frame_id", "part_id", "verdict", "reason_code", "score", "published_utc_ns",
    "json", "amends",
)  # fmt: skip
"""Of `results`, in the order in which they are hashed; `hash` is the last one, after them."""

EVENT_COLUMNS = ("n", "at_utc_ns", "boot_id", "kind", "camera", "who", "outcome", "json")
"""Of `events`, in the order in which they are hashed; `hash` is the last one, after them."""

INSERT_RESULT = f"INSERT INTO results ({', '.join(COLUMNS)}, hash) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608
INSERT_EVENT = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}, hash) VALUES ({', '.join('?' * 9)})"  # noqa: S608
NOT_AMENDED = "NOT EXISTS (SELECT 1 FROM results AS later WHERE later.amends = results.n)"
"""Condition of the final rows: what was published."""

_GENESIS = bytes(32)
_LEGACY_COLUMNS = [name for name in COLUMNS if name not in ("n", "amends")]
_TABLES = (
    """CREATE TABLE results (
        n INTEGER PRIMARY KEY,
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
        amends INTEGER,
        hash BLOB NOT NULL
    )""",
    # NULLs are never equal to an index: as 0 they make one row without `amends` the most there is of a result.
    "CREATE UNIQUE INDEX results_by_seq ON results (camera, seq, ifnull(amends, 0))",
    "CREATE UNIQUE INDEX results_by_amended ON results (amends) WHERE amends IS NOT NULL",
    """CREATE TABLE open_frames (
        number INTEGER PRIMARY KEY,
        camera TEXT NOT NULL,
        frame_id TEXT NOT NULL,
        part_id TEXT,
        trigger_id TEXT,
        captured_utc_ns INTEGER NOT NULL,
        received_utc_ns INTEGER NOT NULL,
        deadline_ms INTEGER NOT NULL,
        simulated INTEGER NOT NULL
    )""",
    # Highest number that was pruned: what a camera counts on from when all of its results are too old.
    "CREATE TABLE pruned_seqs (camera TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    # anchor: the row before the first kept one; head: the last one.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, n INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID",
)
_EVENTS = """CREATE TABLE events (
    n INTEGER PRIMARY KEY,
    at_utc_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    camera TEXT,
    who TEXT NOT NULL,
    outcome TEXT NOT NULL,
    json TEXT NOT NULL,
    hash BLOB NOT NULL
)"""
_META_2 = ["anchor", "events_anchor", "events_head", "head"]
_META = (["anchor", "head"], _META_2, _META_2)
"""Rows of `meta` in each version, from 1 on."""


def compute_hash(previous: bytes, row: Sequence[Any]) -> bytes:
    """SHA-256 of the row before (its hash, 32 bytes) and this one (its columns, as a compact ASCII JSON array)."""
    return hashlib.sha256(previous + json.dumps(row, separators=(",", ":"), default=repr).encode("ascii")).digest()


def read_version(connection: sqlite3.Connection) -> int:
    """The file's version; 0 for a new file, and for one from before there were versions.

    Raises:
        JournalError: it is another program's file, or of a version to come.
    """
    version = int(_read_number(connection, "user_version"))
    if version == 0:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        if tables and not is_legacy(connection):
            raise JournalError(f"it is not a journal: its tables are {tables!r:.200}")
    elif _read_number(connection, "application_id") != APPLICATION_ID:
        raise JournalError("it is not a journal: its application_id belongs to another program")
    elif version > len(MIGRATIONS):
        raise JournalError(
            f"user_version: must be at most {len(MIGRATIONS)}, got {version}: a newer version of inspector wrote it;"
            " upgrade inspector on this machine"
        )
    elif (names := [name for (name,) in connection.execute("SELECT name FROM meta ORDER BY name")]) != (
        expected := _META[version - 1]
    ):
        raise JournalError(f"it is damaged: meta must have the rows {', '.join(expected)}, has {names!r:.200}")
    return version


def has_events(connection: sqlite3.Connection) -> bool:
    """Whether the file is of a version with events."""
    return _read_number(connection, "user_version") >= 2


def is_legacy(connection: sqlite3.Connection) -> bool:
    """Whether the file is of the one kind there was before versions: no running hash, nothing amended."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(results)")]
    return columns == _LEGACY_COLUMNS


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the present version, in one transaction.

    Raises:
        JournalError: it is no journal, or of a version to come.
    """
    if read_version(connection) == len(MIGRATIONS):
        return  # without waiting for a lock
    connection.execute("BEGIN IMMEDIATE")
    for migration in MIGRATIONS[read_version(connection) :]:  # another process may have been first
        migration(connection)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def _make_version_1(connection: sqlite3.Connection) -> None:
    legacy = is_legacy(connection)
    if legacy:
        connection.execute("ALTER TABLE results RENAME TO legacy_results")
    for statement in _TABLES:
        connection.execute(statement)
    head = (0, _GENESIS)
    connection.execute("INSERT INTO meta VALUES ('anchor', ?, ?)", head)
    if legacy:
        head = _copy_legacy(connection, head)
        connection.execute("DROP TABLE legacy_results")
    connection.execute("INSERT INTO meta VALUES ('head', ?, ?)", head)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _make_version_2(connection: sqlite3.Connection) -> None:
    connection.execute(_EVENTS)
    connection.executemany("INSERT INTO meta VALUES (?, 0, ?)", [(f"events_{n}", _GENESIS) for n in ("anchor", "head")])


def _make_version_3(connection: sqlite3.Connection) -> None:
    connection.execute(taken.TABLE)


def _copy_legacy(connection: sqlite3.Connection, head: tuple[int, bytes]) -> tuple[int, bytes]:
    """Number and chain all rows in the order in which they were published; the new head."""
    columns = ", ".join(_LEGACY_COLUMNS)
    rows = connection.execute(f"SELECT {columns} FROM legacy_results ORDER BY published_utc_ns, camera, seq")  # noqa: S608

    def chain(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        nonlocal head
        for row in rows:
            numbered = (head[0] + 1, *row, None)
            head = (head[0] + 1, compute_hash(head[1], numbered))
            yield (*numbered, head[1])

    connection.executemany(INSERT_RESULT, chain(rows))
    return head


def read_meta(connection: sqlite3.Connection, name: str) -> tuple[int, bytes]:
    """A row of `meta`: number and hash."""
    query = "SELECT n, CAST(hash AS BLOB) FROM meta WHERE name = ?"
    row: tuple[int, bytes] = connection.execute(query, (name,)).fetchone()
    return row


def write_meta(connection: sqlite3.Connection, name: str, row: tuple[int, bytes]) -> None:
    """Replace a row of `meta`."""
    connection.execute("UPDATE meta SET n = ?, hash = ? WHERE name = ?", (*row, name))


def _read_number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _make_version_1,
    _make_version_2,
    _make_version_3,
)
"""The one at index v brings a file from version v to v + 1. Never changed once released."""
