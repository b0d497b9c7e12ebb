"""Options that are wrong by themselves: usage, exit status 2, and the rule is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("command", ["train", "import"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--backbone", "foo", "must be one of resnet18, resnet34, resnet50, "),
        ("--backbone", "resnet18d.ra4_e3600_r224_in1k", "(a timm tag may follow), got 'resnet18d.ra4_e3600_r224_in1k'"),
        ("--tile-size", "100", "must be a multiple of 32, got 100"),
        ("--tile-size", "8192", "4096"),
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
