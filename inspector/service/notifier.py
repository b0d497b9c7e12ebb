"""systemd's notification protocol (sd_notify(3)): READY, WATCHDOG, STOPPING as datagrams."""

from __future__ import annotations

import contextlib
import os
import socket


class Notifier:
    """Says nothing where systemd does not listen."""

    def __init__(self, address: str | None = None) -> None:
        """Use `address`, or $NOTIFY_SOCKET; `@` starts an abstract one."""
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def notify(self, message: str) -> None:
        """Send one message, such as `READY=1`; a supervisor that went away is not our failure."""
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as channel:
            channel.settimeout(1.0)  # a supervisor that does not read must not hold up the main loop
            channel.sendto(message.encode(), self._address)
