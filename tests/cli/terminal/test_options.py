"""Options that are wrong by themselves: usage, exit status 2, and the rule is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main

from inspector.cli.app import app, main

Run = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("command", ["train", "import"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--backbone", "foo", "must be one of resnet18, resnet34, resnet50, "),
        ("--backbone", "resnet18d.ra4_e3600_r224_in1k", "(a timm tag may follow), got 'resnet18d.ra4_e3600_r224_in1k'"),
        ("--tile-size", "100", "must be a multiple of 32, got 100"),
        ("--tile-size", "8192", "4096"),
        ("--short-side", "16", "32"),
        ("--short-side", "5000", "4096"),
        ("--stride", "300", "must be at most --tile-size (256), got 300"),
    ],
)
def test_usage_error_names_the_rule_when_an_option_breaks_it(
    run: Run, tmp_path: Path, command: str, option: str, value: str, message: str
) -> None:
    status, printed = run(command, tmp_path, "--out", tmp_path / "recipe", option, value)
    assert status == 2
    assert f"Invalid value for '{option}': " in printed
    assert message in printed
    assert list(tmp_path.iterdir()) == []


def test_option_is_accepted_when_a_tag_follows_the_backbone(run: Run, tmp_path: Path) -> None:
    status, printed = run("train", tmp_path, "--out", tmp_path / "recipe", "--backbone", "resnet18.a1_in1k")
    assert status == 1  # no frames in the folder
    assert "Invalid value" not in printed


def test_training_is_refused_when_frames_would_be_scaled_in_two_ways(run: Run, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    cv2.imwrite(str(good / "0.png"), np.zeros((40, 60), np.uint8))
    arguments = ("train", good, "--out", tmp_path / "recipe")
    rule = "at most one of scale, resize_hw, short_side may be given, got"
    status, printed = run(*arguments, "--scale", 0.5, "--short-side", 96)
    assert status == 1
    assert f"options: {rule} scale 0.5, short_side 96 see " in printed
    status, printed = run(*arguments, "--resize", 64, 64, "--short-side", 96)
    assert status == 1
    assert f"options: {rule} resize_hw (64, 64), short_side 96 see " in printed


@pytest.mark.parametrize("command", ["train", "calibrate", "import"])
def test_help_shows_the_names_of_all_options_whole_on_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["inspector", command, "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main()
    printed = set(capsys.readouterr().out.split())
    root: Any = typer.main.get_command(app)
    assert {option for each in root.commands[command].params for option in each.opts if "-" in option} <= printed
