"""Tests that break a station many times: a few rounds by default, the long form with INSPECTOR_CHAOS=1."""

from __future__ import annotations

import os
import random
from typing import TypeVar

import pytest

IS_LONG = os.environ.get("INSPECTOR_CHAOS", "") not in {"", "0"}

long_only = pytest.mark.skipif(not IS_LONG, reason="in the long form only: make chaos")

Amount = TypeVar("Amount")


def scaled(short: Amount, long: Amount) -> Amount:
    """The amount for this run."""
    return long if IS_LONG else short


def timeout(short_s: float, long_s: float) -> pytest.MarkDecorator:
    """Instead of pyproject's limit for one test."""
    return pytest.mark.timeout(scaled(short_s, long_s))


def make_random() -> random.Random:
    """Another sequence each time, told so that it can be had again with INSPECTOR_CHAOS_SEED."""
    seed = int(os.environ.get("INSPECTOR_CHAOS_SEED") or random.randrange(10**6))
    tell(f"INSPECTOR_CHAOS_SEED={seed}")
    return random.Random(seed)


def tell(line: str) -> None:
    """What was counted or measured, for people: seen with `pytest -s`, or when the test fails."""
    print(line)  # noqa: T201
