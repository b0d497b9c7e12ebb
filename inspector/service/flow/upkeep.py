"""What the journal's thread does between two writes: it deletes what is old and notes how far the journal has come."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from inspector.config import Journal as JournalConfig
from inspector.errors import JournalError
from inspector.journal.mark import MARGIN
from inspector.journal.writer import Closing, Journal
from inspector.service.flow.retention import Retention
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.rate_limit import RateLimitedLog

logger = logging.getLogger(__name__)

_PRUNE_EVERY_S = 60.0
_PRUNE_ROWS = 500
_MARK_EVERY_S = 10.0
_MARK_EVERY = MARGIN // 2
"""Results; with `_MARK_EVERY_S` what keeps a camera's numbers within `MARGIN` of its mark."""
_COMPONENT = "journal mark"


class Upkeep:
    """Prunes the journal and writes its mark. Not thread-safe: used by the thread of the journal only."""

    def __init__(
        self, journal: Journal, *, health: Health, log: RateLimitedLog, retention: Retention | None = None
    ) -> None:
        """Sequence numbers continue from `Journal.last_seqs`."""
        self._journal = journal
        self._health = health
        self._log = log
        self._retention = retention or Retention()
        self._given = journal.last_seqs()
        self._unmarked = len(self._given)  # results since the mark was written; at a start it may not be there
        self._next_mark = self._next_prune = time.monotonic()

    def note(self, closings: Sequence[Closing]) -> None:
        """These numbers were given, whatever the disk made of them."""
        for result in (closing.result for closing in closings):
            self._given[result.camera] = max(result.seq, self._given.get(result.camera, 0))
        self._unmarked += len(closings)

    def step(self, config: JournalConfig, *, prune: bool) -> None:
        """Do what is due, a little at a time: verdicts may be waiting. `prune`: also delete what is old."""
        if time.monotonic() >= self._next_mark or self._unmarked >= _MARK_EVERY:
            self.mark()
        if prune and time.monotonic() >= self._next_prune:
            self._prune(config)

    def mark(self) -> None:
        """Write the mark, where anything came since; one that cannot be written holds up no verdict."""
        self._next_mark = time.monotonic() + _MARK_EVERY_S
        if not self._unmarked and self._health.problem(_COMPONENT) is None:
            return
        self.mark_now()

    def mark_now(self) -> None:
        """Write the mark: the files may be gone, and the next start must not give their numbers again."""
        try:
            self._journal.write_mark(self._given)
        except JournalError as error:
            if self._health.problem("journal") is None:  # else that says it
                self._log.warning(_COMPONENT, str(error))
                self._health.report(_COMPONENT, str(error), blocks=False)
            return
        self._unmarked = 0
        self._health.report(_COMPONENT, None)

    def _prune(self, config: JournalConfig) -> None:
        now, gone = time.monotonic(), 0
        try:
            rows = self._journal.count_rows()
            old = self._retention.find_limit(config.keep_days, rows, now_s=now, utc_ns=time.time_ns())
            gone = self._journal.prune(
                before_utc_ns=None if old is None else old.before_utc_ns,
                older_limit=None if old is None else old.rows,
                max_bytes=config.max_bytes,
                limit=_PRUNE_ROWS,
            )
            self._retention.spend(gone)
        except JournalError as error:
            self._log.warning("prune", str(error))
        self._next_prune = now + (_PRUNE_EVERY_S if gone < _PRUNE_ROWS else 1.0)
