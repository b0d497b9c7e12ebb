"""Reading the journal from a connection of its own, beside the thread that writes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspector.errors import JournalError
from inspector.sinks.journal_schema import MIGRATIONS, NOT_AMENDED, is_legacy, read_version


@contextmanager
def open_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection, closed at the end.

    Raises:
        JournalError: the file cannot be read, is no journal, or is of another version.
    """
    connection = None
    try:
        connection = _connect(path)
        version = read_version(connection)
        if version == 0 and not is_legacy(connection):
            raise JournalError("it is no journal: it has no tables")
        if version < len(MIGRATIONS):
            raise JournalError(
                f"user_version: must be {len(MIGRATIONS)}, got {version}: start its station, which brings it up to date"
            )
        yield connection
    except (OSError, sqlite3.Error, ValueError, OverflowError, JournalError) as error:
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


def _connect(path: Path) -> sqlite3.Connection:
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
