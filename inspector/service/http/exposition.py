"""/metrics: the registry as text, written anew for a scraper, but not for each of a hundred a second."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, gzip_accepted

_SHARE = 0.03
"""Of one core that writing may take at most: text serves until it has paid for itself (2 ms: for 70 ms)."""
_KEEP_AT_MOST_S = 1.0

Headers = tuple[tuple[str, str], ...]


class KeptText:
    """A text that is written anew when asked for, but only once the last one has paid for itself."""

    def __init__(self, write: Callable[[], bytes]) -> None:
        self._write = write
        self._text = b""
        self._serves_until = 0.0

    def read(self) -> bytes:
        """The same object for as long as it serves."""
        if time.monotonic() >= self._serves_until:
            started = time.thread_time()
            self._text = self._write()
            self._serves_until = time.monotonic() + min(_KEEP_AT_MOST_S, (time.thread_time() - started) / _SHARE)
        return self._text


class Exposition:
    """Used by one thread. A text is as the station was at one instant, however old: its account balances."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._text = KeptText(lambda: generate_latest(registry))
        self._gzipped = self._gzipped_of = b""

    def answer(self, accept_encoding: str) -> tuple[bytes, Headers]:
        """Body and headers (text format 0.0.4), gzipped where the request's Accept-Encoding allows it."""
        text = self._text.read()
        kind = ("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        if not gzip_accepted(accept_encoding):
            return text, (kind,)
        if text is not self._gzipped_of:
            self._gzipped, self._gzipped_of = gzip.compress(text, compresslevel=1), text
        return self._gzipped, (kind, ("Content-Encoding", "gzip"))
