"""The journal's database, open for its one writer: what it commits is on the disk, in the files its path leads to."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inspector.errors import JournalError
from inspector.journal.checking import RESTORE, check_journal
from inspector.journal.mark import Mark
from inspector.journal.place import Change, Place
from inspector.journal.schema import migrate, read_meta, read_version

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 0.5  # deadlines run while another process holds the file
_WAL_BYTES = 64 * 1024**2  # what a long read beside it made the log grow to is given back
_NEEDS_A_HAND = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class JournalFile:
    """Used by one thread.

    Attributes:
        connection: to the database; another one once the log had to be made anew.
    """

    def __init__(self, path: Path, mark: Mark | None) -> None:
        """Open or make it; a file of an earlier version is brought to the present one.

        Args:
            path: where.
            mark: what is known of it from before.

        Raises:
            JournalError: it cannot be opened or made, is no journal, is damaged or older than its mark, or a later
                version of this program wrote it. Then it is left as it is.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_unusable(path)
            check_journal(path, mark)
            self.connection = _open(path)
        except (OSError, sqlite3.Error, JournalError) as error:
            hint = f"; {RESTORE}" if getattr(error, "sqlite_errorcode", None) in _NEEDS_A_HAND else ""
            raise JournalError(f"journal {path}: cannot be opened: {error}{hint}") from error
        self._place = Place(path)

    @property
    def is_supplanted(self) -> bool:
        """Whether the path leads to another database by now."""
        return self._path.exists() and self._place.find_change() is Change.GONE

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Translate what goes wrong.

        Raises:
            JournalError: it cannot be read.
        """
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(f"journal {self._path}: cannot be read: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is durable at the end.

        Raises:
            JournalError: none of it is on record. Where the files went while it was committed, it may be in them.
        """
        self.check_place()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as error:  # text that is not UTF-8, numbers beyond 64 bits
            raise JournalError(f"journal {self._path}: cannot be written: {error}") from error
        finally:
            if self.connection.in_transaction:
                with suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
        self.check_place(wrote=True)

    def check_place(self, *, wrote: bool = False) -> None:
        """See that what is written goes where the path leads. Where only the log went it is made anew.

        Args:
            wrote: this process wrote to the database since the last look.

        Raises:
            JournalError: the files were deleted, moved away or replaced, or something else was written over them.
        """
        change = self._place.find_change(wrote=wrote)
        if change is None:
            return
        try:
            if change is Change.LOG_GONE:
                self._make_log_anew()
            elif change is Change.OVERWRITTEN:
                check_journal(self._path, Mark(*read_meta(self.connection, "head"), {}))
                self._place.find_change(wrote=True)
                logger.warning("journal %s: another program wrote to it; it is not damaged", self._path)
            else:
                raise JournalError("its files were deleted, moved or replaced while the station was running")
        except (sqlite3.Error, OSError, JournalError) as error:
            hint = "" if RESTORE in str(error) else f"; {RESTORE}"
            raise JournalError(f"journal {self._path}: cannot be written: {error}{hint}") from error

    def _make_log_anew(self) -> None:
        """Fold the log, which is still open, into the database, and open both anew; one put in its place is deleted."""
        busy, *_ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise JournalError(
                "its log file was deleted and cannot be created again while another program reads the journal"
            )
        head = read_meta(self.connection, "head")
        self.connection.close()
        self.connection = _open(self._path)
        if read_meta(self.connection, "head") != head:
            self.connection.close()
            raise JournalError("its log file was replaced by another one, which is in use")
        self._place.forget_log()
        logger.warning("journal %s: its log file was deleted and is created again; nothing is lost", self._path)


def _refuse_unusable(path: Path) -> None:
    """SQLite does not say which of a database's files it may not open, nor why."""
    for file in (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))):
        if file.exists() and not (file.is_file() and os.access(file, os.R_OK | os.W_OK)):
            raise JournalError(f"{file.name} must be a file that this process can read and write")


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
