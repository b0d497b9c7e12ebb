"""The last lines that were too small to write, kept unformatted: what one would have liked to see when it broke."""

from __future__ import annotations

import logging
import sys
from collections import deque

_DUMP_CHARACTERS = 262_144
_PLAIN = {str, int, float, bool, type(None)}


class Ring(logging.Handler):
    """Keeps records below a level; adding one takes no lock and formats nothing."""

    def __init__(self, size: int, *, below: int, kept: Ring | None = None) -> None:
        """Make it for `size` records `below` that level, which are written elsewhere; with what another has `kept`."""
        super().__init__()
        self._below = below
        self._records: deque[logging.LogRecord] = deque(kept._records if kept is not None else (), maxlen=size)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._records)

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep it; not `emit`, before which there would be a lock that a slow stderr may hold."""
        if record.levelno < self._below:
            if record.exc_info or not _PLAIN.issuperset(map(type, record.args or ())):
                record = _freeze(record)
            self._records.append(record)
        return True

    def dump(self) -> None:
        """Write what is kept to stderr, the oldest first, and forget it; the last 256 KiB where it is more."""
        lines: list[str] = []
        room = _DUMP_CHARACTERS
        records = self._records.copy()  # in one piece: other threads go on adding
        self._records.clear()
        for record in reversed(records):
            line = self.format(record)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        if lines:
            sys.stderr.write("\n".join([*reversed(lines), ""]))
            sys.stderr.flush()


def _freeze(record: logging.LogRecord) -> logging.LogRecord:
    """The same as text: what is no plain value may hold on to pixels, as an exception does through its frames."""
    attributes = vars(record) | {"msg": record.getMessage(), "args": None}
    if record.exc_info:
        attributes |= {"exc_text": logging.Formatter().formatException(record.exc_info), "exc_info": None}
    return logging.makeLogRecord(attributes)
