"""Every thread of the service is seen: its stall, its death, and what it held back of the log."""

from __future__ import annotations

import importlib
import pkgutil
import queue
import threading
from collections.abc import Iterator

import pytest

import inspector.service
from inspector.service.control.end_guard import EndGuard
from inspector.service.control.loader import Loader
from inspector.service.control.refuser import Refuser
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.part import Part

JOIN_S = 10.0
WITHOUT_STEPS = {EndGuard, Loader, Refuser}
"""One waits for the end, one makes a single call that the main thread waits for, one only lives while all stop."""


class Scripted(Part):
    """A step for each thing of the script: a line for the log, or an error that it dies of."""

    def __init__(self, *script: str | BaseException, health: Health) -> None:
        super().__init__("scripted", health=health)
        self._script: Iterator[str | BaseException] = iter(script)
        self.was_released = False

    def step(self) -> None:
        line = next(self._script, None)
        if isinstance(line, BaseException):
            raise line
        if line is None:
            self.stop()
        else:
            self._log.warning("line", line)

    def release(self) -> None:
        super().release()
        self.was_released = True


def run(part: Part) -> None:
    part.start()
    part.join(JOIN_S)
    assert not part.is_alive()


def test_part_beats_before_each_step_and_is_missed_no_more_once_it_ended(
    health: Health, beats: queue.Queue[str]
) -> None:
    part = Scripted("a", "b", health=health)
    run(part)
    assert list(beats.queue) == ["scripted"] * 3 + ["forget scripted"]
    assert (part.failure, part.was_released, part.is_done) == (None, True, True)


@pytest.mark.parametrize("error", [RuntimeError("the disk is gone"), SystemExit("told to die"), MemoryError()])
def test_death_is_a_fault_that_names_it_whatever_it_died_of(
    running: Health, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    part = Scripted("a", error, health=running)
    run(part)
    assert part.failure is error
    assert (running.state, running.problem("scripted")) == (State.FAULT, str(error))
    assert "thread scripted died" in [record.getMessage() for record in caplog.records]
    assert part.was_released
    assert running.stalled() == []


def test_what_was_held_back_of_the_log_is_written_however_it_ends(
    running: Health, caplog: pytest.LogCaptureFixture
) -> None:
    for last in ([], [RuntimeError("no more")]):
        caplog.clear()
        run(Scripted("a", "b", "c", *last, health=running))
        lines = [record.getMessage() for record in caplog.records if record.name == __name__]
        assert [line for line in lines if "died" not in line] == ["a", "c (1 more like this)"]


def test_every_thread_of_the_service_is_a_part() -> None:
    for module in pkgutil.walk_packages(inspector.service.__path__, "inspector.service."):
        importlib.import_module(module.name)
    known = [threading.Thread]
    for kind in known:  # grows
        known += kind.__subclasses__()
    ours = {kind for kind in known if kind.__module__.startswith("inspector.service.")}
    assert {kind for kind in ours if not issubclass(kind, Part)} == WITHOUT_STEPS
    assert len(ours) > 10
