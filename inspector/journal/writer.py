"""The journal: every verdict in SQLite (WAL) before it is published. Used by one thread.

Append-only: a row is never changed, only pruned when it is the oldest, and each carries a running hash over all before.
Beside the verdicts are events: who changed what they are made with.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from inspector.journal.database import JournalFile
from inspector.journal.events import Event, Kind, append_events, prune_events, read_last_judged
from inspector.journal.mark import MARGIN, Mark, read_mark, write_mark
from inspector.journal.pruning import count_prunable, delete_oldest, shrink
from inspector.journal.reader import read_results
from inspector.journal.schema import INSERT_RESULT, compute_hash, read_meta, write_meta
from inspector.journal.taken import read_taken, store_taken
from inspector.types import FileVersion, Result, TakenFile

__all__ = ["Closing", "Journal", "OpenFrame", "read_results"]

# One step down the index per camera, where GROUP BY reads all of it.
_LAST_SEQS = """
WITH RECURSIVE cameras(camera) AS (
    SELECT MIN(camera) FROM results
    UNION ALL
    SELECT (SELECT MIN(camera) FROM results WHERE camera > cameras.camera) FROM cameras WHERE camera IS NOT NULL
)
SELECT camera, (SELECT MAX(seq) FROM results WHERE camera = cameras.camera) FROM cameras WHERE camera IS NOT NULL
"""
_SKIP = "INSERT INTO pruned_seqs VALUES (?, ?) ON CONFLICT (camera) DO UPDATE SET seq = MAX(seq, excluded.seq)"
_FINAL = "SELECT n, json FROM results WHERE camera = ? AND seq = ? ORDER BY n DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """An accepted frame that owes its verdict: all that is needed to answer it after a restart.

    Attributes:
        number: unique among open frames. A trigger and then its frame have the same.
    """

    number: int
    camera: str
    frame_id: str
    part_id: str | None
    trigger_id: str | None
    captured_utc_ns: int
    received_utc_ns: int
    deadline_ms: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Closing:
    """The verdict on a frame.

    Attributes:
        number: of the open frame it closes; None where it was never on record as open.
        amends: this camera and seq are on record already, and this is what was published instead.
    """

    number: int | None
    result: Result
    amends: bool = False


class Journal:
    """Appends results; `seq` goes on from where the last run ended, so that a gap is always a loss."""

    def __init__(self, path: Path) -> None:
        """Open or make it; a file of an earlier version is brought to the present one.

        Raises:
            JournalError: the file cannot be made, is no journal, is damaged or older than its mark, or a later version
                of this program wrote it.
        """
        self._path = path
        self._mark = read_mark(path)
        self._file = JournalFile(path, self._mark)

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._file.connection

    def last_seqs(self) -> dict[str, int]:
        """The last sequence number of each camera, results pruned or lost included.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._file.reading():
            pruned = dict(self._connection.execute("SELECT camera, seq FROM pruned_seqs"))
            kept = dict(self._connection.execute(_LAST_SEQS))
        return {camera: max(kept.get(camera, 0), pruned.get(camera, 0)) for camera in (*pruned, *kept)}

    def skip_lost(self, boot_id: str) -> list[Event]:
        """Go on above the numbers that the mark knows of and the journal does not, and put that on record.

        It does not know them where it was deleted, or is an older copy: no number is given twice.

        Returns:
            An event for each such camera, with the numbers that are not on record.

        Raises:
            JournalError: it cannot be written, and no number may be given.
        """
        mark, known = self._mark, self.last_seqs()
        lost = {} if mark is None else {name: seq for name, seq in mark.seqs.items() if seq > known.get(name, 0)}
        if mark is None or not lost:
            return []
        ends = {camera: seq + MARGIN for camera, seq in lost.items()}
        reason = f"an older copy, accepted by {mark.accepted_by}" if mark.accepted_by else "no longer in the journal"
        events = [
            Event(time.time_ns(), boot_id, Kind.JOURNAL, camera, "station", "lost",
                  {"from_seq": known.get(camera, 0) + 1, "to_seq": end, "reason": reason})
            for camera, end in ends.items()
        ]  # fmt: skip
        with self._file.transaction():
            self._connection.executemany(_SKIP, ends.items())
            append_events(self._connection, events)
        self.write_mark(known | ends)
        return events

    def last_results(self) -> dict[str, dict[str, Any]]:
        """What was published last of each camera that has results on record: the highest seq, as on the wire.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._file.reading():
            lasts = self._connection.execute(_LAST_SEQS).fetchall()
            finals = {camera: self._connection.execute(_FINAL, (camera, seq)).fetchone() for camera, seq in lasts}
            return {camera: json.loads(text) for camera, (_, text) in finals.items()}

    def open_frames(self) -> list[OpenFrame]:
        """Frames whose verdict is not on record, by number.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._file.reading():
            rows = self._connection.execute("SELECT * FROM open_frames ORDER BY number").fetchall()
        return [replace(OpenFrame(*row), simulated=bool(row[-1])) for row in rows]

    def last_judged(self) -> dict[str, dict[str, Any] | None]:
        """What each camera was judged with last according to the events: `new` of its last switch, None: nothing.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._file.reading():
            return read_last_judged(self._connection)

    def taken_files(self) -> dict[str, dict[str, FileVersion]]:
        """The files that became frames, by camera and name; raises as `last_seqs` does."""
        with self._file.reading():
            return read_taken(self._connection)

    def write(
        self,
        opened: Sequence[OpenFrame],
        closings: Sequence[Closing],
        events: Sequence[Event] = (),
        files: Sequence[TakenFile] = (),
    ) -> None:
        """Put frames accepted, the files they came from, verdicts and events on record in one transaction.

        On return they are durable.

        A frame opened and closed in the same write is never stored as open; an amending closing of what is not on
        record is stored as a plain one.

        Raises:
            JournalError: none of it was written.
        """
        if not opened and not closings and not events and not files:
            return
        closed = {closing.number for closing in closings if closing.number is not None}
        still_open = [astuple(frame) for frame in opened if frame.number not in closed]
        with self._file.transaction():
            execute_many = self._connection.executemany
            # Or replace: a write that failed as its files went may be there all the same.
            execute_many("INSERT OR REPLACE INTO open_frames VALUES (?,?,?,?,?,?,?,?,?)", still_open)
            # All of them: a trigger on record may come again, as its frame, with its closing.
            execute_many("DELETE FROM open_frames WHERE number = ?", [(number,) for number in closed])
            if closings:
                rows = self._chain(closings)
                execute_many(INSERT_RESULT, rows)
                write_meta(self._connection, "head", (rows[-1][0], rows[-1][-1]))
            append_events(self._connection, events)
            store_taken(self._connection, files)

    def append(self, results: Sequence[Result]) -> None:
        """Put verdicts on record that close no frame on record.

        Raises:
            JournalError: none of them was written.
        """
        self.write((), [Closing(None, result) for result in results])

    def prune(
        self, *, before_utc_ns: int | None, max_bytes: int | None, limit: int = 5000, older_limit: int | None = None
    ) -> int:
        """Delete the oldest results: those published before an instant, and what makes the file too large.

        Oldest is what was written first: a row stamped later than `before_utc_ns` keeps all rows after it, whatever
        their clock said, until the file is too large.

        Args:
            before_utc_ns: results published before it go; None: age does not count.
            max_bytes: of the file without its free pages and log; None: size does not count.
            limit: most rows to delete in this call, and most pages to give back to the file system.
            older_limit: most rows to delete for their age alone; None: no other limit.

        Returns:
            How many rows went; `limit` where more may be due.

        Raises:
            JournalError: nothing was deleted.
        """
        with self._file.transaction():
            count = count_prunable(self._connection, before_utc_ns, older_limit, max_bytes, limit)
            if count > 0:
                delete_oldest(self._connection, count)
            prune_events(self._connection, limit)
        if count > 0:
            shrink(self._connection, limit)
            self._file.check_place(wrote=True)
        return count

    def count_rows(self) -> int:
        """How many rows of results there are.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._file.reading():
            return read_meta(self._connection, "head")[0] - read_meta(self._connection, "anchor")[0]

    def check_place(self) -> None:
        """See that its files are where they were; see `JournalFile`.

        Raises:
            JournalError: they are not, and nothing can be put on record.
        """
        self._file.check_place()

    def write_mark(self, seqs: Mapping[str, int]) -> None:
        """Note how far it has come, in a file beside it; nothing where another journal took its place.

        Args:
            seqs: the last number that each camera was given, on record or not.

        Raises:
            JournalError: it cannot be read, or the mark not be written.
        """
        if not self._file.is_supplanted:
            with self._file.reading():
                head = read_meta(self._connection, "head")
            write_mark(self._path, Mark(*head, seqs))

    def close(self) -> None:
        """Close it; the WAL is folded into the file."""
        self._connection.close()

    def _chain(self, closings: Sequence[Closing]) -> list[tuple[Any, ...]]:
        """The rows of `results` that follow the head, each with its hash."""
        n, hash_ = read_meta(self._connection, "head")
        written: dict[tuple[str, int], int] = {}  # in this batch
        rows = []
        for closing in closings:
            n += 1
            key = (closing.result.camera, closing.result.seq)
            amended = (written.get(key) or self._find_final(*key)) if closing.amends else None
            row = (n, *_columns(closing.result), amended)
            hash_ = compute_hash(hash_, row)
            rows.append((*row, hash_))
            written[key] = n
        return rows

    def _find_final(self, camera: str, seq: int) -> int | None:
        """Number of the last row on a result."""
        found = self._connection.execute(_FINAL, (camera, seq)).fetchone()
        return None if found is None else int(found[0])


def _columns(r: Result) -> tuple[Any, ...]:
    """A row without `n`, `amends` and `hash`, its values as SQLite gives them back: NaN is NULL there, -0.0 is 0.0."""
    score = None if r.score is None or math.isnan(r.score) else r.score + 0.0
    return (r.camera, r.seq, r.boot_id, r.frame_id, r.part_id, r.verdict.value, int(r.reason), score,
            r.published_utc_ns, json.dumps(r.to_wire()))  # fmt: skip
