"""Accounts of a station: what was sent, what is in its journal and what was received, side by side."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("good", "bad")
"""How the ids of the line's own frames begin."""


@dataclass(frozen=True, slots=True)
class Account:
    """Sent, recorded and received, side by side. Frame ids; all but the first two are empty where all is well.

    Attributes:
        sent: frames handed to ZeroMQ.
        accepted: of those, how many the journal or a message knows.
        without_verdict: open or confirmed, but with no verdict in the journal, and none received.
        two_verdicts: two final ones in the journal, or two messages that are no replays.
        undeserved_pass: a PASS for a bad frame, or one without a score below the threshold, or one that is not the
            journal's: neither in verdict nor in score, or not there at all.
        unrecorded: received, but not in the journal. Only ERROR may be, while the journal cannot be written.
        unpublished: in the journal, but not received; so it is for what was closed while nobody was connected.
    """

    sent: int
    accepted: int
    without_verdict: tuple[str, ...]
    two_verdicts: tuple[str, ...]
    undeserved_pass: tuple[str, ...]
    unrecorded: tuple[str, ...]
    unpublished: tuple[str, ...]

    @property
    def broken(self) -> dict[str, tuple[str, ...]]:
        """The promises broken, with the frames; what was not received can be replayed, so it breaks none."""
        names = ("without_verdict", "two_verdicts", "undeserved_pass")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclass(frozen=True, slots=True)
class Row:
    """A final row of the journal."""

    frame_id: str
    verdict: str
    score: float | None


def read_journal(path: Path) -> tuple[list[Row], set[str]]:
    """Final rows in their order (not those that a later one amends), and ids of frames that are still open."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM results").fetchall()
        tables = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        waiting = connection.execute("SELECT * FROM open_frames").fetchall() if "open_frames" in tables else []
    finally:
        connection.close()
    amended = {row["amends"] for row in rows if "amends" in row.keys()}  # noqa: SIM118 (a Row is no mapping)
    final = [row for row in rows if "n" not in row.keys() or row["n"] not in amended]  # noqa: SIM118
    return [Row(row["frame_id"], row["verdict"], row["score"]) for row in final], set(map(_read_frame_id, waiting))


def _read_frame_id(row: sqlite3.Row) -> str:
    return str(row["frame_id"] if "frame_id" in row.keys() else json.loads(row["json"])["frame_id"])  # noqa: SIM118


def build_account(
    sent: list[str], messages: list[dict[str, Any]], journal: Path, confirmed: Iterable[str] = ()
) -> Account:
    """Compare the lists; frames of other senders count, too, but for `sent`.

    Args:
        sent: frame ids.
        messages: results as received.
        journal: its file.
        confirmed: ids of frames that the station said are on record.
    """
    rows, waiting = read_journal(journal)
    first = [message for message in messages if not message["replay"]]
    recorded, received = {row.frame_id: row for row in rows}, {message["frame_id"] for message in messages}
    twice = _repeated([row.frame_id for row in rows]) + _repeated([message["frame_id"] for message in first])
    passed = [_Passed(row.frame_id, row.score, None) for row in rows if row.verdict == "PASS"]
    passed += [
        _Passed(message["frame_id"], message["score"], message["threshold"])
        for message in messages
        if message["verdict"] == "PASS"
    ]
    return Account(
        sent=len(sent),
        accepted=len(set(sent) & (recorded.keys() | waiting | received)),
        without_verdict=_sorted((waiting | set(confirmed)) - recorded.keys() - received),
        two_verdicts=_sorted(twice),
        undeserved_pass=_sorted(p.frame_id for p in passed if not _is_deserved(p, recorded.get(p.frame_id))),
        unrecorded=_sorted(received - recorded.keys()),
        unpublished=_sorted(recorded.keys() - received),
    )


def _repeated(frame_ids: list[str]) -> list[str]:
    """Those there more than once; of ours, which are unique: others may name all their frames alike."""
    counts = Counter(name for name in frame_ids if name.partition("-")[0] in KINDS)
    return [name for name, count in counts.items() if count > 1]


@dataclass(frozen=True, slots=True)
class _Passed:
    frame_id: str
    score: float | None
    threshold: float | None


def _is_deserved(passed: _Passed, row: Row | None) -> bool:
    if passed.frame_id.startswith("bad-") or passed.score is None or row is None:
        return False
    below = passed.threshold is None or passed.score <= passed.threshold
    return below and dataclasses.astuple(row) == (passed.frame_id, "PASS", passed.score)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
