"""Fixtures: a recipe small enough for a slow CPU, and real daemons that use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from station_process import RunningStation, StartStation, base_config, write_recipe


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
    stations: list[RunningStation] = []

    def run(
        *, wait: bool = True, faults: bool = False, config: dict[str, Any] | None = None, **changes: Any
    ) -> RunningStation:
        (tmp_path / "state").mkdir(exist_ok=True)
        if not (tmp_path / "state" / "engines").is_symlink():
            (tmp_path / "state" / "engines").symlink_to(engines)
        station = RunningStation(tmp_path, (config or base_config(recipe)) | changes, faults=faults)
        stations.append(station)
        if wait:
            station.wait_ready()
        return station

    yield run
    for station in stations:
        station.close()
