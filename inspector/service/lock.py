"""One daemon a station: a lock in its state folder, which the kernel takes back however a process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from inspector.errors import ConfigError

_FILE = "daemon.lock"
_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, process


class StationLock:
    """Held from making it until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take it, in the station's state folder, which is made where it is not there.

        Raises:
            ConfigError: the folder cannot be written, or another process runs the station.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            message = f"state_dir: must be a folder this process can write: {error}"
            # Read-only for a service from the first start on is its sandbox; later a disk with errors, which passes.
            cause = error if error.errno != errno.EROFS or (folder / _FILE).exists() else None
            raise ConfigError(message, field=("state_dir",)) from cause
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            message = f"station: must be run by one daemon, but process {find_daemon(folder)} runs it from {folder}"
            raise ConfigError(message, field=("station",)) from error
        self._descriptor = descriptor  # never closed: that would let another process have it


def find_daemon(folder: Path) -> int | None:
    """The process that runs the station with this state folder; None: none, or none this user can see."""
    try:
        descriptor = os.open(folder / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(process)
