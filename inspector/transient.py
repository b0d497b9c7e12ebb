"""Which faults may pass by themselves: a start that fails for one is worth another try without repair."""

from __future__ import annotations

import errno
import socket
import sqlite3

from inspector.errors import ConfigError

_NUMBERS = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN,
    errno.EBUSY, errno.EINTR, errno.ENOLCK,
    # A disk, share or camera that is away.
    errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT,
    # Somebody else's for the moment, were it only an outgoing connection's; or of a network that is not up yet.
    errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    socket.EAI_AGAIN,
}  # fmt: skip
_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "CUDA out of memory")


def is_transient(error: BaseException) -> bool:
    """Whether the fault, or one that it was raised for, may be gone at the next try.

    In doubt it is: a try in vain costs seconds, a station that stays down for a fault that is gone costs the shift.
    """
    seen: BaseException | None = error
    while seen is not None:
        if _is_transient(seen):
            return True
        seen = seen.__cause__
    return False


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, ConfigError):
        return error.transient
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_CODES
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return True
    # Of an ssl.SSLError the number is OpenSSL's own. ZMQError is no OSError, but has the same numbers.
    return type(error).__module__ != "ssl" and getattr(error, "errno", None) in _NUMBERS
