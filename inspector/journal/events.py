"""Events in the journal: who changed what a camera is judged with, and when; starts and stops of the station.

Append-only, with a running hash of their own: they stay when the results around them are pruned.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from inspector.journal.reader import open_reader
from inspector.journal.schema import EVENT_COLUMNS, INSERT_EVENT, compute_hash, has_events, read_meta, write_meta

MAX_EVENTS = 100_000
"""Kept, whatever their age; with more the oldest go. About 50 MB, and many years of a line that is let work."""

_MAX_TEXT = 2000  # of a reason
_LAST_JUDGED = "SELECT camera, json, MAX(n) FROM events WHERE kind = 'recipe' AND outcome = 'switched' GROUP BY camera"


class Kind(StrEnum):
    """What an event is about."""

    START = "start"
    STOP = "stop"
    DRAIN = "drain"
    RECIPE = "recipe"
    RELOAD = "reload"
    CAMERA = "camera"
    JOURNAL = "journal"


OUTCOMES: Mapping[Kind, Mapping[str, str]] = {
    Kind.START: {"started": "The station started. `version`: of the program."},
    Kind.STOP: {
        "stopped": "It was stopped, by a signal or by a drain that somebody asked for.",
        "refused": "It could not start: a recipe cannot be used. `reason`: why.",
        "fault": "It ended over a fault. `reason`: which. A start without a stop before it was a kill or a power cut.",
    },
    Kind.DRAIN: {"asked": "Somebody asked the station to drain and stop."},
    Kind.RECIPE: {
        "switched": "A camera is judged with another recipe from now on. `old`, `new`: before and after, null: none; "
        "each with `folder`, `recipe_id`, `recipe_sha256`, `model_sha256`, `threshold`.",
        "refused": "A recipe or a switch was refused; what was there stays. `recipe`: its folder, `reason`: why.",
        "replaced": "A recipe that was being prepared gave way to another one. `recipe`: the folder of the first, "
        "`reason`: who asked for which.",
    },
    Kind.RELOAD: {
        "applied": "The station file was read again and put in force. `changes`: each field, `old` and `new`.",
        "refused": "It was read again and refused; nothing changed. `reason`: why.",
    },
    Kind.CAMERA: {
        "offline": "Somebody took the camera offline: its frames are answered ERROR OFFLINE. `keep`: over a "
        "restart too.",
        "online": "Somebody brought it back online.",
        "live": "Somebody asked for live pictures. `rate_hz`, `seconds`: how often, and for how long.",
        "kept": "The station started with the camera offline. `who`: who asked for that before the start.",
    },
    Kind.JOURNAL: {"lost": "Results are missing from the journal. `from_seq`, `to_seq`: which, `reason`: why."},
}
"""What may come of each kind, and what the details hold. docs/reference/events.md is written from this."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the station.

    Attributes:
        at_utc_ns: when it was decided.
        boot_id: of the run it happened in, as in its results.
        camera: whose; None: the whole station's.
        who: name of the key that asked, `station file`, a signal or the user a process runs as.
        outcome: one of `OUTCOMES`.
        details: JSON; what `OUTCOMES` says.
    """

    at_utc_ns: int
    boot_id: str
    kind: Kind
    camera: str | None
    who: str
    outcome: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_columns(self) -> tuple[Any, ...]:
        """`EVENT_COLUMNS` without `n`; text that SQLite would not take must hold up no verdict."""
        reason = self.details.get("reason")
        details = self.details if reason is None else {**self.details, "reason": str(reason)[:_MAX_TEXT]}
        who = self.who.encode("utf-8", "backslashreplace").decode()
        return (self.at_utc_ns, self.boot_id, self.kind.value, self.camera, who, self.outcome, json.dumps(details))

    def to_json(self) -> dict[str, Any]:
        """All of it in one object."""
        columns = ("at_utc_ns", "boot_id", "kind", "camera", "who", "outcome")
        return {name: getattr(self, name) for name in columns} | dict(self.details)


def append_events(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    """Within the writer's transaction."""
    if events:
        n, hash_ = read_meta(connection, "events_head")
        for event in events:
            n += 1
            row = (n, *event.to_columns())
            hash_ = compute_hash(hash_, row)
            connection.execute(INSERT_EVENT, (*row, hash_))
        write_meta(connection, "events_head", (n, hash_))


def prune_events(connection: sqlite3.Connection, limit: int) -> None:
    """Within the writer's transaction: the oldest above `MAX_EVENTS` go, at most `limit`."""
    meta = dict(connection.execute("SELECT name, n FROM meta"))
    anchor = meta["events_anchor"]
    count = min(meta["events_head"] - anchor - MAX_EVENTS, limit)
    if count > 0:
        row = connection.execute("SELECT n, hash FROM events WHERE n = ?", (anchor + count,)).fetchone()
        if row is None:
            raise sqlite3.DataError(f"event {anchor + count} is missing")
        connection.execute("DELETE FROM events WHERE n <= ?", (anchor + count,))
        write_meta(connection, "events_anchor", row)


def read_last_judged(connection: sqlite3.Connection) -> dict[str, dict[str, Any] | None]:
    """What each camera was judged with last, of those that ever had a recipe; None: taken away."""
    return {camera: json.loads(text).get("new") for camera, text, _ in connection.execute(_LAST_JUDGED)}


def select_events(path: Path, *, camera: str | None = None, since_utc_ns: int | None = None) -> Iterator[Event]:
    """Stream events in the order in which they were written; with a camera also those of the whole station.

    Raises:
        JournalError: the journal cannot be read.
    """
    rules = "(? IS NULL OR camera IS NULL OR camera = ?) AND (? IS NULL OR at_utc_ns >= ?)"
    query = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events WHERE {rules} ORDER BY n"  # noqa: S608
    with open_reader(path) as connection:
        if has_events(connection):
            for row in connection.execute(query, (camera, camera, since_utc_ns, since_utc_ns)):
                _, at, boot_id, kind, of, who, outcome, text = row
                yield Event(at, boot_id, Kind(kind), of, who, outcome, json.loads(text))
