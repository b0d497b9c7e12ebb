"""A client's key file, and how a socket uses it. `inspector keys new` writes such files."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq

_TEXTS = ("name", "station", "station_public_key", "public_key", "secret_key")


class KeyFileError(ValueError):
    """Raised when a key file is missing, open to others, or not one."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """All that a client needs to be let in by one station; keys in Z85."""

    name: str
    station: str
    station_public_key: str
    public_key: str
    secret_key: str = field(repr=False)

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket that is not connected yet show this key, and talk to that station only."""
        socket.curve_serverkey = self.station_public_key.encode()
        socket.curve_publickey = self.public_key.encode()
        socket.curve_secretkey = self.secret_key.encode()

    def dump(self) -> str:
        """The text of its file."""
        return json.dumps({"schema": 1, **{name: getattr(self, name) for name in _TEXTS}}, indent=1) + "\n"


def load_key(path: Path | str) -> ClientKey:
    """Read a key file.

    Raises:
        KeyFileError: it cannot be read, others may read or change it, or it is no key file.
    """
    path = Path(path)
    try:
        _refuse_unsafe(path, path.stat())
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{path}: must be a key file (JSON): {error}") from error
    if not isinstance(read, dict) or read.get("schema") != 1:
        raise KeyFileError(f"{path}: schema: must be 1, in a file written by `inspector keys new`")
    for name in _TEXTS:
        value = read.get(name)
        if not isinstance(value, str) or (name.endswith("_key") and len(value) != 40):
            raise KeyFileError(f"{path}: {name}: must be {'40 characters' if name.endswith('_key') else 'text'}")
    key = ClientKey(**{name: read[name] for name in _TEXTS})
    try:
        derived = zmq.curve_public(key.secret_key.encode()).decode()
    except (ValueError, zmq.ZMQError) as error:
        raise KeyFileError(f"{path}: secret_key: must be a key: {error}") from error
    if derived != key.public_key:
        raise KeyFileError(f"{path}: public_key: must match secret_key")
    return key


def _refuse_unsafe(path: Path, found: os.stat_result) -> None:
    if os.name != "posix":
        return
    if found.st_mode & 0o027:
        raise KeyFileError(f"{path}: must have mode 0640 or stricter, got {stat.S_IMODE(found.st_mode):04o}: chmod 600")
    if found.st_uid not in {os.geteuid(), 0}:
        raise KeyFileError(
            f"{path}: must belong to the user that runs this program or to root, got user {found.st_uid}"
        )
