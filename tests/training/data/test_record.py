"""training.json and the loss curve."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from inspector.errors import RecipeError
from inspector.training.data.record import HistoryPoint, TrainingRecord, load_record, write_record


def test_record_is_none_when_the_recipe_has_none(tmp_path: Path) -> None:
    assert load_record(tmp_path) is None


def test_record_comes_back_as_it_was_written_and_its_curve_is_drawn(tmp_path: Path) -> None:
    history = [HistoryPoint(tiles_seen=16 * n, loss=1 / n, validation_loss=1 / n, learning_rate=0.1) for n in (1, 2)]
    record = TrainingRecord(history=history, frames={"lot/ä.png": "0" * 64}, held_aside={"b.png": "1" * 64})
    write_record(record, tmp_path)
    assert load_record(tmp_path) == record
    curve = cv2.imread(str(tmp_path / "training.png"))
    assert curve is not None
    assert len({tuple(pixel) for row in curve[::4, ::4] for pixel in row}) > 5


def test_record_tells_frames_that_weights_and_threshold_depend_on() -> None:
    record = TrainingRecord(frames={"a": "A"}, validation_frames={"b": "B"}, held_aside={"c": "C"})
    assert record.name_used() == {"A": "a", "B": "b"}
    assert record.name_all() == {"A": "a", "B": "b", "C": "c"}


def test_keys_that_are_not_known_are_overlooked(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"best_step": 1}), encoding="utf-8")
    assert load_record(tmp_path) == TrainingRecord()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"frames": ["a.png"]}', '{"history": [{"loss": 1}]}'])
def test_record_is_refused_by_name_when_it_is_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"training\.json: must be a record written by training"):
        load_record(tmp_path)
