"""/metrics, /live and /ready over HTTP, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from inspector.errors import ConfigError
from inspector.service.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # of five, the default, a burst leaves none: the next waits a second

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or never asked is no news; by default each leaves a traceback."""
        del request
        logger.debug("http: client %s", client_address, exc_info=True)


class _SilentHandler(WSGIRequestHandler):
    timeout = 10  # a client that sends nothing does not hold its thread for ever

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


class HttpThread(threading.Thread):
    """Serves until stopped."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        """Bind; port 0 takes a free one, then in `port`.

        Raises:
            ConfigError: the address cannot be bound.
        """
        super().__init__(name="http", daemon=True)
        app = _build_app(registry, health)
        try:
            self._server = make_server(host, port, app, _Server, _SilentHandler)
        except OSError as error:
            message = f"http: must be an address this process can bind, got {host}:{port}: {error}"
            raise ConfigError(message, field=("http", "port")) from error
        self.port = self._server.server_port

    def run(self) -> None:
        """Until stopped."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Stop and release the port."""
        if self.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _build_app(
    registry: CollectorRegistry, health: Health
) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)
    checks = {"/live": health.live, "/ready": health.ready}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        check = checks.get(path)
        if check is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics /live /ready\n"]
        good, why = check()
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{why}\n".encode()]

    return app
