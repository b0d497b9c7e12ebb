"""What the program writes to stderr, line by line, and the ring of debug lines that it writes only when asked."""

from __future__ import annotations

from inspector.logs.setup import dump_ring, log_unforeseen, set_up

__all__ = ["dump_ring", "log_unforeseen", "set_up"]
