"""Learning rate, limits, precision."""

from __future__ import annotations

import math

import pytest

from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.schedule import compute_rate_factor, find_limits


def test_rate_rises_over_a_tenth_and_falls_to_almost_nothing() -> None:
    factors = [compute_rate_factor("onecycle", share / 100) for share in range(101)]
    assert factors[0] == pytest.approx(0.04)
    assert factors[10] == max(factors) == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.001)
    assert {compute_rate_factor("constant", share / 10) for share in range(11)} == {1.0}


@pytest.mark.parametrize(
    ("chosen", "limits"),
    [
        ({}, (3000, math.inf)),
        ({"steps": 7}, (7, math.inf)),
        ({"epochs": 2}, (math.inf, 20)),
        ({"steps": 7, "epochs": 2}, (7, 20)),
        ({"minutes": 1.0}, (math.inf, math.inf)),
        ({"patience": 3}, (3000, math.inf)),  # else the schedule had no end to go by
    ],
)
def test_run_has_the_length_that_was_chosen(chosen: dict[str, float], limits: tuple[float, float]) -> None:
    assert find_limits(10, TrainOptions(batch_size=4, **chosen)) == limits
