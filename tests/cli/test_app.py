"""What every command has in common: whatever a file is called, it is told, on any terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.cli.app import main
from inspector.cli.terminal.progress import show_progress
from inspector.config import Recipe
from inspector.engine.build import build_eager
from inspector.engine.eager import EagerEngine
from inspector.testing.station_process import good_frame, write_recipe

RunOn = Callable[..., tuple[int, str, str]]
NAMES = ("a", "b-部品", "c-\udcff")
"""The last is what Python makes of a byte that is no UTF-8."""


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three good frames, and eager instead of the device's engine, which takes seconds to convert."""

    def build(recipe: Recipe, load_model: Any, *, device: torch.device, **options: Any) -> EagerEngine:
        return build_eager(recipe, load_model(), device=device)

    monkeypatch.setattr("inspector.recipe.opening.build_engine", build)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(cv2.imencode(".png", good_frame())[1].tobytes())
    return folder


def open_terminal(encoding: str) -> io.TextIOWrapper:
    """As Python opens one."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)


def read_back(terminal: Any) -> str:
    return str(terminal.buffer.getvalue().decode("latin-1"))


@pytest.fixture(params=["latin-1", "ascii", "utf-8"])
def run_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RunOn:
    """Runs `inspector ARGUMENTS...` on a terminal of an encoding; returns exit status, stdout and stderr as Latin-1."""

    def run_program(*arguments: object) -> tuple[int, str, str]:
        out, err = open_terminal(request.param), open_terminal(request.param)
        monkeypatch.setattr(sys, "argv", ["inspector", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), read_back(out), read_back(err)

    return run_program


def is_told(name: str, printed: str) -> bool:
    """Whether a name stands there: escaped, or in UTF-8."""
    return name.encode("unicode_escape").decode() in printed or name.encode("utf-8", "ignore").decode(
        "latin-1"
    ) in printed.replace("\\udcff", "")


def test_inspect_tells_every_result_whatever_the_files_are_called(
    run_on: RunOn, recipe_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    overlays = tmp_path / "overlays-\udcff"
    status, out, _ = run_on("inspect", recipe_dir, pictures, "--overlays", overlays)
    assert status == 0
    assert [line[:5] for line in out.splitlines()] == ["PASS "] * 3
    assert all(is_told(name, line) for name, line in zip(NAMES, out.splitlines(), strict=True))
    assert sorted(path.stem for path in overlays.iterdir()) == sorted(NAMES)
    for path in overlays.iterdir():
        assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None


def test_inspect_writes_one_line_a_file_when_a_name_has_two(run_on: RunOn, recipe_dir: Path, pictures: Path) -> None:
    (pictures / "a.png").rename(pictures / "a\nPASS b.png")
    _, out, _ = run_on("inspect", recipe_dir, pictures)
    assert len(out.splitlines()) == 3
    assert r"a\nPASS b.png" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("check", "{}.yaml"), 78), (("run", "{}.yaml"), 78), (("golden", "{}"), 78),
        (("inspect", "{}", "{}"), 1), (("evaluate", "{}", "{}"), 78), (("train", "{}", "--out", "{}"), 1),
        (("send", "{}"), 1),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_fault_names_its_file_whatever_that_is_called(
    run_on: RunOn, arguments: tuple[str, ...], expected: int, tmp_path: Path
) -> None:
    for name in NAMES[1:]:
        status, out, err = run_on(*(each.format(tmp_path / name) for each in arguments))
        assert status == expected, err
        assert "Traceback" not in err
        assert is_told(name, "".join((out + err).split("\n"))), err


def test_progress_of_any_name_is_shown_on_any_terminal(run_on: RunOn, monkeypatch: pytest.MonkeyPatch) -> None:
    run_on("--version")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as where stderr is a terminal
    with show_progress() as update:
        for name in NAMES:
            update(name, 1.0, name)
    assert all(is_told(name, read_back(sys.stderr)) for name in NAMES)


def test_nothing_is_collected_at_the_end_when_the_process_is_gone_anyway() -> None:
    code = (
        "import atexit, gc, sys; from inspector.cli.app import main; "
        "atexit.register(lambda: print(len(gc.get_objects()))); sys.argv = ['inspector', '--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1000
