"""Keys: the station's secret one, and the list of those clients have, with what each may do (clients.yaml).

CURVE keys in Z85, 40 characters each (https://rfc.zeromq.org/spec/26/ and /32/).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
import zmq
from pydantic import AfterValidator, AwareDatetime, Field, field_validator, model_validator
from zmq.utils import z85

from inspector.errors import ConfigError, InspectorError
from inspector.files import write_whole
from inspector.secret import read_secret
from inspector.strict.base import Name, SchemaVersion, Strict
from inspector.strict.reading import load_strict, locate_field

_MAX_BYTES = 256 * 1024
"""Of the list: about a thousand clients, which takes half a second to read; handshakes wait that long."""
_HEADER = "# Who may connect. Written by `inspector keys`; the station reads it again after each change.\n"


class Role(StrEnum):
    """What a client may do."""

    SENDER = "sender"
    """Send frames: `sockets.frames` and `sockets.imagezmq`."""
    SUBSCRIBER = "subscriber"
    """Hear verdicts, status and overlays: `sockets.results` and `sockets.overlays`."""
    REQUESTER = "requester"
    """Ask for the status and for replays: `sockets.requests`."""
    OPERATOR = "operator"
    """Change how the station works, and all a requester may: every request."""


def _check_key(text: str) -> str:
    try:
        if len(z85.decode(text.encode("ascii"))) == 32:
            return text
    except (ValueError, KeyError, struct.error):  # no Z85, or more than its 32 bits a group
        pass
    raise ValueError("must be a public key: 40 characters of Z85")


def _check_utc(when: datetime) -> datetime:
    if when.utcoffset() != timedelta(0):
        raise ValueError("must be in UTC, such as 2026-01-31T06:00:00Z")
    return when


Utc = Annotated[AwareDatetime, AfterValidator(_check_utc)]


class Client(Strict):
    """One key that is let in, until it is revoked."""

    name: Name
    public_key: Annotated[str, AfterValidator(_check_key)]
    roles: tuple[Role, ...]
    cameras: tuple[Name, ...] | None = None  # those a sender may send frames of; None: any
    created: Utc
    revoked: Utc | None = None

    @field_validator("roles")
    @classmethod
    def _some_role(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        if not roles:
            raise ValueError(f"must be one or more of {', '.join(Role)}")
        return roles

    @model_validator(mode="after")
    def _cameras_of_a_sender(self) -> Client:
        if self.cameras is not None and Role.SENDER not in self.roles:
            raise ValueError(f"cameras must only be given for a sender, got {list(self.cameras)}")
        return self

    @property
    def is_revoked(self) -> bool:
        """Whether it was revoked."""
        return self.revoked is not None and self.revoked <= datetime.now(UTC)


class Clients(Strict):
    """The file clients.yaml."""

    schema_version: SchemaVersion = Field(default=1, alias="schema")
    clients: tuple[Client, ...] = ()


def load_clients(path: Path) -> tuple[Client, ...]:
    """Read the list of clients.

    Raises:
        ConfigError: with every fault found, one per line; or others than its owner may change it.
    """
    _refuse_unsafe(path)
    clients = load_strict(path, Clients, ConfigError).clients
    for field in ("name", "public_key"):
        seen: set[str] = set()
        for number, client in enumerate(clients):
            value = getattr(client, field)
            if value in seen:
                place = locate_field(path, ("clients", number, field))
                raise ConfigError(f"{place}: clients.{number}.{field}: must be unique, got {value!r} again")
            seen.add(value)
    return clients


def _refuse_unsafe(path: Path) -> None:
    """Whoever can write the list can let himself in."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if found.st_uid not in {os.geteuid(), 0}:
        rule = f"must belong to the user that runs this program ({os.geteuid()}) or to root"
        raise ConfigError(f"{path}: {rule}, got user {found.st_uid}")
    if found.st_size > _MAX_BYTES:
        raise ConfigError(f"{path}: must have at most {_MAX_BYTES} bytes, got {found.st_size}")
    if found.st_mode & 0o022:
        raise ConfigError(f"{path}: must have mode 0644 or stricter, got {stat.S_IMODE(found.st_mode):04o}")


@contextmanager
def edit_clients(path: Path) -> Iterator[list[Client]]:
    """The list, to be changed in place; written whole when the block ends well. One at a time; made where missing.

    Raises:
        ConfigError: what is there is no list.
        InspectorError: it cannot be written.
    """
    folder = _open_folder(path)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        clients = list(load_clients(path)) if path.exists() else []
        yield clients
        written = Clients(clients=tuple(clients)).model_dump(mode="json", by_alias=True, exclude_none=True)
        text = _HEADER + yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
        write_whole(path, text.encode(), mode=0o644)
    finally:
        os.close(folder)


def make_station_key(path: Path) -> None:
    """Write a new secret key that only its owner can read.

    Raises:
        InspectorError: it cannot be written.
    """
    os.close(_open_folder(path))
    write_whole(path, zmq.curve_keypair()[1] + b"\n", mode=0o600)


def _open_folder(path: Path) -> int:
    """Descriptor of the folder that `path` is in, made where missing.

    Raises:
        InspectorError: it cannot be made or read.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise InspectorError(f"{path}: cannot be written: {error}") from error


def read_station_key(reference: str) -> tuple[bytes, bytes]:
    """The station's public and secret key.

    Args:
        reference: where the secret one is; see `read_secret`.

    Raises:
        ConfigError: there is none, others may read it, or it is no key.
    """
    secret = read_secret(reference, "security.key")
    try:
        secret_key = _check_key(secret).encode("ascii")
    except ValueError:
        rule = "must contain a secret key, 40 characters of Z85 (`inspector keys` creates one)"
        raise ConfigError(f"security.key: {rule}, got {len(secret)} characters", field=("security", "key")) from None
    return zmq.curve_public(secret_key), secret_key
