"""What may hang is read in a thread that costs nobody anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.sampler import Sampler

Launch = Callable[[Any], Any]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_latest_is_the_last_that_was_read(health: Health, launch: Launch) -> None:
    readings = iter(range(1000))
    sampler = Sampler("disk", lambda: next(readings), health=health, period_s=0.05)
    assert sampler.name == "sampler-disk"
    assert sampler.latest() is None
    launch(sampler)
    wait_until(lambda: (sampler.latest() or 0) >= 2)


def test_latest_is_none_when_a_read_fails_and_there_again_when_it_does_not(
    health: Health, launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    trouble: list[Exception] = []

    def read() -> int:
        if trouble:
            raise trouble[0]
        return 1

    sampler = launch(Sampler("disk", read, health=health, period_s=0.02))
    wait_until(sampler.latest)
    trouble.append(OSError("no such disk"))
    wait_until(lambda: sampler.latest() is None)
    time.sleep(0.1)
    trouble.clear()
    wait_until(sampler.latest)
    assert [r.getMessage() for r in caplog.records] == ["sampler-disk: cannot be read: no such disk"]


def test_old_sample_goes_and_station_is_degraded_but_judges_when_a_read_hangs(
    running: Health, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_stall_after_s", 0.2)
    free, readings = threading.Event(), iter([1])

    def read() -> int:
        for first in readings:
            return first
        free.wait(10)
        return 2

    sampler = launch(Sampler("disk", read, health=running, period_s=0.05))
    wait_until(sampler.latest)
    wait_until(lambda: sampler.latest() is None)
    wait_until(lambda: running.tick() and running.state is State.DEGRADED)
    assert running.stalled() == []
    assert running.ready() == (True, "DEGRADED: sampler-disk thread: no progress")
    free.set()
    wait_until(sampler.latest)
    wait_until(lambda: running.tick() and running.state is State.RUNNING)


def test_health_misses_a_thread_that_died(running: Health, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_stall_after_s", 0.05)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def read() -> int:
        raise SystemExit

    sampler = launch(Sampler("gpu", read, health=running, period_s=0.01))
    sampler.join(10)
    wait_until(lambda: running.tick() and running.state is State.DEGRADED)
    assert running.live()[0]


def test_end_comes_at_once_when_asked_between_two_reads(health: Health, end: Callable[..., None]) -> None:
    sampler = Sampler("disk", lambda: 1, health=health, period_s=60)
    sampler.start()
    wait_until(sampler.latest)
    started = time.monotonic()
    end(sampler)
    assert time.monotonic() - started < 5
    assert health.tick()
    assert "sampler-disk" not in health._beats
