"""training.json as evaluation reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inspector.errors import RecipeError
from inspector.training.training_record import HistoryPoint, TrainingRecord, load_training_record


def test_record_is_none_when_the_recipe_has_none(tmp_path: Path) -> None:
    assert load_training_record(tmp_path) is None


def test_record_holds_history_and_frames_and_overlooks_the_rest(tmp_path: Path) -> None:
    point = {"tiles_seen": 16, "loss": 0.5, "validation_loss": None, "learning_rate": 0.005}
    record = {"history": [point], "frames": {"a.png": "0" * 64}, "best_step": 1}
    (tmp_path / "training.json").write_text(json.dumps(record), encoding="utf-8")
    expected = [HistoryPoint(tiles_seen=16, loss=0.5, validation_loss=None, learning_rate=0.005)]
    assert load_training_record(tmp_path) == TrainingRecord(history=expected, frames={"a.png": "0" * 64})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"frames": ["a.png"]}', '{"history": [{"loss": 1}]}'])
def test_record_is_refused_by_name_when_it_is_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"training\.json: must be the record that training writes"):
        load_training_record(tmp_path)
