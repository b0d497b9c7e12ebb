"""A thousand lines a second become one a period, and none is forgotten."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from inspector.service.telemetry import rate_limit as module
from inspector.service.telemetry.rate_limit import RateLimitedLog

LOGGER = logging.getLogger("test.rate_limit")
LOGGER.setLevel(logging.INFO)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time for the module under test stands at `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_lines_are_held_and_counted_when_they_repeat_within_the_period(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    limited = RateLimitedLog(LOGGER, period_s=5.0)
    for number in range(4):
        limited.warning("lost", f"lost {number}")
    clock.now += 4.9
    limited.warning("lost", "still within")
    assert caplog.messages == ["lost 0"]
    clock.now += 0.1
    limited.warning("lost", "lost again")
    assert caplog.messages == ["lost 0", "lost again (4 more like this)"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_count_starts_anew_when_a_line_was_written(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    limited = RateLimitedLog(LOGGER, period_s=5.0)
    for _ in range(3):
        limited.warning("lost", "lost")
    clock.now += 5
    limited.warning("lost", "second")
    clock.now += 5
    limited.warning("lost", "third")
    assert caplog.messages == ["lost", "second (2 more like this)", "third"]


def test_kinds_do_not_hold_each_other_when_they_alternate(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    limited = RateLimitedLog(LOGGER, period_s=5.0)
    for kind in ("lost", "refused", "lost", "refused"):
        limited.warning(kind, kind)
    clock.now += 5
    limited.warning("refused", "refused")
    assert caplog.messages == ["lost", "refused", "refused (1 more like this)"]


def test_message_is_written_as_it_is_when_it_holds_percent_signs(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    RateLimitedLog(LOGGER).warning("lost", "100 %s full %d")
    assert caplog.messages == ["100 %s full %d"]


def test_what_was_held_is_written_when_the_flood_ends(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    limited = RateLimitedLog(LOGGER, period_s=5.0)
    for number in range(4):
        limited.warning("lost", f"lost {number}", camera="top")
    clock.now += 5.9
    limited.flush_due()
    assert caplog.messages == ["lost 0"]
    clock.now += 0.1
    limited.flush_due()
    limited.flush_due()
    assert caplog.messages == ["lost 0", "lost 3 (2 more like this)"]
    assert [record.camera for record in caplog.records] == ["top", "top"]
    limited.warning("lost", "another flood")
    assert caplog.messages[2:] == ["another flood"]


def test_what_was_held_is_written_at_once_when_told_to(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    limited = RateLimitedLog(LOGGER, period_s=5.0)
    for message in ("lost", "lost again"):
        limited.warning("lost", message)
    limited.warning("refused", "refused")
    limited.flush()
    limited.flush()
    assert sorted(caplog.messages) == ["lost", "lost again", "refused"]


def test_as_many_lines_as_a_burst_are_written_before_any_is_held(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limited = RateLimitedLog(LOGGER, period_s=5.0, burst=3)
    for number in range(5):
        limited.log(logging.INFO, "state", str(number))
    clock.now += 5
    limited.log(logging.INFO, "state", "5")
    assert caplog.messages == ["0", "1", "2", "5 (2 more like this)"]
