"""What a station knows of its earlier runs, from its journal."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector.errors import ConfigError, JournalError
from inspector.journal.events import Event
from inspector.journal.mark import MARGIN
from inspector.journal.writer import Journal, OpenFrame
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """The journal's words of before.

    Attributes:
        left_open: frames that were accepted and not answered.
        judged: the recipe that judged last, by camera.
        seqs: each camera's last sequence number.
        results: each camera's last result, as on the wire.
    """

    left_open: list[OpenFrame]
    judged: dict[str, dict[str, Any] | None]
    seqs: dict[str, int]
    results: dict[str, dict[str, Any]]


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
        return journal, Past(journal.open_frames(), journal.last_judged(), journal.last_seqs(), journal.last_results())
    except JournalError as error:
        raise ConfigError(f"state_dir: {error}", field=("state_dir",)) from error


def _count(event: Event) -> int:
    return int(event.details["to_seq"] - event.details["from_seq"] + 1 - MARGIN)


def _describe(event: Event) -> str:
    first, last = event.details["from_seq"], event.details["to_seq"]
    why = f"{event.details['reason']}; results continue above {last}"
    return f"camera {event.camera}: {_count(event)} or more results are not recorded, from number {first} on: {why}"
