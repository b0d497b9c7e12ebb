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


@pytest.fixture
def start(tmp_path: Path, recipe: Path) -> Iterator[StartStation]:
    """Start a station in a fresh folder (or again in the same one), ready to be talked to."""
    stations: list[RunningStation] = []

    def run(*, wait: bool = True, config: dict[str, Any] | None = None, **changes: Any) -> RunningStation:
        station = RunningStation(tmp_path, (config or base_config(recipe)) | changes)
        stations.append(station)
        if wait:
            station.wait_ready()
        return station

    yield run
    for station in stations:
        station.close()
