"""A station is put together whole, or leaves the one that runs already alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspector.config import SOCKETS, Station
from inspector.errors import ConfigError
from inspector.service.assembly import Assembly
from inspector.service.health import Health
from inspector.service.metrics import Metrics


def refuse(folder: Path) -> Any:
    raise ConfigError(f"station: must be run by one daemon, but another runs it from {folder}", field=("station",))


@contextmanager
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


def test_endpoints_of_the_daemon_that_runs_a_station_stay_its_own_when_another_is_started(
    tmp_path: Path, health: Health, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = {name: f"ipc://{tmp_path}/{name}" for name in SOCKETS}
    fields = {"schema": 1, "station": "press", "state_dir": tmp_path, "device": "cpu", "sockets": sockets}
    station = Station.model_validate(fields | {"cameras": {"top": {}}})
    # The kernel lets a process take its own lock twice, so another's is a stand-in.
    monkeypatch.setattr("inspector.service.assembly.StationLock", refuse)
    with context() as running, running.socket(zmq.PUB) as results:
        results.bind(sockets["results"])
        before = (tmp_path / "results").stat().st_ino
        with context() as second, pytest.raises(ConfigError, match="must be run by one daemon"):
            Assembly(
                station,
                tmp_path / "station.yaml",
                second,
                read_again=lambda: station,
                apply=lambda _: None,
                drain=lambda _: None,
                health=health,
                metrics=metrics,
            )
        assert (tmp_path / "results").stat().st_ino == before
