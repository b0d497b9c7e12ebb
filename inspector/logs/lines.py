"""A log record as lines for people, for logfmt or as JSON; what it says can forge no line and show no secret."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Literal

from inspector.secret import mask_secrets

Format = Literal["text", "keyvalue", "json"]

_LONGEST = 2000
"""Characters of a message or a field; journald cuts lines after 48 KiB, and the rest would be a line of its own."""
_LONGEST_TRACEBACK = 8000
_NOT_OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


class LineFormatter(logging.Formatter):
    """Makes each record one line; in text, a traceback adds lines of its own, indented."""

    def __init__(self, style: Format, *, journal: bool, station: str | None = None, timed: bool | None = None) -> None:
        """Set the format.

        Args:
            style: text for people, keyvalue for logfmt, json for machines.
            journal: whether systemd's journal reads: each line says its priority, as `<4>` (sd-daemon(3)).
            station: stated in each keyvalue or JSON line.
            timed: whether text and keyvalue lines state a time; by default where no journal does.
        """
        super().__init__()
        self._journal = journal
        self._always = {"station": station} if station else {}
        self._timed = (style == "json" or not journal) if timed is None else timed
        self._write = {"text": self._write_text, "keyvalue": self._write_keyvalue, "json": self._write_json}[style]

    def format(self, record: logging.LogRecord) -> str:
        """The record's line or lines, without a newline at the end."""
        lines = self._write(record)
        if self._journal:
            priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
            lines = [f"<{priority}>{line}" for line in lines]
        return "\n".join(lines)

    def _write_text(self, record: logging.LogRecord) -> list[str]:
        milliseconds = int(record.msecs)
        at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))},{milliseconds:03d} "
        head = f"{record.levelname} {escape(record.threadName or '')} {escape(clean(record.getMessage()))}"
        return [
            f"{at if self._timed else ''}{head}",
            *(f"    {escape(line)}" for line in self._read_traceback(record).splitlines()),
        ]

    def _write_keyvalue(self, record: logging.LogRecord) -> list[str]:
        return [" ".join(f"{key}={quote(value)}" for key, value in self._read(record).items())]

    def _write_json(self, record: logging.LogRecord) -> list[str]:
        return [_dump(self._read(record))]

    def _read(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line states, in order; a field that a call gives replaces none of ours."""
        milliseconds = int(record.msecs)
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{milliseconds:03d}Z"
        fields: dict[str, Any] = {"time": at} if self._timed else {}
        fields |= {
            "level": record.levelname.lower(),
            "thread": record.threadName,
            "logger": record.name,
            "message": clean(record.getMessage()),
            **self._always,
        }
        for key, value in vars(record).items():
            if key not in _NOT_OURS and key not in fields and value is not None:
                fields[key] = value if isinstance(value, bool | int | float) else clean(str(value))
        traceback = self._read_traceback(record)
        return fields | {"exception": traceback} if traceback else fields

    def _read_traceback(self, record: logging.LogRecord) -> str:
        text = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        return clean("\n".join(filter(None, (text, record.stack_info))), keep_end=_LONGEST_TRACEBACK)


def clean(text: str, *, keep_end: int = 0) -> str:
    """The text without secrets and not too long: its beginning, or its last `keep_end` characters."""
    text = mask_secrets(text)
    if keep_end:
        return text if len(text) <= keep_end else f"… {text[-keep_end:]}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def escape(text: str) -> str:
    """The text with all that is no printable character written as Python does: a newline as \\n."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def quote(value: object) -> str:
    """A value of a logfmt line: bare where it is one plain word, else in double quotes, escaped as in JSON."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and text.isprintable() and not any(each in text for each in ' "=\\'):
        return text
    return _dump(text)


def _dump(value: object) -> str:
    """JSON without whatever a reader may take for the end of a line; in ASCII where that takes it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
