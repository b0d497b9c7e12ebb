"""One daemon a station: a lock in its state folder."""

from __future__ import annotations

import errno
from pathlib import Path

from inspector.errors import ConfigError
from inspector.locks import find_holder, hold

_FILE = "daemon.lock"


class StationLock:
    """Held from making it until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take it, in the station's state folder, which is made where it is not there.

        Raises:
            ConfigError: the folder cannot be written, or another process runs the station.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_ours = hold(folder / _FILE)
        except OSError as error:
            message = f"state_dir: must be a folder this process can write: {error}"
            # Read-only for a service from the first start on is its sandbox; later a disk with errors, which passes.
            cause = error if error.errno != errno.EROFS or (folder / _FILE).exists() else None
            raise ConfigError(message, field=("state_dir",)) from cause
        if not is_ours:
            message = (
                f"station: must be run by one daemon only, but process {find_daemon(folder)} "
                f"already runs it from {folder}"
            )
            raise ConfigError(message, field=("station",), transient=True)


def find_daemon(folder: Path) -> int | None:
    """The process that runs the station with this state folder; None: none, or none this user can see."""
    return find_holder(folder / _FILE)
