"""HTTP or HTTPS in one thread. However many clients come, and whatever they send or do not send, it answers the others.

Nothing here waits for a client: neither for a TLS handshake, nor for a request, nor for an answer to be taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from inspector.config import Http
from inspector.errors import ConfigError
from inspector.service.http.access import FailedLogins, HttpAccess, load_http_access
from inspector.service.http.pages import METHODS, Pages, Request, build_answer, parse_request
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""Open at once. For one more the oldest is closed: a scrape takes milliseconds, so the oldest wants none."""
DEADLINE_S = 10.0
"""From accept to the end of the answer, however slowly either side goes on."""
MAX_HEAD_BYTES = 16_384
_BACKLOG = 1024  # with few, a burst leaves none free: the next client waits a second
_LOOP_S = 0.2
_LINGER_S = 1.0
"""How long a client may still send, or take to say goodbye, once it has its answer."""
_GONE = {errno.ECONNABORTED, errno.EAGAIN, errno.EINTR}


class HttpThread(Part):
    """Serves /metrics, /live, /ready and /status until stopped."""

    is_vital = False

    def __init__(self, config: Http, *, registry: CollectorRegistry, health: Health, metrics: Metrics) -> None:
        """Bind; port 0 takes a free one, then in `port`.

        Raises:
            ConfigError: the address cannot be bound, or certificate, key or password cannot be used.
        """
        super().__init__("http", health=health)
        self._metrics = metrics
        self.use(load_http_access(config))
        self._pages = Pages(registry, health)
        self._failed = FailedLogins()
        self._open: dict[asyncio.Task[None], None] = {}  # the oldest first
        try:
            family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
            self._listener = socket.create_server((config.host, config.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            message = f"http: must be an address this process can bind, got {config.host}:{config.port}: {error}"
            raise ConfigError(message, field=("http", "port")) from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def use(self, access: HttpAccess) -> None:
        """Ask this of clients that come from now on."""
        self._access = access
        if access.expires_utc_s is not None:
            self._metrics.certificate_expiry.labels("http").set(access.expires_utc_s)

    def describe(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """From now on /status shows what this builds, the status message."""
        self._pages.describe(describe)

    def work(self) -> None:
        """Answer requests until stopped."""
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Stop, hang up on everyone, and release the port."""
        super().stop()
        if self.is_alive():
            self.join(2 * _LOOP_S + _LINGER_S)
        self._listener.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_note)
        loop.add_reader(self._listener, self._accept)
        while not self.is_done:
            self.beat()
            await asyncio.sleep(_LOOP_S)
            self._log.flush_due()
        loop.remove_reader(self._listener)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, address = self._listener.accept()
        except OSError as error:
            if error.errno not in _GONE:  # no descriptor is left, say: it would be tried at once, for ever
                self._log.warning("accept", f"cannot accept connections: {error}")
                loop.remove_reader(self._listener)
                loop.call_later(_LOOP_S, loop.add_reader, self._listener, self._accept)
            return
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
            self._refuse("full", f"{MAX_CONNECTIONS} connections are open, the oldest was closed")
        connection.setblocking(False)
        task = loop.create_task(self._attend(connection, address[0]))
        self._open[task] = None
        task.add_done_callback(lambda task: self._forget(task, connection))

    def _forget(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        self._open.pop(task, None)
        connection.close()  # for one that was cancelled before it began

    async def _attend(self, connection: socket.socket, address: str) -> None:
        """One connection, from accept to its end."""
        limit = asyncio.timeout(DEADLINE_S)
        try:
            async with limit:
                await self._converse(connection, address)
        except OSError as error:  # it went away; a TimeoutError is one, too
            _let_go(error)
            if limit.expired():
                self._refuse("timeout", f"{address} was not answered within {DEADLINE_S:g} s")
            else:
                logger.debug("http: %s: %s", address, error)
        except asyncio.CancelledError as error:
            _let_go(error)
            raise
        except Exception as error:  # noqa: BLE001 (this client's connection ends, the others' go on)
            self._log.warning("failed", f"{address} was not answered: {error!r}")

    async def _converse(self, connection: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(MAX_HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        tls = self._access.tls
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=tls, ssl_shutdown_timeout=_LINGER_S if tls else None
            )
        except OSError as error:
            self._refuse("handshake", f"{address}: TLS handshake failed: {str(error) or 'the client disconnected'}")
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._answer(reader, writer, address)
        finally:
            transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # it had no question
        except asyncio.LimitOverrunError:
            writer.write(self._refuse("size", f"{address} sent more than {MAX_HEAD_BYTES} bytes of headers", 431))
            # What is left unread when the connection is closed would take the answer with it.
            if writer.can_write_eof():  # not with TLS
                writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while await reader.read(MAX_HEAD_BYTES):
                        pass
        else:
            writer.write(self._respond(head, address))
        writer.close()
        await writer.wait_closed()

    def _respond(self, head: bytes, address: str) -> bytes:
        try:
            request = parse_request(head)
        except ValueError as error:
            return self._refuse("request", f"{address} did not send a valid HTTP request: {error}", 400)
        refusal = self._check_login(request, address)
        if refusal is not None:
            return refusal
        if request.method not in METHODS:
            what = f"{address} used the method {request.method!r:.20}"
            return self._refuse("method", what, 405, ("Allow", ", ".join(METHODS)))
        return self._pages.answer(request)

    def _check_login(self, request: Request, address: str) -> bytes | None:
        if self._access.login is None:
            return None
        if request.authorization and self._failed.must_wait(address):
            return self._refuse("throttled", f"{address} failed to log in too often", 429, ("Retry-After", "1"))
        if self._access.allows(request.authorization):
            return None
        if request.authorization:
            self._failed.add(address)
        challenge = ("WWW-Authenticate", 'Basic realm="inspector", charset="UTF-8"')
        what = "sent a wrong user name or password" if request.authorization else "sent no user name and password"
        return self._refuse("authentication", f"{address} {what}", 401, challenge)

    def _refuse(self, cause: str, message: str, status: int = 400, *headers: tuple[str, str]) -> bytes:
        """Count and log a refusal; the answer, for where one can be given."""
        self._metrics.http_requests_refused.labels(cause).inc()
        self._log.warning(cause, f"refused: {message}")
        return build_answer(status, b"", *headers)


def _note(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """A client that broke off is no news; by default each leaves a traceback."""
    del loop
    logger.debug("http: %s", context.get("message"), exc_info=context.get("exception"))


def _let_go(error: BaseException) -> None:
    """Free the connection that broke off: asyncio's frames hold it and the error, and the error's traceback holds them.

    Over TLS each has a buffer of 256 KiB. Python would free it when it looks through its oldest objects: that comes so
    seldom in this process that a flood of connections took 300 MB.
    """
    traceback.clear_frames(error.__traceback__)
