"""Reading the journal from a connection of its own, beside the thread that writes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from inspector.errors import JournalError
from inspector.journal.schema import MIGRATIONS, NOT_AMENDED, is_legacy, read_version


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results; None: any. `since_utc_ns` is the first instant of publishing, `until_utc_ns` the one after."""

    camera: str | None = None
    verdict: str | None = None
    reason_code: int | None = None
    part_id: str | None = None
    frame_id: str | None = None
    since_utc_ns: int | None = None
    until_utc_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `results`: its number, the row it amends, if any, and the result as on the wire."""

    n: int
    amends: int | None
    json: str
    wire: dict[str, Any]


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Read-only; where its folder cannot be written and no log is there (an archived copy), without locks."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return connection


@contextmanager
def open_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection, closed at the end. Archived copies of version 1, which have no events, are read as well.

    Raises:
        JournalError: the file cannot be read, is no journal, or is older or newer than what can be read.
    """
    connection = None
    try:
        connection = connect_read_only(path)
        version = read_version(connection)
        if version == 0 and not is_legacy(connection):
            raise JournalError("it is not a journal: it has no tables")
        if version == 0:
            raise JournalError(
                f"user_version: must be 1 to {len(MIGRATIONS)}, got 0: start its station, which upgrades it"
            )
        yield connection
    except (OSError, sqlite3.Error, ValueError, OverflowError, JournalError) as error:
        raise JournalError(f"journal {path}: cannot be read: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def read_journal_version(path: Path) -> int:
    """The file's version; one below `len(MIGRATIONS)` is migrated at the next start.

    Raises:
        JournalError: the file cannot be read, is no journal, or a newer version of this program wrote it.
    """
    connection = None
    try:
        connection = connect_read_only(path)
        return read_version(connection)
    except (OSError, sqlite3.Error, JournalError) as error:
        raise JournalError(f"journal {path}: cannot be read: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def read_results(path: Path, camera: str, from_seq: int, limit: int = 1000) -> list[dict[str, Any]]:
    """Results of one camera as published, from `from_seq` on, in order, at most `limit`.

    Raises:
        JournalError: the journal cannot be read.
    """
    query = f"SELECT json FROM results WHERE camera = ? AND seq >= ? AND {NOT_AMENDED} ORDER BY seq LIMIT ?"  # noqa: S608
    with open_reader(path) as connection:
        return [json.loads(row[0]) for row in connection.execute(query, (camera, from_seq, limit))]


def read_last_frame_ids(path: Path, camera: str, since_utc_ns: int, limit: int) -> list[str]:
    """The frames of the last results of one camera that were published since then, the oldest first.

    Raises:
        JournalError: the journal cannot be read.
    """
    return [frame_id for (frame_id,) in _read_last(path, "frame_id", camera, since_utc_ns, limit)]


def read_last_triggers(path: Path, camera: str, since_utc_ns: int, limit: int) -> list[tuple[str, int]]:
    """Triggers of the last results of one camera that were published since then, and the reasons, the oldest first.

    Raises:
        JournalError: the journal cannot be read.
    """
    rows = _read_last(path, "json_extract(json, '$.trigger_id'), reason_code", camera, since_utc_ns, limit)
    return [(trigger_id, reason) for trigger_id, reason in rows if trigger_id is not None]


def _read_last(path: Path, what: str, camera: str, since_utc_ns: int, limit: int) -> list[tuple[Any, ...]]:
    query = f"SELECT {what} FROM results WHERE camera = ? AND published_utc_ns >= ? AND {NOT_AMENDED}"  # noqa: S608
    with open_reader(path) as connection:
        rows = connection.execute(f"{query} ORDER BY seq DESC LIMIT ?", (camera, since_utc_ns, limit)).fetchall()
    return rows[::-1]


def select_rows(
    path: Path,
    selection: Selection | None = None,
    *,
    with_amended: bool = False,
    newest_first: bool = False,
    limit: int | None = None,
) -> Iterator[Row]:
    """Stream results in the order in which they were written, as of the first one read.

    Args:
        path: of the journal.
        selection: which ones; all by default.
        with_amended: also those that something else was published for.
        newest_first: the other way round.
        limit: at most so many.

    Raises:
        JournalError: the journal cannot be read.
    """
    selection = selection or Selection()
    wanted = [(rule, value) for rule, value in zip(_RULES, astuple(selection), strict=True) if value is not None]
    rules = [rule for rule, _ in wanted] + ([] if with_amended else [NOT_AMENDED])
    order = "DESC" if newest_first else "ASC"
    query = f"SELECT n, amends, json FROM results WHERE {' AND '.join(rules) or 'TRUE'} ORDER BY n {order} LIMIT ?"  # noqa: S608
    values = [value for _, value in wanted]
    with open_reader(path) as connection:
        for n, amends, text in connection.execute(query, (*values, -1 if limit is None else limit)):
            yield Row(n, amends, text, json.loads(text))


_RULES = ("camera = ?", "verdict = ?", "reason_code = ?", "part_id = ?", "frame_id = ?", "published_utc_ns >= ?",
          "published_utc_ns < ?")  # fmt: skip
