"""What is answered to an HTTP request: /metrics, /live, /ready and /status. Bytes in, bytes out."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from inspector.service.http.exposition import Exposition
from inspector.service.http.status_page import HEADERS, StatusPage
from inspector.service.telemetry.health import Health

METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    method: str
    path: str
    accept_encoding: str
    authorization: str


def parse_request(head: bytes) -> Request:
    """Read request line and headers, up to the empty line (RFC 9112).

    Raises:
        ValueError: it is none.
    """
    line, _, rest = head.partition(b"\r\n")
    method, target, version = line.decode("ascii").split(" ")
    if version not in {"HTTP/1.0", "HTTP/1.1"}:
        raise ValueError(f"version: must be HTTP/1.0 or HTTP/1.1, got {version!r:.20}")
    try:
        headers = parse_headers(io.BytesIO(rest))
    except HTTPException as error:
        raise ValueError(f"headers: {error}") from error
    return Request(
        method,
        urlsplit(target).path,
        headers.get("Accept-Encoding", ""),
        headers.get("Authorization", ""),
    )


def build_answer(status: int, body: bytes, *headers: tuple[str, str], head_only: bool = False) -> bytes:
    """A whole answer; the connection ends with it. Text, where `headers` do not say otherwise."""
    kind = () if any(name == "Content-Type" for name, _ in headers) else (("Content-Type", "text/plain"),)
    fields = (*kind, *headers, ("Content-Length", str(len(body))), ("Connection", "close"))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head_only else body)


class Pages:
    """The four pages. /status is there once `describe` was called."""

    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        self._metrics = Exposition(registry)
        self._ready = health.ready
        self._checks: dict[str, Callable[[], tuple[bool, str]]] = {"/live": health.live, "/ready": health.ready}
        self._status: StatusPage | None = None

    def describe(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """From now on /status shows what this builds, the status message."""
        self._status = StatusPage(describe, self._ready)

    def answer(self, request: Request) -> bytes:
        """The page that a GET or HEAD asks for."""
        head_only = request.method == "HEAD"
        if request.path == "/metrics":
            body, headers = self._metrics.answer(request.accept_encoding)
            return build_answer(200, body, *headers, head_only=head_only)
        if request.path == "/status" and self._status is not None:
            return build_answer(200, self._status.answer(), *HEADERS, head_only=head_only)
        check = self._ready if request.path == "/status" else self._checks.get(request.path)
        if check is None:
            return build_answer(404, b"/metrics /live /ready /status\n", head_only=head_only)
        good, why = check()
        text = ("Content-Type", "text/plain; charset=utf-8")
        return build_answer(200 if good else 503, f"{why}\n".encode(), text, head_only=head_only)
