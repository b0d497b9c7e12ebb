"""What may pass by itself is told from what only a person can change."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from inspector.errors import ConfigError, JournalError, RecipeError
from inspector.transient import is_transient


def raise_config(error: BaseException) -> ConfigError:
    """As it comes to the command line: two floors up."""
    try:
        try:
            try:
                raise error
            except BaseException as first:
                raise RecipeError("weights: cannot be read") from first
        except RecipeError as second:
            raise ConfigError("cameras.top.recipe: cannot be used") from second
    except ConfigError as third:
        return third


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("some words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (
            errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN,
            errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ESTALE, errno.ENOTCONN, errno.ENODEV,
        )),
        zmq.ZMQError(errno.EADDRINUSE),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        *(sqlite_error(code) for code in (
            sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM,
        )),
    ],
    ids=repr,
)  # fmt: skip
def test_fault_may_pass_when_the_system_says_so(error: BaseException) -> None:
    assert is_transient(raise_config(error))


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (
            errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
        )),
        zmq.ZMQError(errno.EACCES),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLError(errno.ESTALE, "[X509: KEY_VALUES_MISMATCH] key values mismatch"),
        sqlite_error(sqlite3.SQLITE_CORRUPT), sqlite_error(sqlite3.SQLITE_NOTADB), sqlite3.ProgrammingError("closed"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValueError("threshold: must be above 0"),
        JournalError("it is damaged"),
    ],
    ids=repr,
)  # fmt: skip
def test_fault_stays_when_only_a_person_can_change_it(error: BaseException) -> None:
    assert not is_transient(raise_config(error))


def test_fault_may_pass_when_it_was_raised_as_such() -> None:
    assert is_transient(raise_config(ConfigError("device: must be a device of this machine", transient=True)))


def hold(path: Path) -> sqlite3.Connection:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    return holder


@pytest.mark.parametrize("make_fault", [hold], ids=["held by another program"])
def test_journal_that_cannot_be_opened_for_now_may_be_later(
    tmp_path: Path, make_fault: Callable[[Path], sqlite3.Connection]
) -> None:
    from inspector.journal.writer import Journal

    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    holder = make_fault(path)
    with pytest.raises(JournalError, match="cannot be opened: database is locked") as error:
        Journal(path)
    assert is_transient(error.value)
    holder.close()
    Journal(path).close()
