"""Frames that calibration may use."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from inspector.errors import RecipeError, TrainingError
from inspector.training.data.good_frames import choose_frames, name_groups


def write(folder: Path, **contents: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.png").write_text(content)
    return [folder / f"{name}.png" for name in contents]


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def record(folder: Path, **contents: str) -> Path:
    frames = {f"{name}.png": sha256(content) for name, content in contents.items()}
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps({"frames": frames, "held_aside": {}}))
    return folder


def test_frames_are_left_out_by_content_when_training_saw_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = record(tmp_path / "recipe", a="A", b="B")
    paths = write(tmp_path / "good", renamed="A", b="another", c="C")
    assert list(choose_frames(recipe, paths)) == paths[1:]
    assert "1 of 3 good frames left out, since the recipe was trained on them: " in caplog.text
    assert "renamed.png" in caplog.text


def test_frames_that_chose_the_weights_are_left_out_and_those_held_aside_are_not(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(
        json.dumps({"validation_frames": {"v.png": sha256("V")}, "held_aside": {"h.png": sha256("H")}})
    )
    paths = write(tmp_path / "good", v="V", h="H")
    assert list(choose_frames(tmp_path, paths)) == paths[1:]


def test_calibration_is_refused_when_training_saw_all_frames(tmp_path: Path) -> None:
    recipe = record(tmp_path / "recipe", a="A", b="B")
    with pytest.raises(TrainingError, match="at least 2 not used in training are needed, got 0 of 2"):
        choose_frames(recipe, write(tmp_path / "good", x="A", y="B"))


def test_copies_count_once_when_frames_repeat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write(tmp_path / "good", a="A", b="B", c="A")
    assert list(choose_frames(tmp_path, paths)) == paths[:2]
    assert "1 of 3 good frames counted once" in caplog.text
    assert "only 2 good frames" in caplog.text


def test_nothing_is_warned_of_when_ten_frames_are_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    paths = write(tmp_path / "good", **{f"f{n}": str(n) for n in range(10)})
    assert list(choose_frames(record(tmp_path / "recipe", a="A"), paths)) == paths
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["", "[]", '{"frames": ["a"]}', '{"frames": null}', '{"frames": {"a": []}}'])
def test_record_of_training_is_refused_when_it_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(RecipeError, match=r"training\.json: must be a record written by training"):
        choose_frames(tmp_path, write(tmp_path / "good", a="A"))


def test_groups_are_folders_or_what_an_expression_finds(tmp_path: Path) -> None:
    paths = [tmp_path / "lot1" / "x-7.png", tmp_path / "lot2" / "deep" / "y-8.png", tmp_path / "z-8.png"]
    assert list(name_groups(tmp_path, paths, "folder").values()) == ["lot1", "lot2", "."]
    assert list(name_groups(tmp_path, paths, r"-(\d)\.png$").values()) == ["7", "8", "8"]
    assert list(name_groups(tmp_path, paths[:2], r"^(lot\d)/").values()) == ["lot1", "lot2"]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("lot(", r"must be folder or a regular expression, got 'lot\('"),
        ("lot", "must have one capture group, got 'lot', which has 0"),
        ("(l)(o)t", "must have one capture group, .* which has 2"),
        (r"(lot\d)", "must match each frame, .* which does not match z.png"),
        (r"lot(x)?|z", "must match each frame, .* which does not match"),
    ],
)
def test_groups_are_refused_when_the_expression_does_not_serve(tmp_path: Path, rule: str, fault: str) -> None:
    with pytest.raises(TrainingError, match=f"--groups: {fault}"):
        name_groups(tmp_path, [tmp_path / "lot1" / "x.png", tmp_path / "z.png"], rule)
