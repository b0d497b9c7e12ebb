"""Who may do what at which socket: the list of clients as it is now, and limits that hold for everyone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inspector.errors import ConfigError, MessageRefusedError
from inspector.security.keys import Client, Role, load_clients, read_station_key
from inspector.security.settings import Security
from inspector.security.sockets import MAX_PARTS

SOCKET_ROLES: Mapping[str, frozenset[Role]] = {
    "frames": frozenset({Role.SENDER}),
    "imagezmq": frozenset({Role.SENDER}),
    "results": frozenset({Role.SUBSCRIBER}),
    "overlays": frozenset({Role.SUBSCRIBER}),
    "requests": frozenset({Role.REQUESTER, Role.OPERATOR}),
}
"""Whoever has one of these may connect."""
_MAX_PEERS = 1024
"""Whose rates are known; who sent nothing for longest is forgotten first."""


class AllowList:
    """The list of clients in force. One thread has it look at the file; any may ask."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            ConfigError: it is missing or not valid.
        """
        self._path = path
        self._problem: str | None = None
        self._keys: dict[str, str] = {}  # of every name since the start
        self._stamp = _read_stamp(path)
        self._adopt(load_clients(path))

    def _adopt(self, clients: tuple[Client, ...]) -> None:
        for client in clients:
            # A connection is known by its name alone: one that was made with the former key would stay let in.
            if self._keys.get(client.name, client.public_key) != client.public_key:
                rule = "must be new for a new key while the station runs"
                raise ConfigError(f"{self._path}: clients: name: {rule}, got {client.name!r} with another key")
        self._keys |= {client.name: client.public_key for client in clients}
        self._by_key = {client.public_key: client for client in clients}
        self._by_name = {client.name: client for client in clients}

    def refresh(self) -> str | None:
        """Read the file again if it changed. What is wrong with it, if anything: then the last good one is in force."""
        stamp = _read_stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._adopt(load_clients(self._path))
                self._problem = None
            except ConfigError as error:
                self._problem = str(error)
        return self._problem

    def find_key(self, public_key: str) -> Client | None:
        """The client with this key, in Z85."""
        return self._by_key.get(public_key)

    def find_name(self, name: str) -> Client | None:
        """The client with this name, or None."""
        return self._by_name.get(name)

    def oldest_key(self) -> float | None:
        """When the oldest key that is let in was made, seconds since 1970; None where there is none."""
        return min((c.created.timestamp() for c in self._by_name.values() if not c.is_revoked), default=None)


def _read_stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file's content; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


class Gate:
    """Lets the messages of one socket in, or not; for one thread. Looks at no file and takes no lock."""

    def __init__(
        self,
        socket: str,
        allow_list: AllowList | None = None,
        *,
        max_rate: float | None = None,
        count: Callable[[str, str], None] = lambda socket, cause: None,
    ) -> None:
        """Set up the gate of one socket.

        Args:
            socket: its name in the station file.
            allow_list: None: the station is open.
            max_rate: messages a second of one client, and how many it may send at once; None: any.
            count: told of each refusal: the socket and the cause.
        """
        self._socket = socket
        self._allow_list = allow_list
        self._max_rate = max_rate
        self._count = count
        self._tokens: dict[str, tuple[float, float]] = {}  # peer → messages it may send, and when that was so

    def admit(self, peer: str, parts: int) -> None:
        """See that a message may be looked at.

        Args:
            peer: who sent it; see `read_peer`.
            parts: how many it has.

        Raises:
            MessageRefusedError: it may not; its cause is parts, rate or permission.
        """
        if parts > MAX_PARTS:
            self._refuse("parts", f"message: must have at most {MAX_PARTS} parts, got {parts} from {peer}")
        if self._max_rate is not None and not self._take_token(peer, self._max_rate):
            self._refuse("rate", f"messages: must be at most {self._max_rate:g} per second, got more from {peer}")
        self._find(peer, SOCKET_ROLES[self._socket])

    def admit_camera(self, peer: str, camera: str) -> None:
        """See that a sender may send this camera's frames.

        Raises:
            MessageRefusedError: its key is for others; the cause is permission.
        """
        client = self._find(peer, SOCKET_ROLES[self._socket])
        if client is not None and client.cameras is not None and camera not in client.cameras:
            self._refuse("permission", f"camera: must be one of {list(client.cameras)} for {peer}, got {camera!r}")

    def admit_role(self, peer: str, role: Role) -> None:
        """See that a client has a role.

        Raises:
            MessageRefusedError: it has not; the cause is permission.
        """
        self._find(peer, frozenset({role}))

    def _find(self, peer: str, roles: frozenset[Role]) -> Client | None:
        """The client, which has one of `roles`; None where the station is open to all."""
        if self._allow_list is None:
            return None
        client = self._allow_list.find_name(peer)
        if client is None or client.is_revoked:
            self._refuse("permission", f"key: must be on the list of clients and not revoked, got the key of {peer}")
        elif roles.isdisjoint(client.roles):
            wanted = " or ".join(sorted(roles))
            self._refuse("permission", f"role: must be {wanted}, got {', '.join(client.roles)} of {peer}")
        return client

    def _refuse(self, cause: str, message: str) -> None:
        self._count(self._socket, cause)
        raise MessageRefusedError(cause, message)

    def _take_token(self, peer: str, rate: float) -> bool:
        """A token bucket for each peer, as large as a second fills it."""
        now = time.monotonic()
        tokens, before = self._tokens.pop(peer, (rate, now))  # put back last: the first is who is silent for longest
        tokens = min(rate, tokens + (now - before) * rate)
        self._tokens[peer] = max(0.0, tokens - 1), now
        if len(self._tokens) > _MAX_PEERS:
            del self._tokens[next(iter(self._tokens))]
        return tokens >= 1


@dataclass(frozen=True, slots=True)
class Access:
    """How a station's sockets are guarded; by default not at all.

    Attributes:
        secret_key: the station's, in Z85; None: open to all.
        allow_list: who gets in; None: everyone.
        max_rate, count: see `Gate`.
    """

    secret_key: bytes | None = None
    allow_list: AllowList | None = None
    max_rate: float | None = None
    count: Callable[[str, str], None] = lambda socket, cause: None

    def build_gate(self, socket: str) -> Gate:
        """For the thread that reads this socket."""
        return Gate(socket, self.allow_list, max_rate=self.max_rate, count=self.count)


def load_access(security: Security | None, max_rate: float | None, count: Callable[[str, str], None]) -> Access:
    """What the station file says.

    Raises:
        ConfigError: the secret key or the list of clients cannot be used.
    """
    if security is None:
        return Access(max_rate=max_rate, count=count)
    _, secret_key = read_station_key(security.key)
    try:
        allow_list = AllowList(security.clients)
    except ConfigError as error:
        raise ConfigError(f"security.clients: must be a valid list:\n{error}", field=("security", "clients")) from error
    return Access(secret_key, allow_list, max_rate, count)
