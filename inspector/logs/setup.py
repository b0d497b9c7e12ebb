"""Setting up what is written: to stderr, where systemd's journal or a terminal reads."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from types import TracebackType
from typing import TextIO

from inspector.logs.lines import Format, LineFormatter
from inspector.logs.ring import Ring

logger = logging.getLogger(__name__)

_OURS = logging.getLogger("inspector")


class _Stderr(logging.Handler):
    """Writes each record whole to whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 (as every handler of the standard library)
            self.handleError(record)


_verbose = False
"""Whether the command line asked for debug lines: it outranks the station file."""


def set_up(
    *,
    format: Format = "text",
    level: str = "info",
    ring: int = 0,
    station: str | None = None,
    verbose: bool = False,
) -> None:
    """Write log lines from now on like this; called again, it replaces what was said before.

    Args:
        format: see `LineFormatter`.
        level: debug, info or warning: the least that is written of our own; of other libraries, warnings.
        ring: how many of the lines below `level` are kept for `dump_ring`.
        station: the station's name, for keyvalue and JSON lines.
        verbose: write debug lines, whatever `level` is, here and in later calls.
    """
    global _verbose  # noqa: PLW0603 (a process has one log)
    _verbose = _verbose or verbose
    shown = logging.DEBUG if _verbose else logging.getLevelNamesMapping()[level.upper()]
    journal = _is_journal()
    stderr = _Stderr(shown)
    stderr.setFormatter(LineFormatter(format, journal=journal, station=station))
    before = _find_ring()
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, _Stderr)] + [stderr]
    root.setLevel(logging.WARNING)
    _OURS.handlers = [each for each in _OURS.handlers if not isinstance(each, Ring)]
    _OURS.setLevel(shown)
    if ring:
        kept = Ring(ring, below=shown, kept=before)
        kept.setFormatter(LineFormatter(format, journal=journal, station=station, timed=True))
        _OURS.addHandler(kept)
        _OURS.setLevel(logging.DEBUG)


def dump_ring() -> None:
    """Write the lines that the ring has kept, if there is one."""
    ring = _find_ring()
    if ring is not None and len(ring):
        logger.info("the last lines below this log's level follow, oldest first")
        ring.dump()


def log_unforeseen() -> None:
    """Log what Python would write to stderr by itself: warnings, and exceptions nobody handles, then the ring."""
    warnings.showwarning = _log_warning
    sys.excepthook = _log_unhandled
    threading.excepthook = _log_unhandled_in_thread


def _is_journal() -> bool:
    """Whether stderr is the journal's, by systemd.exec(5): $JOURNAL_STREAM is its device and inode."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _find_ring() -> Ring | None:
    return next((each for each in _OURS.handlers if isinstance(each, Ring)), None)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    logging.getLogger("py.warnings").warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)


def _log_unhandled(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logger.critical("unhandled error: %s", kind.__name__, exc_info=(kind, error, traceback))
    dump_ring()


def _log_unhandled_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit and arguments.exc_value is not None:
        _log_unhandled(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
