"""What the daemon puts on record of its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inspector.config import Station
from inspector.journal.events import Kind
from inspector.service.daemon import Daemon
from inspector.service.telemetry.health import Health


class Audit:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def note(self, kind: Kind, outcome: str, who: str, **details: Any) -> None:
        self.notes.append((kind, outcome, who, details))


class Parts:
    """Of a station that never ran."""

    def __init__(self) -> None:
        self.audit = Audit()


def end_by_itself(daemon: Any) -> None:
    """As `run` does."""
    try:
        raise ZeroDivisionError("nobody foresaw it")
    finally:
        daemon._note_stop()


def test_exception_that_nobody_foresaw_is_on_record_as_a_fault(tmp_path: Path, health: Health) -> None:
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {}}})
    daemon: Any = Daemon(station, tmp_path / "station.yaml")
    daemon.health, daemon._parts = health, Parts()
    with pytest.raises(ZeroDivisionError):
        end_by_itself(daemon)
    reason = {"reason": "ZeroDivisionError('nobody foresaw it')"}
    assert daemon._parts.audit.notes == [(Kind.STOP, "fault", "station", reason)]
