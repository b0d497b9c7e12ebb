"""Learning rate, limits, precision."""

from __future__ import annotations

import math

import pytest
import torch

from inspector.training.options import TrainOptions
from inspector.training.schedule import compute_rate_factor, count_steps, has_fast_bf16


def test_rate_rises_over_a_tenth_and_falls_to_almost_nothing() -> None:
    factors = [compute_rate_factor("onecycle", share / 100) for share in range(101)]
    assert factors[0] == pytest.approx(0.04)
    assert factors[10] == max(factors) == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.001)
    assert {compute_rate_factor("constant", share / 10) for share in range(11)} == {1.0}


def test_first_limit_counts() -> None:
    limits = [({}, 3000), ({"steps": 7}, 7), ({"epochs": 2}, 6), ({"steps": 7, "epochs": 2}, 6), ({"steps": 5}, 5)]
    for chosen, expected in limits:
        assert count_steps(10, TrainOptions(batch_size=4, **chosen)) == expected
    assert count_steps(10, TrainOptions(minutes=1.0)) == math.inf


def test_bf16_is_used_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    for major, expected in ((7, False), (8, True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, major=major: (major, 0))
        assert has_fast_bf16(cuda) is expected
