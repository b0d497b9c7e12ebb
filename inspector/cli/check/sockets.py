"""Every address the station binds: well formed, of this machine, free, its own. Nothing listens meanwhile."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

from inspector.cli.check.finding import Finding
from inspector.config import SOCKETS, Station
from inspector.locks import find_holder
from inspector.security.ipc import find_lock

_MAX_IPC_BYTES = 107  # sockaddr_un's, less the last byte
_SERVICE_FOLDER = Path("/run/inspector")  # where systemd makes a folder for each service that runs


def check_sockets(station: Station, daemon: int | None) -> list[Finding]:
    """Each socket and the HTTP port, as a daemon that starts now would find them.

    Args:
        station: whose.
        daemon: the process that runs this station now, and so has them.
    """
    http = f"[{station.http.host}]" if ":" in station.http.host else station.http.host
    endpoints = {f"sockets.{name}": getattr(station.sockets, name) for name in SOCKETS}
    endpoints["http"] = f"tcp://{http}:{station.http.port}"
    findings = []
    for what, endpoint in endpoints.items():
        twin = next((other for other, its in endpoints.items() if other != what and _collide(endpoint, its)), None)
        if twin is not None:
            findings.append(
                Finding(what, problem=f"{endpoint}: also used by {twin}", fix="give each of them its own address")
            )
        elif endpoint.startswith("ipc://"):
            findings.append(_check_ipc(what, endpoint, daemon))
        else:
            findings.append(_check_tcp(what, endpoint, daemon))
    return findings


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _is_every(host: str) -> bool:
    with suppress(ValueError):
        return host == "*" or ip_address(host).is_unspecified
    return False


def _collide(one: str, other: str) -> bool:
    if not (one.startswith("tcp://") and other.startswith("tcp://")):
        paths = {os.path.realpath(each.removeprefix("ipc://")) for each in (one, other)}
        return len(paths) == 1  # however it is spelled
    (host, port), (its_host, its_port) = _split(one), _split(other)
    hosts = {"127.0.0.1" if each == "localhost" else each for each in (host, its_host)}
    if port != its_port or port == 0:
        return False
    every_ipv4 = any(map(_is_every, hosts)) and not any(":" in each for each in hosts)
    return len(hosts) == 1 or every_ipv4 or "::" in hosts  # libzmq's :: takes IPv4 as well


def _check_tcp(what: str, endpoint: str, daemon: int | None) -> Finding:
    host, port = _split(endpoint)
    if what == "http" and port == 0:
        return Finding(what, f"{endpoint}: any free port")
    if not 1 <= port <= 65_535:
        return Finding(what, problem=f"{endpoint}: port must be 1 to 65535, got {port}", fix="choose another port")
    try:
        _try_bind(endpoint, host, port)
    except socket.gaierror as error:
        fix = "use an address of this machine: see `ip address`"
        return Finding(what, problem=f"{endpoint}: this host name has no address: {error}", fix=fix)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and daemon is not None:
            return Finding(what, f"{endpoint}: in use while this station's daemon runs (process {daemon})")
        rule, fix = _FAULTS.get(error.errno or 0, ("cannot be bound", "choose another address"))
        return Finding(what, problem=f"{endpoint}: {rule}: {error.strerror}", fix=fix)
    return Finding(what, endpoint)


_FAULTS = {
    errno.EADDRINUSE: ("in use by another program", "see `ss -ltnp` for which one; stop it or choose another port"),
    errno.EADDRNOTAVAIL: ("not an address of this machine", "see `ip address` for its addresses, or use 127.0.0.1"),
    errno.EACCES: ("not allowed for this user", "choose a port of 1024 or higher"),
    errno.EAFNOSUPPORT: ("this machine does not support this kind of address", "use an IPv4 address"),
}


def _try_bind(endpoint: str, host: str, port: int) -> None:
    """Bind without listening: no sender that is waiting for the daemon finds us instead."""
    family = socket.AF_INET6 if endpoint.startswith("tcp://[") else socket.AF_INET
    interfaces = {name for _, name in socket.if_nameindex()}  # libzmq takes their names too
    address = "" if host == "*" or host in interfaces else host
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))


def _check_ipc(what: str, endpoint: str, daemon: int | None) -> Finding:
    path = endpoint.removeprefix("ipc://")
    length = len(os.fsencode(path))
    if length > _MAX_IPC_BYTES:
        problem = f"{endpoint}: must have at most {_MAX_IPC_BYTES} bytes after ipc://, has {length}"
        return Finding(what, problem=problem, fix="choose a shorter path, for example in /run")
    holder = None if path.startswith("@") else find_holder(find_lock(Path(path)))
    is_bound = path in _list_unix_sockets()
    if daemon is not None and (holder == daemon or (holder is None and is_bound)):
        return Finding(what, f"{endpoint}: in use while this station's daemon runs (process {daemon})")
    if holder is not None or is_bound:
        who = f"process {holder}" if holder else "another program"
        problem = f"{endpoint}: in use by {who}: the station could not start"
        return Finding(what, problem=problem, fix="see `ss -lxp` for which one; stop it or choose another path")
    return Finding(what, endpoint) if path.startswith("@") else _check_ipc_file(what, endpoint, Path(path))


def _check_ipc_file(what: str, endpoint: str, path: Path) -> Finding:
    folder = path.parent
    if not path.is_absolute():
        problem = f"{endpoint}: relative to the folder in which the daemon is started"
        return Finding(what, problem=problem, fix="use an absolute path", fatal=False)
    if folder.parent == _SERVICE_FOLDER and not folder.exists():
        return Finding(what, f"{endpoint}: the service creates the folder {folder} when it starts")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        state = "cannot be written" if folder.is_dir() else "does not exist"
        return Finding(
            what,
            problem=f"{endpoint}: the folder {folder} {state}",
            fix=f"create {folder} and make it writable for this user",
        )
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        return Finding(
            what,
            problem=f"{endpoint}: a file that is not a socket is in the way",
            fix="choose another path, or move the file",
        )
    lock = find_lock(path)
    if lock.exists() and not os.access(lock, os.W_OK):
        problem = f"{endpoint}: its lock file {lock} cannot be written, since another user created it"
        return Finding(what, problem=problem, fix=f"remove {lock} when no station of that user is running")
    return Finding(what, endpoint)


def _list_unix_sockets() -> set[str]:
    """Paths of all that are bound on this machine."""
    text = Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape")
    rows = (line.split(maxsplit=7) for line in text.splitlines())
    return {row[7] for row in rows if len(row) == 8}
