"""The journal thread: the one writer. Records wait while a commit is on its way to the disk and go with the next."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from inspector.config import Journal as JournalConfig
from inspector.config import Station
from inspector.errors import JournalError
from inspector.journal.events import Event
from inspector.journal.writer import Closing, Journal, OpenFrame
from inspector.service.flow.ledger import Ticket
from inspector.service.flow.upkeep import Upkeep
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.types import TakenFile

logger = logging.getLogger(__name__)

_MAX_BATCH = 4096
"""A commit's time is that of its way to the disk, whatever it holds: a slow disk must not fall behind."""
_RETRY_S = 0.5
"""How long after a failed write the next one is tried: a full disk must not cost the flow its time."""
_MAX_BACKLOG = 10_000
"""Published results, of about a kilobyte, that may wait for a disk that takes nothing."""
_MAX_EVENTS = 1000
"""That may wait for such a disk; more are dropped and counted like results."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A frame to record as open, and the files it came from; `recorded` is set once all are durable."""

    record: OpenFrame
    recorded: threading.Event | None = None
    files: tuple[TakenFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """Closings that are durable now, or could not be made so because of `error`."""

    closings: Sequence[Closing]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Late:
    """A closing whose result has been published: nobody waits for it."""

    closing: Closing


_Item: TypeAlias = Opening | Closing | _Late | Event | TakenFile


class Recorder(Part):
    """Writes openings and closings in the order they come, as many at once as wait (group commit)."""

    def __init__(
        self,
        journal: Journal,
        config: JournalConfig,
        *,
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Set `on_written` before the thread is started."""
        super().__init__("journal", health=health)
        self._journal = journal
        self.config = config
        self._metrics = metrics
        self.on_written: Callable[[Written], None] = lambda _: None
        self._waiting: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._backlog: deque[Closing] = deque()
        self._events: list[Event] = []
        self._files: list[TakenFile] = []
        self._unopened: dict[int, OpenFrame] = {}  # could not be recorded yet, and are not closed
        self._upkeep = Upkeep(journal, health=health, log=self._log)
        self._retry_at = 0.0
        self._is_displaced = False  # its files were not in their place, at the last look while nothing came
        self._is_empty = False  # nothing came, and nothing is owed, after it was asked to stop

    def open(self, ticket: Ticket, recorded: threading.Event | None = None) -> None:
        """Record an accepted frame; a frame may be judged meanwhile, since its closing goes after it."""
        self._waiting.put(Opening(ticket.to_record(), recorded, ticket.frame.files))

    def close(self, closing: Closing) -> None:
        """Record a verdict; `on_written` is called, in this thread, when it is durable or could not be."""
        self._waiting.put(closing)

    def close_late(self, closing: Closing) -> None:
        """Record a result that was published without waiting; kept until the disk takes it."""
        self._waiting.put(_Late(closing))

    def note(self, event: Event) -> None:
        """Record an event, before or with every verdict handed over later; kept until the disk takes it."""
        self._waiting.put(event)

    def note_file(self, file: TakenFile) -> None:
        """Record that a file is gone; kept until the disk takes it."""
        self._waiting.put(file)

    def stop(self) -> None:
        """Ask it to end once all it was handed is written; the caller joins."""
        super().stop()

    def reconfigure(self, station: Station) -> None:
        self.config = station.journal

    @property
    def is_done(self) -> bool:
        """Whether all it was handed before it was asked to stop is written."""
        return self._is_empty

    def write_rest(self) -> None:
        """Record what a thread that died left, in the caller's: else the next start answers those frames once more."""
        self._retry_at = 0.0  # the last chance, whatever failed a moment ago
        try:
            while batch := self._collect():
                self._write(batch)
            if self._owes:
                self._write(())
            self._upkeep.mark()
        except Exception:
            logger.exception("journal: the remaining rows were not recorded")

    def work(self) -> None:
        """All its steps; then what the disk did not take, once more."""
        super().work()
        self._retry_at = 0.0  # the last chance, whatever failed a moment ago
        while self._owes and time.monotonic() >= self._retry_at:
            self._write(())
        if self._owes:
            what = f"{len(self._backlog)} published results, {len(self._events)} events"
            logger.error("journal: not recorded: %s", what)
        self._upkeep.mark()

    def step(self) -> None:
        """Write what waits, in one commit."""
        stopping = self._stop_asked.is_set()
        batch = self._collect()
        if batch or (self._owes and time.monotonic() >= self._retry_at):
            self._write(batch)
        elif stopping:
            self._is_empty = True
            return
        else:
            self._look()
        self._upkeep.step(self.config, prune=not self._owes)

    @property
    def _owes(self) -> bool:
        return bool(self._backlog or self._events or self._files)

    def _collect(self) -> list[_Item]:
        batch: list[_Item] = []
        try:
            batch.append(self._waiting.get(timeout=0.05 if self._stop_asked.is_set() else 0.2))
            while len(batch) < _MAX_BATCH:
                batch.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _write(self, batch: Sequence[_Item]) -> None:
        openings = [item for item in batch if isinstance(item, Opening)]
        closings = [item for item in batch if isinstance(item, Closing)]
        self._keep([item.closing for item in batch if isinstance(item, _Late)])
        self._keep_events([item for item in batch if isinstance(item, Event)])
        self._keep_files(batch)
        late = [self._backlog[index] for index in range(min(len(self._backlog), _MAX_BATCH))]
        # A verdict and what was published instead of it may come in one batch: the verdict is the earlier one.
        self._unopened |= {item.record.number: item.record for item in openings}
        self._upkeep.note(closings)
        error = self._try(list(self._unopened.values()), [*closings, *late])
        if error is not None:
            for closing in closings:  # is about to be published all the same
                self._unopened.pop(closing.number or 0, None)
        else:
            self._unopened = {}
            self._events = []
            self._files = []
            for _ in late:
                self._backlog.popleft()
            for item in openings:
                if item.recorded is not None:
                    item.recorded.set()
        self._metrics.journal_backlog.set(len(self._backlog))
        if closings:
            self.on_written(Written(closings, error))

    def _try(self, openings: Sequence[OpenFrame], closings: Sequence[Closing]) -> str | None:
        """Write in one transaction; what went wrong, if anything did."""
        started = time.monotonic()
        if started < self._retry_at:
            return self._health.problem("journal") or "journal: failed a moment ago"
        try:
            self._journal.write(openings, closings, self._events, self._files)
        except JournalError as error:
            self._fail(error)
            return str(error)
        self._metrics.journal_commit.observe(time.monotonic() - started)
        self._health.report("journal", None)
        return None

    def _fail(self, error: JournalError) -> None:
        was_well = self._health.problem("journal") is None
        self._metrics.journal_errors.inc()
        self._log.warning("journal", str(error))
        self._health.report("journal", str(error))
        if was_well:
            self._upkeep.mark_now()  # its files may be gone, and the mark with them
        self._retry_at = time.monotonic() + _RETRY_S

    def _look(self) -> None:
        """While nothing comes: files that vanish are told before a frame is refused for them."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._journal.check_place()
        except JournalError as error:
            self._is_displaced = True
            self._fail(error)
        else:
            if self._is_displaced:
                self._is_displaced = False
                self._health.report("journal", None)

    def _keep(self, closings: Sequence[Closing]) -> None:
        self._backlog.extend(closings)
        while len(self._backlog) > _MAX_BACKLOG:
            self._backlog.popleft()
            self._metrics.journal_lost.inc()

    def _keep_events(self, events: Sequence[Event]) -> None:
        self._events += events
        self._metrics.journal_lost.inc(max(0, len(self._events) - _MAX_EVENTS))
        del self._events[:-_MAX_EVENTS]

    def _keep_files(self, batch: Sequence[_Item]) -> None:
        """In their order, beyond the verdict too: one that was answered is not judged after a restart."""
        for item in batch:
            if isinstance(item, Opening):
                self._files += item.files
            elif isinstance(item, TakenFile):
                self._files.append(item)
        del self._files[:-_MAX_BACKLOG]
