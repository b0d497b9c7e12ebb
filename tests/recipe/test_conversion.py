"""A network is converted by a process that gives way to the one that judges, and never outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inspector.config import Recipe, Threshold, Tiling, load_recipe
from inspector.engine.build import build_engine, is_converted
from inspector.recipe.conversion import convert_aside
from inspector.recipe.network import build_model
from inspector.training.recipe_writer import write_recipe

WAIT_S = 120.0


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, of any network."""
    folder = tmp_path_factory.mktemp("recipes") / "lens"
    described = Recipe(
        recipe_id="lens",
        backbone="resnet18",
        precision="fp32",
        tiling=Tiling(tile_size=64, stride=64),
        threshold=Threshold(value=100.0, method="manual"),
        weights_sha256="0" * 64,
    )
    write_recipe(described, build_model(described), folder)
    return folder


def list_children(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for path in children for pid in path.read_text().split()]


def read_nice(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])
    except (OSError, IndexError):
        return None


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_engine_is_built_without_the_network_once_another_process_of_low_priority_converted_it(
    recipe: Path, tmp_path: Path
) -> None:
    described = load_recipe(recipe)
    assert not is_converted(described, tmp_path)
    thread = threading.Thread(target=convert_aside, args=(recipe, tmp_path))
    thread.start()
    seen = set()
    while thread.is_alive():
        seen |= {read_nice(pid) for pid in list_children(os.getpid())}
        time.sleep(0.005)
    assert os.nice(0) + 10 in seen or 19 in seen
    assert is_converted(described, tmp_path)

    def load() -> None:
        pytest.fail("the network was loaded to be converted")

    build_engine(described, load, device=torch.device("cpu"), folder=recipe, cache=tmp_path, proved=False)


def test_nothing_is_started_when_it_is_converted_or_no_recipe(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.recipe.conversion.is_converted", lambda *_: True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    convert_aside(recipe, tmp_path)
    convert_aside(tmp_path, tmp_path)  # said by whoever opens it


def test_what_cannot_be_converted_aside_is_said_and_left_to_who_opens_it(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    convert_aside(recipe, tmp_path)
    assert "not converted in a separate process, so it is converted in this one while frames are judged" in caplog.text


def test_conversion_ends_with_the_process_that_asked_for_it(recipe: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from inspector.recipe.conversion import convert_aside; "
        "convert_aside(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(recipe), str(tmp_path)])
    try:
        wait_for(lambda: any((read_nice(pid) or 0) > os.nice(0) for pid in list_children(parent.pid)))
        children = list_children(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait(WAIT_S)
        wait_for(lambda: all(read_nice(pid) is None or is_zombie(pid) for pid in children))
    finally:
        parent.kill()
    assert not is_converted(load_recipe(recipe), tmp_path)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
