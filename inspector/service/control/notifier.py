"""systemd's notification protocol (sd_notify(3)): READY, WATCHDOG, STATUS and the like as datagrams."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_MAX_STATUS = 500
"""Characters of a status text; systemd drops messages of more than 4096 bytes."""


class Notifier:
    """Says nothing where systemd does not listen. Shared by all threads."""

    def __init__(self, address: str | None = None) -> None:
        """Use `address`, or $NOTIFY_SOCKET; `@` starts an abstract one."""
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def notify(self, message: str, *, status: str | None = None) -> None:
        """Send one message, such as `READY=1`; a supervisor that went away is not our failure.

        Args:
            message: assignments, a line each; may be empty.
            status: what `systemctl status` shows from now on, shortened to one line.
        """
        if not self._address:
            return
        if status is not None:
            # A line break in an error's text would begin an assignment of its own.
            message = f"{message}\nSTATUS={' '.join(status.split())[:_MAX_STATUS]}".strip()
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as channel:
            channel.settimeout(1.0)  # a supervisor that does not read must not hold up the main loop
            channel.sendto(message.encode(errors="replace"), self._address)


class StatusLine:
    """What a running station shows in `systemctl status`: state, frames per second of each camera, what failed."""

    def __init__(self, every_s: float = 5.0) -> None:
        """Rates are averaged over `every_s`."""
        self._every_s = every_s
        self._explanation: str | None = None
        self._read_s = time.monotonic()
        self._received: dict[str, int] = {}
        self._rates = ""

    def build(self, explanation: str, received: Mapping[str, int], past: Mapping[str, str | None]) -> str | None:
        """Text to show from now on, or None where it has not changed or is too young to be replaced.

        Args:
            explanation: the state, and the problems it has now.
            received: frames accepted since the start, by camera.
            past: failures that may be over, each with its name; None: there was none.
        """
        now = time.monotonic()
        passed_s = now - self._read_s
        if passed_s < self._every_s and explanation == self._explanation:
            return None
        if passed_s >= self._every_s:
            self._rates = "; " + ", ".join(
                f"{camera} {(count - self._received.get(camera, 0)) / passed_s:.1f}"
                for camera, count in received.items()
            )
            self._rates += " frames/s"
            self._received, self._read_s = dict(received), now
        self._explanation = explanation
        failures = (f"; {name}: {text}" for name, text in past.items() if text and text not in explanation)
        return explanation + self._rates + "".join(failures)
