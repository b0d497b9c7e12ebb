"""What a start finds changed since the last run is on record, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from inspector.journal.events import Event, Kind
from inspector.service.control.audit import Audit, describe_judge
from inspector.service.flow.judges import Judge


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def audit(events: list[Event]) -> Audit:
    return Audit("boot", events.append)


def test_first_recipe_of_a_camera_is_on_record_as_new(
    audit: Audit, events: list[Event], make_judge: Callable[..., Judge]
) -> None:
    audit.note_loaded({}, {"top": make_judge()})
    (event,) = events
    assert (event.kind, event.outcome, event.camera, event.who) == (Kind.RECIPE, "switched", "top", "station file")
    assert (event.boot_id, event.details["old"]) == ("boot", None)
    assert event.details["new"] == {
        "folder": "recipes/lens",
        "recipe_id": "lens",
        "recipe_sha256": "aa",
        "model_sha256": "bb",
        "threshold": 1.0,
    }


def test_nothing_is_on_record_when_the_recipe_is_the_same_elsewhere(
    audit: Audit, events: list[Event], make_judge: Callable[..., Judge]
) -> None:
    before = describe_judge(make_judge())
    audit.note_loaded({"top": {**before, "folder": "old/lens"}, "gone": None}, {"top": make_judge()})
    assert events == []


def test_threshold_edited_while_no_station_ran_is_on_record(
    audit: Audit, events: list[Event], make_judge: Callable[..., Judge]
) -> None:
    before = {**describe_judge(make_judge()), "threshold": 0.5}
    audit.note_loaded({"top": before}, {"top": replace(make_judge(), recipe_sha256="cc")})
    (event,) = events
    assert (event.details["old"]["threshold"], event.details["new"]["threshold"]) == (0.5, 1.0)


def test_recipe_taken_away_is_on_record(audit: Audit, events: list[Event], make_judge: Callable[..., Judge]) -> None:
    audit.note_loaded({"side": describe_judge(make_judge())}, {})
    (event,) = events
    assert (event.camera, event.details["old"]["recipe_id"], event.details["new"]) == ("side", "lens", None)
