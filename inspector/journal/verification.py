"""Proves that a journal holds what was written to it, from its running hash."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from inspector.journal.checking import find_conflict
from inspector.journal.mark import Mark, read_mark
from inspector.journal.reader import open_reader
from inspector.journal.schema import COLUMNS, EVENT_COLUMNS, compute_hash, has_events

_ROWS = f"SELECT {', '.join(COLUMNS)}, CAST(hash AS BLOB) FROM results ORDER BY n"  # noqa: S608
_EVENTS = f"SELECT {', '.join(EVENT_COLUMNS)}, CAST(hash AS BLOB) FROM events ORDER BY n"  # noqa: S608
_SEQS = "SELECT camera, seq, ifnull(amends, 0) = 0 FROM results ORDER BY camera, seq"


@dataclass(frozen=True, slots=True)
class CameraSeqs:
    """Sequence numbers on record of one camera, pruned ones left out."""

    lowest: int
    highest: int
    missing: int  # between the two


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        rows: rows of results, amended ones included; `amendments` of them amend another.
        head_n: number of the last row, and `head_hash` (hex) its running hash.
        events: rows of events; `events_head_n` and `events_head_hash` are of their running hash.
        mark: what the station noted of it last; None where there is no such file beside it.
        cameras: of each camera that has results.
        faults: in words; empty where the journal is whole.
    """

    rows: int
    amendments: int
    open_frames: int
    head_n: int
    head_hash: str
    events: int
    events_head_n: int
    events_head_hash: str
    mark: Mark | None
    cameras: dict[str, CameraSeqs]
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Chain:
    """A running hash so far; stands still at the first fault, while rows are counted on. `what`: a row of the table."""

    what: str
    n: int
    hash: bytes
    rows: int = 0
    amendments: int = 0
    faults: list[str] = field(default_factory=list)


def verify(path: Path) -> Verification:
    """Recompute the running hashes from the anchors to the heads, and look for gaps, in one read transaction.

    Finds a row that was altered, deleted, added or moved, rows cut off at the end, results never recorded, and, by the
    mark beside it, an older copy. It cannot find what someone does who may write the files and knows this program:
    compute all hashes anew, from any row to the head, or put back an older copy and its mark. Against that, keep the
    heads' numbers and hashes elsewhere and compare. Nor does it cover the frames still open, which are no record but a
    note for the next start.

    Memory is constant, and the daemon goes on writing meanwhile.

    Raises:
        JournalError: the journal or its mark cannot be read.
    """
    mark = read_mark(path)  # first: the journal may grow meanwhile
    with open_reader(path) as connection:
        # Text that is no UTF-8 is a row altered, not a file that cannot be read.
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        connection.execute("BEGIN")
        meta = {
            name: (n, hash_) for name, n, hash_ in connection.execute("SELECT name, n, CAST(hash AS BLOB) FROM meta")
        }
        chain = _follow(connection.execute(_ROWS), _Chain("row", *meta["anchor"]))
        head_n, head_hash = meta["head"]
        conflict = mark and find_conflict(connection, mark)
        chain.faults += _check_head(chain, head_n, head_hash)
        events, events_head = _Chain("event", 0, b""), (0, b"")
        if has_events(connection):
            events_head = meta["events_head"]
            _follow(connection.execute(_EVENTS), events := _Chain("event", *meta["events_anchor"]))
            events.faults += _check_head(events, *events_head)
        cameras, faults = _check_seqs(connection)
        (open_frames,) = connection.execute("SELECT COUNT(*) FROM open_frames").fetchone()
    return Verification(
        rows=chain.rows,
        amendments=chain.amendments,
        open_frames=open_frames,
        head_n=head_n,
        head_hash=head_hash.hex(),
        events=events.rows,
        events_head_n=events_head[0],
        events_head_hash=events_head[1].hex(),
        mark=mark,
        cameras=cameras,
        faults=(*chain.faults, *events.faults, *faults, *([conflict] if conflict else ())),
    )


def _follow(rows: Iterable[tuple[Any, ...]], chain: _Chain) -> _Chain:
    for *row, stored in rows:
        chain.rows += 1
        chain.amendments += chain.what == "row" and row[-1] is not None
        if not chain.faults:
            chain.hash = compute_hash(chain.hash, row)
            name = f"{chain.what} {row[0]} ({row[1]!s:.80} {row[2]!s:.20})"
            if row[0] > chain.n + 1:
                chain.faults.append(f"{chain.what} {chain.n + 1}: missing; the next one recorded is {name}")
            elif row[0] <= chain.n:
                chain.faults.append(f"{name}: comes before the first one, which is {chain.n + 1}")
            elif chain.hash != stored:
                chain.faults.append(f"{name}: altered, or in the wrong place")
        chain.n = row[0]
    return chain


def _check_head(chain: _Chain, head_n: int, head_hash: bytes) -> list[str]:
    what = chain.what
    if chain.n < head_n:
        return [f"{what} {chain.n + 1}: missing, together with all {what}s up to the head, {what} {head_n}"]
    if chain.n > head_n:
        return [f"{what} {head_n + 1}: comes after the head, which is {what} {head_n}"]
    if not chain.faults and chain.hash != head_hash:
        return [f"head: must have the hash of {what} {head_n}, {chain.hash.hex()}, has {head_hash.hex()}"]
    return []


def _check_seqs(connection: sqlite3.Connection) -> tuple[dict[str, CameraSeqs], list[str]]:
    """Each camera's numbers, in words what is wrong with them."""
    pruned = dict(connection.execute("SELECT camera, seq FROM pruned_seqs"))
    cameras: dict[str, CameraSeqs] = {}
    faults: list[str] = []
    for camera, rows in groupby(connection.execute(_SEQS), key=lambda row: row[0]):
        cameras[camera] = _check_camera(camera, pruned.get(camera, 0), rows, faults)
    return cameras, faults


def _check_camera(camera: str, pruned: int, rows: Iterator[tuple[str, int, int]], faults: list[str]) -> CameraSeqs:
    """Numbers up to `pruned` may have gaps: rows are pruned in the order written, which need not be theirs."""
    lowest = previous = None
    missing = twice = 0
    first_missing = first_twice = 0
    for seq, same in groupby(rows, key=lambda row: row[1]):
        lowest = seq if lowest is None else lowest
        if previous is not None and (gap := seq - max(previous, pruned) - 1) > 0:
            first_missing = first_missing or max(previous, pruned) + 1
            missing += gap
        if sum(plain for _, _, plain in same) > 1:
            first_twice = first_twice or seq
            twice += 1
        previous = seq
    if missing:
        faults.append(f"camera {camera}: {missing} sequence number(s) missing, the first is {first_missing}")
    if twice:
        faults.append(f"camera {camera}: {twice} result(s) with two unamended rows, the first is {first_twice}")
    return CameraSeqs(lowest or 0, previous or 0, missing)
