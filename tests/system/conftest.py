"""Fixtures: a recipe small enough for a slow CPU, and real daemons that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, StartStation, base_config, write_recipe

FAULTY_DAEMON = Path(__file__).with_name("faulty_daemon.py")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "tiny")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled networks, so that not every station compiles the same one."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def start(tmp_path: Path, recipe: Path, engines: Path) -> Iterator[StartStation]:
    """Start a station in a fresh folder (or again in the same one), ready to be talked to."""
    yield from _serve(tmp_path, recipe, engines)


@pytest.fixture(scope="module")
def serve(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, recipe: Path, engines: Path
) -> Iterator[Callable[[], RunningStation]]:
    """Get one station for all tests of a file, with that file's `config` and no fault; started anew if it ended."""
    stations: list[RunningStation] = []
    serving = _serve(tmp_path_factory.mktemp("shared"), recipe, engines)
    start = next(serving)

    def get() -> RunningStation:
        if not stations or stations[-1].process.poll() is not None:
            stations.append(start(faults=True, config=config, wait=False))
            stations[-1].fault()
            stations[-1].wait_ready()
        return stations[-1]

    yield get
    next(serving, None)


@pytest.fixture(scope="module")
def whole_line(serve: Callable[[], RunningStation]) -> Iterator[Line]:
    """The line around `serve`'s station, whose ids are unique and whose account is that of all tests so far."""
    with Line(serve().config) as line:
        yield line


@pytest.fixture
def line(whole_line: Line) -> Iterator[Line]:
    """The same, still at the end of each test."""
    yield whole_line
    whole_line.pause()


def _serve(folder: Path, recipe: Path, engines: Path) -> Iterator[StartStation]:
    stations: list[RunningStation] = []

    def run(
        *, wait: bool = True, faults: bool = False, config: dict[str, Any] | None = None, **changes: Any
    ) -> RunningStation:
        (folder / "state").mkdir(exist_ok=True)
        if not (folder / "state" / "engines").is_symlink():
            (folder / "state" / "engines").symlink_to(engines)
        program = [str(FAULTY_DAEMON)] if faults else ["-m", "inspector"]
        station = RunningStation(folder, (config or base_config(recipe)) | changes, program)
        stations.append(station)
        if wait:
            station.wait_ready()
        return station

    yield run
    for station in stations:
        station.close()
