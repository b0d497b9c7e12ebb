"""How old a process's messages are, and whether it lives: the cases that a history by chance seldom shows."""

from __future__ import annotations

import math

import pytest

from inspector.client.pulse import Pulse

UTC = 1.8e9


def settle(pulse: Pulse, start: float = 0.0, until: float = 2.0, offset: float = 0.0) -> float:
    """A status every 0.4 s; when the last came."""
    now = start
    while now < until:
        pulse.take_status(UTC + now - offset, round(now * 10), now, 0.0)
        now += 0.4
    return now - 0.4


def test_first_status_shows_no_life_and_half_a_second_of_them_does() -> None:
    pulse = Pulse(2.0)
    for number, is_alive in enumerate([False, False, True]):
        now = number * 0.4
        pulse.take_status(UTC + now, number, now, 0.0)
        assert pulse.is_alive(now) is is_alive
    assert pulse.compute_age(UTC + 0.8, 0.8) == pytest.approx(0.0, abs=1e-6)
    assert pulse.compute_age(UTC + 0.3, 0.8) == pytest.approx(0.5, abs=1e-6)


def test_age_is_infinite_while_nothing_was_shown() -> None:
    assert Pulse(2.0).compute_age(UTC, 0.0) == math.inf


def test_status_that_came_late_is_a_sign_of_life_of_when_it_left() -> None:
    pulse = Pulse(2.0)
    last = settle(pulse)
    pulse.take_status(UTC + last + 0.4, 100, last + 0.9, 0.0)
    assert pulse.alive_at == pytest.approx(last + 0.4, abs=1e-6)


def test_old_status_is_out_of_order_and_shows_nothing() -> None:
    pulse = Pulse(2.0)
    last = settle(pulse)
    assert pulse.take_status(UTC + last + 0.4, 3, last + 0.4, 0.0) is False
    assert pulse.alive_at == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize("by", [-3600.0, -5.0, -1.0, 1.0, 5.0, 3600.0])
def test_life_goes_on_within_the_bound_when_the_stations_clock_steps(by: float) -> None:
    pulse = Pulse(2.0)
    now = settle(pulse, until=10.0)
    for number in range(20):
        now += 0.4
        pulse.take_status(UTC + now + by, 1000 + number, now, 0.0)
        assert pulse.is_alive(now), number
        assert number < 4 or pulse.compute_age(UTC + now + by, now) < 0.5


def test_delay_is_not_forgotten_for_a_minute_and_is_taken_for_a_clock_then() -> None:
    pulse = Pulse(2.0)
    settle(pulse, until=10.0)
    last = settle(pulse, start=15.0, until=70.0, offset=5.0)
    assert not pulse.is_alive(last)
    last = settle(pulse, start=last + 0.4, until=80.0, offset=5.0)
    assert pulse.is_alive(last)


def test_reference_follows_clocks_that_drift_apart_and_no_delay_that_grows() -> None:
    slow, growing = Pulse(2.0), Pulse(2.0)
    for number in range(5000):
        now = number * 0.4
        slow.take_status(UTC + now * (1 - 1e-4), number, now, 0.0)
        growing.take_status(UTC + now * (1 - 0.02), number, now, 0.0)
    assert slow.is_alive(now)
    assert slow.compute_age(UTC + now * (1 - 1e-4), now) < 0.3
    assert not growing.is_alive(now)


def test_why_it_is_not_alive_is_told() -> None:
    pulse = Pulse(2.0)
    last = settle(pulse)
    assert pulse.explain_silence(last + 2.5) == "no status"
    pulse.take_status(UTC + last + 2.5, round(last * 10), last + 2.5, 0.0)
    assert pulse.explain_silence(last + 2.5) == "the lifebit does not change"
    pulse.take_status(UTC + last + 2.5, 100, last + 6.0, 0.0)
    assert pulse.explain_silence(last + 6.0).startswith("its status messages arrive too late")
