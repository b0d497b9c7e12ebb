"""What a station file says of its sockets, and of who may use them."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field, model_validator

from inspector.secret import anchor_secret
from inspector.strict.base import Strict

SOCKETS = ("frames", "results", "overlays", "requests", "imagezmq")


class Sockets(Strict):
    """ZeroMQ endpoints the daemon binds: `tcp://HOST:PORT` or `ipc://PATH`.

    Loopback unless there is `security`, or it says in words that it is open.
    """

    frames: str = "tcp://127.0.0.1:5555"
    """PULL: frames, `[header JSON, pixels]`."""
    results: str = "tcp://127.0.0.1:5556"
    """XPUB: every verdict, and the status."""
    overlays: str = "tcp://127.0.0.1:5557"
    """PUB: pictures for people, best effort."""
    requests: str = "tcp://127.0.0.1:5558"
    """ROUTER: requests, such as replay, status, recipe and drain."""
    imagezmq: str = "tcp://127.0.0.1:5559"
    """ROUTER for REQ senders, ours or imagezmq's, which are told that a frame is on record."""
    max_message: ByteSize = ByteSize(512 * 1024 * 1024)
    """What the pixels of one frame may take, as they come and decoded; larger ones are not decoded."""
    max_rate: Annotated[float, Field(ge=1)] | None = 1000.0
    """Messages per second of one client (its key; without keys its address); more is refused. null: any."""
    open_without_authentication: bool = False
    """true: anyone who reaches the addresses may send frames and read verdicts."""

    @model_validator(mode="after")
    def _endpoints(self) -> Sockets:
        for name in SOCKETS:
            endpoint = getattr(self, name)
            if not re.match(r"^(tcp://[^:\s]+:\d+|tcp://\[[^\]]+\]:\d+|ipc://\S+)$", endpoint):
                raise ValueError(f"{name} must be tcp://HOST:PORT or ipc://PATH, got {endpoint!r}")
        return self


def is_local(endpoint: str) -> bool:
    """Whether only this machine reaches it."""
    if endpoint.startswith("ipc://"):
        return True
    return is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Security(Strict):
    """CURVE on every ZeroMQ socket."""

    key: str = "keys/station.key"
    """Where the station's secret key is: the path of a file with mode 0640 or stricter, `credential:NAME` or
    `env:NAME`.
    """
    clients: Path = Path("keys/clients.yaml")
    """File of who may connect, and as what. `inspector keys` writes it; it is read again as soon as it changes."""

    def anchor(self, folder: Path) -> Security:
        """The same settings, with relative paths resolved against `folder`."""
        return self.model_copy(update={"key": anchor_secret(self.key, folder), "clients": folder / self.clients})
