"""No clock that may be wrong deletes a result, and no clock deletes many at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from inspector.service.flow.retention import KEPT_ROWS, SETTLE_S, AgeLimit, Retention
from inspector.service.telemetry.clock import Clock

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
NOW_S = 1.7e9
ROWS = 1_000_000


@dataclass
class Line:
    """A station that prunes every minute, with rows of which all are older than `keep_days`."""

    clock: Clock | None = field(default_factory=lambda: Clock(synchronised=True, error_s=0.01))
    keep_days: float = 365.0
    rows: int = ROWS
    monotonic_s: float = 5.0
    utc_s: float = NOW_S

    def __post_init__(self) -> None:
        self.retention = Retention(lambda: self.clock)

    def look(self, passed_s: float = 60.0, *, step_s: float = 0.0) -> AgeLimit | None:
        self.monotonic_s += passed_s
        self.utc_s += passed_s + step_s
        return self.retention.find_limit(
            self.keep_days, self.rows, now_s=self.monotonic_s, utc_ns=int(self.utc_s * 1e9)
        )

    def run(self, hours: float) -> int:
        """Prune for so long; how many rows went."""
        before = self.rows
        for _ in range(int(hours * 60)):
            limit = self.look()
            if limit is not None:
                self.rows -= limit.rows
                self.retention.spend(limit.rows)
        return before - self.rows


def test_nothing_goes_in_the_first_hour_and_then_what_is_older_than_asked_for() -> None:
    line = Line()
    assert line.run(1) == 0
    limit = line.look()
    assert limit is not None
    assert limit.before_utc_ns == pytest.approx((line.utc_s - YEAR_S) * 1e9, abs=1e9)
    assert limit.rows > 0


def test_nothing_goes_when_the_clock_is_years_ahead_for_a_while() -> None:
    line = Line()
    line.run(2)
    assert line.look(8, step_s=2 * YEAR_S) is None
    assert line.run(0.2) == 0
    assert line.look(8, step_s=-2 * YEAR_S) is None
    assert line.run(0.9) == 0
    assert line.run(0.3) > 0


def test_few_go_when_the_clock_stays_years_ahead_and_says_that_it_is_right() -> None:
    line = Line()
    line.run(2)
    before = line.rows
    line.look(step_s=2 * YEAR_S)
    line.run(24)
    assert 0.7 * before < line.rows < 0.85 * before  # a day to see it in


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0, 20.0, -20.0])
def test_step_is_told_and_delays_what_is_due(caplog: pytest.LogCaptureFixture, step_s: float) -> None:
    line = Line()
    line.run(2)
    assert line.look() is not None
    assert line.look(step_s=step_s) is None
    assert caplog.messages == [
        f"the clock jumped by {step_s:.0f} s: for one hour no result is deleted because of its age"
    ]
    assert line.run(0.9) == 0


def test_clock_that_is_slewed_is_no_clock_that_is_stepped(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    line.run(2)
    for _ in range(200):
        assert line.look(step_s=5.0) is not None  # chrony, at its fastest
    assert caplog.messages == []


def test_nothing_goes_while_the_clock_follows_nothing() -> None:
    line = Line(Clock(synchronised=False, error_s=16.0))
    assert line.run(5) == 0
    line.clock = Clock(synchronised=True, error_s=0.01)
    assert line.run(0.9) == 0
    assert line.run(0.3) > 0


def test_even_running_is_enough_where_the_kernel_does_not_say_what_the_clock_follows() -> None:
    line = Line(None)
    assert line.run(1) == 0
    assert line.run(0.1) > 0


def test_nothing_goes_when_results_are_kept_for_ever() -> None:
    retention = Retention(lambda: None)
    for hour in range(5):
        assert retention.find_limit(None, ROWS, now_s=hour * 3600.0, utc_ns=int((NOW_S + hour * 3600) * 1e9)) is None


@pytest.mark.parametrize(("keep_days", "share"), [(365.0, 0.0105), (30.0, 0.0156), (1.0, 0.177), (0.01, 0.5)])
def test_at_most_a_share_goes_in_an_hour_however_little_is_to_be_kept(keep_days: float, share: float) -> None:
    line = Line(keep_days=keep_days)
    line.run(SETTLE_S / 3600)
    gone = line.run(1)
    assert gone <= share * ROWS
    assert gone > 0.7 * share * ROWS


def test_newest_rows_stay_whatever_the_clock_says() -> None:
    line = Line(keep_days=0.01, rows=KEPT_ROWS + 10)
    line.run(48)
    assert line.rows == KEPT_ROWS
