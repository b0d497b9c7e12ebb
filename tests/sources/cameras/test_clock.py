"""A camera's numbers and times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.sources.cameras.clock import BlockCounter, DeviceClock, choose_time_ns

MS = 1_000_000


@pytest.mark.parametrize(
    ("ids", "missing"),
    [
        ([0, 1, 2], [0, 0, 0]),
        ([7, 9, 13], [0, 1, 3]),
        ([65_534, 65_535, 1, 2], [0, 0, 0, 0]),
        ([65_534, 2], [0, 2]),
        ([5_000_000_000, 5_000_000_002], [0, 1]),
        ([100, 1, 2], [0, None, 0]),  # counts anew
        ([5_000_000_000, 1], [0, None]),
        ([3, 3, 4], [0, None, 0]),
        ([2, 10_003, 20_005], [0, 10_000, None]),
        ([2, 2**64 - 1, 3, 4], [0, None, None, 0]),  # no number
        ([None, 3, None, 9], [None, 0, None, 0]),
    ],
)
def test_missing_images_are_counted_through_a_wrap(ids: list[int | None], missing: list[int | None]) -> None:
    counter = BlockCounter()
    assert [counter.count_missing(each) for each in ids] == missing


def test_image_is_as_old_as_it_came_later_than_the_quickest() -> None:
    clock = DeviceClock()
    ages = [
        clock.compute_age_ns(n * 40 * MS, 10_000 * MS + n * 40 * MS + late * MS) for n, late in enumerate((5, 3, 900))
    ]
    assert [round(age / MS) for age in ages] == [0, 0, 897]


def test_image_is_as_old_as_it_was_held_however_long() -> None:
    clock = DeviceClock()
    ages = [clock.compute_age_ns(taken * MS, (1000 + taken + held) * MS) for taken, held in ((0, 0), (40, 3_600_000))]
    assert ages[0] == 0
    assert 0.9997 < ages[1] / (3_600_000 * MS) <= 1


def test_clock_that_was_set_back_is_believed_again_once_the_last_image_of_before_left_the_window() -> None:
    clock = DeviceClock()
    clock.compute_age_ns(10**6 * MS, 1000 * MS)
    ages = [clock.compute_age_ns(n * MS, (1000 + n) * MS) for n in range(201)]
    assert ages[198] == pytest.approx(10**6 * MS)  # old, so refused: it cannot be told from an image that was held
    assert ages[200] == 0


@pytest.mark.parametrize("leap_ms", [61_000, 10**9])
def test_clock_that_was_set_forward_makes_no_image_old_and_those_held_after_it_still_show_it(leap_ms: int) -> None:
    clock = DeviceClock()
    ages = [clock.compute_age_ns(taken * MS, (1000 + taken) * MS) for taken in (0, 40)]
    ages += [clock.compute_age_ns((taken + leap_ms) * MS, (1000 + taken + late) * MS) for taken, late in
             ((80, 0), (120, 3000), (160, 0))]  # fmt: skip
    assert [round(age / MS) for age in ages] == [0, 0, 0, 2999, 0]


@given(
    st.floats(0.005, 1000),
    st.integers(-200, 200),
    st.lists(st.floats(0, 0.02), min_size=2, max_size=300),
    st.floats(0, 100),
)
def test_image_is_never_older_than_it_is_and_younger_by_little_at_any_rate(
    rate_hz: float, ppm: int, delays_s: list[float], held_s: float
) -> None:
    clock = DeviceClock()
    delays_s[-1] += held_s
    for n, delay_s in enumerate(delays_s):
        taken_ns = round(n / rate_hz * 1e9)
        now_ns = taken_ns + round(delay_s * 1e9)
        age_ns = clock.compute_age_ns(10**15 + round(taken_ns * (1 + ppm / 1e6)), 10**12 + now_ns)
        assert age_ns <= delay_s * 1e9 + 1e5
    since_s = 1 / rate_hz + delays_s[-1]  # the one before needed 20 ms at most
    assert age_ns >= held_s * 1e9 - 20e6 - 400e-6 * since_s * 1e9 - 1e5


def test_clocks_that_drift_apart_are_followed() -> None:
    clock = DeviceClock()
    for n in range(1000):  # the camera's is 0.1 % slow
        age_ns = clock.compute_age_ns(n * 39_960_000, n * 40 * MS)
    assert age_ns < 9 * MS


@pytest.mark.parametrize(
    ("ptp_ms", "chosen_ms"),
    [
        (99_990, 99_990),
        (99_990 + 37_000, 99_990),  # TAI
        (100_000, 100_000),
        (100_001, None),  # would make the frame younger
        (99_000, 99_000),
        (97_000, 97_000),  # held in the driver while all that came before were
        (70_000 + 37_000, 70_000),
        (69_999, None),  # another time than this machine's
        (5, None),
    ],
)
def test_time_of_ptp_is_taken_only_where_it_makes_a_frame_no_younger(ptp_ms: int, chosen_ms: int | None) -> None:
    chosen = choose_time_ns(ptp_ms * MS, 100_000 * MS)
    assert chosen == (None if chosen_ms is None else chosen_ms * MS)
