"""The page that helps: an error's own before the command's, at the end of what a failed command prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.cli.terminal import guide
from inspector.cli.terminal.guide import find_page, locate_page
from inspector.errors import ConfigError, InspectorError, RecipeError, StartError, WeightsError

Run = Callable[..., tuple[int, str]]
DOCS = Path(__file__).resolve().parents[3] / "docs"


def raise_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("command", "error", "page"),
    [
        ("calibrate", InspectorError("few"), "line-engineer/calibrate.md"),
        ("calibrate", RecipeError("altered"), "line-engineer/recipes.md"),
        ("train", WeightsError("away"), "line-engineer/recipes.md#training-without-network"),
        ("run", ConfigError("port"), "operator/start-that-fails.md"),
        ("run", StartError("port"), "operator/start-that-fails.md"),
        ("run", raise_from(ConfigError("at line 3"), RecipeError("altered")), "line-engineer/recipes.md"),
        ("run", raise_from(StartError("later"), RecipeError("away")), "operator/start-that-fails.md"),
        ("", InspectorError("odd"), "README.md"),
    ],
)
def test_page_is_the_errors_own_or_else_the_commands(command: str, error: Exception, page: str) -> None:
    assert find_page(command, error) == page


def test_page_is_found_in_a_checkout_in_an_installation_and_by_name_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate_page("quickstart.md#5") == f"{DOCS / 'quickstart.md'}#5"
    monkeypatch.setattr(guide, "_ROOTS", (tmp_path / "site-packages", tmp_path / "share"))
    assert locate_page("quickstart.md") == "docs/quickstart.md"
    (tmp_path / "share" / "docs").mkdir(parents=True)
    (tmp_path / "share" / "docs" / "quickstart.md").touch()
    assert locate_page("quickstart.md") == str(tmp_path / "share" / "docs" / "quickstart.md")


def test_failed_command_names_its_page_last(run: Run, tmp_path: Path) -> None:
    status, printed = run("send", tmp_path)
    assert status == 1
    assert printed.endswith(f"see {DOCS}/line-engineer/cameras.md#zmq-frames-from-your-own-program")
    status, printed = run("--verbose", "run", tmp_path / "none.yaml")
    assert status == 78
    assert printed.endswith(f"see {DOCS}/operator/start-that-fails.md")


def test_check_that_fails_names_its_page(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text("schema: 1\nstation: a\nstate_dir: state\ncameras: {top: {recipe: none}}\n")
    status, printed = run("check", path, "--no-environment")
    assert status == 78
    assert printed.endswith(f"failed; see {DOCS}/line-engineer/station-file.md")


@pytest.mark.parametrize("command", ["train", "keys"])
def test_help_of_a_command_names_its_page(run: Run, command: str) -> None:
    assert f"see {DOCS}/{guide.BY_COMMAND[command]}" in run(command, "--help")[1]
