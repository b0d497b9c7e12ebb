"""Files of ipc endpoints: each belongs to one process. libzmq by itself takes a path from whoever listens there.

So the socket is bound here and handed over (ZMQ_USE_FD): libzmq then removes no file, before it binds or at its end.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path

from inspector.locks import find_holder, hold

_BACKLOG = 100
_NOBODY = frozenset({errno.ENOENT, errno.ECONNREFUSED})
"""What connecting says where nobody listens: there is no file, or it was left by a process that ended."""


def find_path(endpoint: str) -> Path | None:
    """The file of an ipc endpoint; None for tcp, and for `@name`, which the kernel gives to one process."""
    path = endpoint.removeprefix("ipc://")
    return None if path == endpoint or path.startswith("@") else Path(path)


def find_lock(path: Path) -> Path:
    """The file whose holder may bind `path`."""
    return path.with_name(f"{path.name}.lock")


def listen(path: Path) -> int:
    """Take a path for this process until it ends; the descriptor of a socket that listens there.

    Raises:
        OSError: another process has it, the folder cannot be written, or a file that is not a socket is in the way.
    """
    # Who listens counts first: he may be of another program, or have lost his lock to a clean-up.
    listener = find_listener(path)
    if listener is not None:
        raise OSError(errno.EADDRINUSE, f"{listener} is already listening there")
    # The lock decides between two that start at once.
    if not hold(find_lock(path)):
        raise OSError(errno.EADDRINUSE, f"it is in use by {_describe(find_holder(find_lock(path)))}")
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(os.fspath(path))
        made.listen(_BACKLOG)
        made.setblocking(False)
        return made.detach()


def find_listener(path: Path) -> str | None:
    """Who listens at a path, in words; None: nobody.

    Raises:
        OSError: it cannot be seen.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(os.fspath(path))
        if code == 0:
            process, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return _describe(process)
    if code in _NOBODY:
        return None
    if code in {errno.EAGAIN, errno.EPROTOTYPE}:  # too many wait to be let in; or it is no stream
        return "another process"
    raise OSError(code, os.strerror(code), str(path))


def identify(path: Path) -> tuple[int, int]:
    """Which file lies there: no other has these numbers as long as this one is bound.

    Raises:
        OSError: none does.
    """
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file that is not a socket is in the way")
    path.unlink()


def _describe(process: int | None) -> str:
    if process == os.getpid():
        return "another socket of this station"
    return f"process {process}" if process else "another process"  # 0: of another container
