"""Files that are on record as frames: a folder that is read again after a restart judges none of them twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from inspector.types import FileVersion, TakenFile

TABLE = """CREATE TABLE taken_files (
    camera TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    PRIMARY KEY (camera, name)
) WITHOUT ROWID"""

_TAKE = "INSERT OR REPLACE INTO taken_files VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM taken_files WHERE camera = ? AND name = ?"


def store_taken(connection: sqlite3.Connection, files: Iterable[TakenFile]) -> None:
    """Write them in their order: a file may be taken, go, and come again."""
    for file in files:
        if file.version is None:
            connection.execute(_FORGET, (file.camera, file.name))
        else:
            connection.execute(_TAKE, (file.camera, file.name, *file.version))


def read_taken(connection: sqlite3.Connection) -> dict[str, dict[str, FileVersion]]:
    """The version on record of each file, by camera and name."""
    found: dict[str, dict[str, FileVersion]] = {}
    for camera, name, size, modified_ns in connection.execute("SELECT * FROM taken_files"):
        found.setdefault(camera, {})[name] = FileVersion(size, modified_ns)
    return found
