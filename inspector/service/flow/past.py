"""What a station knows of its earlier runs, from its journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inspector.config import Camera
from inspector.errors import ConfigError, JournalError
from inspector.journal.events import Event
from inspector.journal.mark import MARGIN
from inspector.journal.reader import read_last_frame_ids, read_last_triggers
from inspector.journal.writer import Journal, OpenFrame
from inspector.service.orders.known import MAX_KNOWN
from inspector.service.orders.parts import MAX_REMEMBERED, REMEMBERED_S, Parts
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.types import PART_PREFIX, FileVersion, Reason, TakenFile

logger = logging.getLogger(__name__)
_FRAMELESS = frozenset({Reason.NO_FRAME, Reason.RESTART, Reason.SHUTDOWN})
"""Reasons of triggers whose frame may never have come."""


@dataclass(frozen=True, slots=True)
class Past:
    """The journal's words of before.

    Attributes:
        left_open: frames that were accepted and not answered.
        judged: the recipe that judged last, by camera.
        seqs: each camera's last sequence number.
        results: each camera's last result, as on the wire.
        taken: files that became frames, by camera and name.
    """

    left_open: list[OpenFrame]
    judged: dict[str, dict[str, Any] | None]
    seqs: dict[str, int]
    results: dict[str, dict[str, Any]]
    taken: dict[str, dict[str, FileVersion]]


class Remembers(Protocol):
    """Knows ids of triggers: see `Triggers.remember`."""

    def remember(self, camera: str, triggers: Iterable[tuple[str, int, bool]]) -> None:
        """Those of an earlier run: id, number of the ticket (0: answered), and whether the frame came."""


class JournalMemory:
    """The memory of folders (`sources.memory.FileMemory`): which files became frames.

    It is what the journal held at the start, and the recorder, which is told of what is gone.
    """

    def __init__(self, taken: Mapping[str, Mapping[str, FileVersion]], note_file: Callable[[TakenFile], None]) -> None:
        self._taken = taken
        self._note_file = note_file

    def find_versions(self, camera: str) -> Mapping[str, FileVersion]:
        """See `FileMemory`."""
        return self._taken.get(camera, {})

    def forget(self, camera: str, names: Iterable[str]) -> None:
        """See `FileMemory`."""
        for name in names:
            self._note_file(TakenFile(camera, name, None))


def open_journal(path: Path, boot_id: str, *, health: Health, metrics: Metrics) -> tuple[Journal, Past]:
    """Open or make it, and read what the station goes on from. Results that vanished from it are told and counted.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        journal = Journal(path)
        for event in journal.skip_lost(boot_id):
            health.last_error = f"journal: {_describe(event)}"
            logger.error("%s", health.last_error)
            metrics.journal_lost.inc(_count(event))
        return journal, Past(
            journal.open_frames(),
            journal.last_judged(),
            journal.last_seqs(),
            journal.last_results(),
            journal.taken_files(),
        )
    except JournalError as error:
        raise ConfigError(f"state_dir: {error}", field=("state_dir",)) from error


def remember_parts(parts: Parts, names: Iterable[str], path: Path, left_open: Sequence[OpenFrame]) -> None:
    """Tell which parts an earlier run answered, as long ago as that matters, and which it left open.

    Raises:
        ConfigError: the journal cannot be read.
    """
    since_utc_ns = time.time_ns() - int(REMEMBERED_S * 1e9)
    for name in names:
        camera = f"{PART_PREFIX}{name}"
        try:
            answered = read_last_frame_ids(path, camera, since_utc_ns, MAX_REMEMBERED)
        except JournalError as error:
            raise ConfigError(f"state_dir: {error}", field=("state_dir",)) from error
        parts.remember(name, [*answered, *(record.frame_id for record in left_open if record.camera == camera)])


def remember_triggers(
    triggers: Remembers, cameras: Mapping[str, Camera], path: Path, left_open: Sequence[OpenFrame]
) -> None:
    """Tell which ids of triggers an earlier run answered, as long ago as that matters, and which it left open.

    Raises:
        ConfigError: the journal cannot be read.
    """
    since_utc_ns = time.time_ns() - int(REMEMBERED_S * 1e9)
    for name in [name for name, camera in cameras.items() if camera.triggers is not None]:
        try:
            answered = read_last_triggers(path, name, since_utc_ns, MAX_KNOWN)
        except JournalError as error:
            raise ConfigError(f"state_dir: {error}", field=("state_dir",)) from error
        known = [(trigger_id, 0, reason not in _FRAMELESS) for trigger_id, reason in answered]
        waiting = [
            (each.trigger_id, each.number, False) for each in left_open if each.camera == name and each.trigger_id
        ]
        triggers.remember(name, [*known, *waiting])


def _count(event: Event) -> int:
    return int(event.details["to_seq"] - event.details["from_seq"] + 1 - MARGIN)


def _describe(event: Event) -> str:
    first, last = event.details["from_seq"], event.details["to_seq"]
    why = f"{event.details['reason']}; results continue above {last}"
    return f"camera {event.camera}: {_count(event)} or more results are not recorded, from number {first} on: {why}"
