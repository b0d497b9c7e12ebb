"""The authenticator: says who may connect (ZAP, https://rfc.zeromq.org/spec/27/), and counts who may not.

Its sockets stay open when it dies or is stopped: a handshake that nobody answers fails, and lets no one in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from inspector.security.gate import SOCKET_ROLES, AllowList
from inspector.security.sockets import monitor_endpoint
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_LOOK_S = 1.0
"""How often the list is looked at where nobody connects; at each handshake besides."""
_PROTOCOL_CAUSES: Mapping[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "mechanism",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "cryptography",
}
_EXPLANATIONS: Mapping[str, str] = {
    "mechanism": "it does not use a key",
    "cryptography": "it has the key of another station, or replays a recorded handshake",
    "protocol": "it does not follow the protocol",
    "incomplete": "it disconnected or stopped sending before it identified itself",
}


class Authenticator(Part):
    """Answers libzmq's question about each client's key, from the list of clients as it is at that moment."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        allow_list: AllowList,
        *,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Make it, before any socket is bound with a key."""
        super().__init__("authenticator", health=health)
        self._allow_list = allow_list
        self._metrics = metrics
        self._next_look = 0.0
        self._poller = zmq.Poller()
        self._zap = context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind(_ZAP_ENDPOINT)
        self._poller.register(self._zap, zmq.POLLIN)
        self._monitors: dict[zmq.Socket[bytes], str] = {}
        for name in SOCKET_ROLES:
            monitor = context.socket(zmq.PAIR)
            monitor.rcvhwm = 0  # libzmq's own thread waits where this is full, and all sockets with it
            monitor.linger = 0
            monitor.connect(monitor_endpoint(name))
            self._poller.register(monitor, zmq.POLLIN)
            self._monitors[monitor] = name

    def close(self) -> None:
        """Close its sockets, once it has ended and those it guards are closed."""
        for socket in (self._zap, *self._monitors):
            socket.close()

    def step(self) -> None:
        """Answer who connects, and look whether the list changed."""
        if time.monotonic() >= self._next_look:
            self._look_at_list()
        for socket, _ in self._poller.poll(200):
            if socket is self._zap:
                self._answer()
            else:
                self._note_failure(self._monitors[socket], socket)

    def _look_at_list(self) -> None:
        self._next_look = time.monotonic() + _LOOK_S
        problem = self._allow_list.refresh()
        if problem is not None:
            self._log.error("list", f"the list of clients is not valid, the last valid list stays in use: {problem}")
        self._health.report("clients", problem, blocks=False)
        oldest = self._allow_list.oldest_key()
        self._metrics.oldest_key.set(float("nan") if oldest is None else oldest)

    def _answer(self) -> None:
        """One request of libzmq's: version, id, domain, address, routing id, mechanism, the client's public key."""
        version, number, domain, address, _, _, public_key = self._zap.recv_multipart()
        self._look_at_list()
        socket = domain.decode()
        key = z85.encode(public_key).decode()
        client = self._allow_list.find_key(key)
        if client is None:
            cause, why = "unknown", f"its public key {key} is not on the list of clients"
        elif client.is_revoked:
            cause, why = "revoked", f"the key of {client.name} is revoked"
        elif SOCKET_ROLES[socket].isdisjoint(client.roles):
            wanted = " or ".join(sorted(SOCKET_ROLES[socket]))
            cause, why = "role", f"{client.name} is {', '.join(client.roles)}, must be {wanted}"
        else:
            self._zap.send_multipart([version, number, b"200", b"OK", client.name.encode(), b""])
            return
        self._zap.send_multipart([version, number, b"400", cause.encode(), b"", b""])
        self._count(socket, cause, f"a client at {address.decode() or 'this machine'}", why)

    def _note_failure(self, name: str, monitor: zmq.Socket[bytes]) -> None:
        """A handshake that failed before the key was known; libzmq does not say whose it was."""
        event = parse_monitor_message(monitor.recv_multipart())
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            cause = _PROTOCOL_CAUSES.get(event["value"], "protocol")
        elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            cause = "incomplete"
        else:
            return  # the socket is closed
        self._count(name, cause, "a client", _EXPLANATIONS[cause])

    def _count(self, socket: str, cause: str, who: str, why: str) -> None:
        self._metrics.handshakes_refused.labels(socket, cause).inc()
        self._log.warning(f"{socket} {cause}", f"sockets.{socket}: {who} was refused: {why}")
