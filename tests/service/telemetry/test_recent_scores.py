"""The median of what was judged lately."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from inspector.service.telemetry.recent_scores import RecentScores


@pytest.fixture
def recent(registry: CollectorRegistry) -> RecentScores:
    recent = RecentScores()
    registry.register(recent)
    return recent


def median(registry: CollectorRegistry, camera: str = "top") -> float | None:
    return registry.get_sample_value("inspector_score_median", {"camera": camera})


def test_median_is_absent_until_twenty_frames_were_judged(recent: RecentScores, registry: CollectorRegistry) -> None:
    for _ in range(19):
        recent.note("top", "aa", 0.5)
        recent.note("side", "aa", 0.7)
    assert median(registry) is None
    recent.note("top", "aa", 0.5)
    assert (median(registry), median(registry, "side")) == (0.5, None)


def test_median_is_that_of_the_last_two_hundred(recent: RecentScores, registry: CollectorRegistry) -> None:
    for number in range(1000):
        recent.note("top", "aa", float(number))
    assert median(registry) == 899.5


def test_median_begins_anew_when_another_recipe_judges(recent: RecentScores, registry: CollectorRegistry) -> None:
    for _ in range(200):
        recent.note("top", "aa", 0.9)
    recent.note("top", "bb", 0.1)
    assert median(registry) is None
    for _ in range(19):
        recent.note("top", "bb", 0.1)
    assert median(registry) == 0.1
