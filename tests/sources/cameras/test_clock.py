"""A camera's numbers and times."""

from __future__ import annotations

import pytest

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
    assert ages == [0, 0, 897 * MS]


def test_image_is_as_old_as_it_was_held_however_long() -> None:
    clock = DeviceClock()
    ages = [clock.compute_age_ns(taken * MS, (1000 + taken + held) * MS) for taken, held in ((0, 0), (40, 3_600_000))]
    assert ages == [0, 3_600_000 * MS]


def test_clock_that_was_set_back_is_believed_again_once_the_last_image_of_before_left_the_window() -> None:
    clock = DeviceClock()
    clock.compute_age_ns(10**6 * MS, 1000 * MS)
    ages = [clock.compute_age_ns(n * MS, (1000 + n) * MS) for n in range(201)]
    assert ages[198] == 10**6 * MS  # old, so refused: it cannot be told from an image that was held
    assert ages[200] == 0


@pytest.mark.parametrize("leap_ms", [61_000, 10**9])
def test_clock_that_was_set_forward_makes_no_image_old_and_those_held_after_it_still_show_it(leap_ms: int) -> None:
    clock = DeviceClock()
    ages = [clock.compute_age_ns(taken * MS, (1000 + taken) * MS) for taken in (0, 40)]
    ages += [clock.compute_age_ns((taken + leap_ms) * MS, (1000 + taken + late) * MS) for taken, late in
             ((80, 0), (120, 3000), (160, 0))]  # fmt: skip
    assert ages == [0, 0, 0, 3000 * MS, 0]


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
