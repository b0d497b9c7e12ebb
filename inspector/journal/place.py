"""Where an open journal's files are: whether the path still leads to them."""

from __future__ import annotations

import os
from enum import Enum, auto
from pathlib import Path

_Identity = tuple[int, int]


class Change(Enum):
    """What happened to the files of an open journal."""

    GONE = auto()  # the path leads to no database, or to another one
    LOG_GONE = auto()  # or another one took its place
    OVERWRITTEN = auto()  # somebody else wrote to the database: a copy put over it keeps the inode


class Place:
    """What the database and its log were when they were opened.

    SQLite never looks at the names of open files again: it writes on into files that were deleted, moved away or
    covered by a mount, and reports success.
    """

    def __init__(self, path: Path) -> None:
        """Remember them as they are now; the database must be open."""
        self._path = path
        self._database, self._stamp = _look(path)
        real = os.path.realpath(path)  # where a link leads to: there SQLite keeps the log
        self._log = {f"{real}{end}": _look(f"{real}{end}")[0] for end in ("-wal", "-shm")}

    def forget_log(self) -> None:
        """The log was made anew: remember it. That the database is the one it was is for the next look to say."""
        self._log = {path: _look(path)[0] for path in self._log}
        self._stamp = _look(self._path)[1]

    def find_change(self, *, wrote: bool = False) -> Change | None:
        """What is not as it was. `wrote`: this process just wrote to the database."""
        database, stamp = _look(self._path)
        if database is None or database != self._database:
            return Change.GONE
        if wrote:
            self._stamp = stamp
        if any(_look(path)[0] != was for path, was in self._log.items()):
            return Change.LOG_GONE
        return None if stamp == self._stamp else Change.OVERWRITTEN


def _look(path: Path | str) -> tuple[_Identity | None, tuple[int, int] | None]:
    """Device and inode; size and when it was written to. None where it is gone or out of reach."""
    try:
        found = os.stat(path)  # noqa: PTH116 (twice a commit: Path takes three times as long)
    except OSError:
        return None, None
    return (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns)
