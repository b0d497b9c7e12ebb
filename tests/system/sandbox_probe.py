"""What a process in the unit's sandbox may do: run as its ExecStartPre=, it tries and writes down how it went."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from inspector.errors import ConfigError
from inspector.secret import read_secret

_CLONE_NEWUSER = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: object) -> int:
    result = int(getattr(_libc, function)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), function)
    return result


def _write(path: str) -> None:
    Path(path).write_text("x", encoding="ascii")


def _read(path: str) -> None:
    Path(path).read_bytes()


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write state": lambda: _write("/var/lib/inspector/probe"),
    "write runtime": lambda: _write(os.environ["RUNTIME_DIRECTORY"] + "/probe"),
    "write tmp": lambda: _write("/tmp/probe"),  # noqa: S108 (its own)
    "write configuration": lambda: _write("/etc/inspector/probe"),
    "write program": lambda: _write("/opt/inspector/probe"),
    "write elsewhere": lambda: _write("/var/lib/elsewhere/probe"),  # a folder anyone may write
    "read configuration": lambda: _read("/etc/inspector/test.yaml"),
    "read passwords": lambda: _read("/etc/shadow"),
    "read key": lambda: _read("/etc/inspector/credentials/station-key"),
    "read home": lambda: list(Path("/root").iterdir()),
    "read processors": lambda: _read("/proc/cpuinfo"),
    "read start of the machine": lambda: _read("/proc/stat"),
    "read another's process": lambda: list(Path("/proc/1").iterdir()),
    "read clock's state": lambda: _call("adjtimex", ctypes.create_string_buffer(256)),  # modes = 0
    "set clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "choose processors": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "open network": lambda: socket.socket(socket.AF_INET).close(),
    "listen to all packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "leave namespace": lambda: _call("unshare", _CLONE_NEWUSER),
    "change owner": lambda: os.chown("/var/lib/inspector/probe", os.getuid(), os.getgid()),
}


def _try(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def _read_secret(name: str) -> str:
    try:
        return read_secret(f"credential:{name}", "security.key")
    except ConfigError as error:
        return str(error)


def main() -> None:
    """Write the report to the file named."""
    report: dict[str, object] = {name: _try(attempt) for name, attempt in ATTEMPTS.items()}
    report["secrets"] = {name: _read_secret(name) for name in ("station-key", "tls-key")}
    report["user"] = [os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups())]
    Path(sys.argv[1]).write_text(json.dumps(report), encoding="ascii")


if __name__ == "__main__":
    main()
