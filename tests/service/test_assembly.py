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


@contextmanager
def assemble(folder: Path, health: Health, metrics: Metrics, **camera: Any) -> Iterator[Assembly]:
    """Camera `top` as the file describes it; nothing is started."""
    with context() as made:
        yield Assembly(
            make_station(folder, **camera),
            folder / "station.yaml",
            made,
            read_again=lambda: make_station(folder, **camera),
            apply=lambda _: None,
            drain=lambda _: None,
            health=health,
            metrics=metrics,
        )


def make_station(folder: Path, **camera: Any) -> Station:
    sockets = {name: f"ipc://{folder}/{name}" for name in SOCKETS}
    fields = {"schema": 1, "station": "press", "state_dir": folder, "device": "cpu", "sockets": sockets}
    return Station.model_validate(fields | {"cameras": {"top": camera}})


def test_age_of_frames_is_bounded_anew_when_a_reload_changes_the_limit_or_the_deadline_it_follows(
    tmp_path: Path, health: Health, metrics: Metrics
) -> None:
    with assemble(tmp_path, health, metrics, deadline_ms=300) as assembly:
        (thread,) = assembly._ingest
        assert thread.cameras["top"].age_limit_ms == 300
        for changed, limit_ms in (({"deadline_ms": 700}, 700), ({"max_age_ms": 50}, 50), ({"max_age_ms": None}, None)):
            assembly.apply(make_station(tmp_path, **changed))
            assert thread.cameras["top"].age_limit_ms == limit_ms


def test_camera_whose_frames_may_be_of_any_age_is_told_at_the_start_and_when_a_reload_makes_it_so(
    tmp_path: Path, health: Health, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    told = ["camera top: max_age_ms is null: a frame is judged however long it was held on the way"]
    with assemble(tmp_path, health, metrics, max_age_ms=None) as assembly:
        assert caplog.messages == told
        caplog.clear()
        assembly.apply(make_station(tmp_path))
        assert caplog.messages == []
        assembly.apply(make_station(tmp_path, max_age_ms=None))
        assert caplog.messages == told


def test_source_that_hangs_is_known_at_the_end_so_that_the_process_does_not_wait_for_it(
    tmp_path: Path, health: Health, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    with assemble(tmp_path, health, metrics, source={"type": "folder", "path": tmp_path}) as assembly:
        assert not assembly.is_asking_outside
        (thread,) = assembly._ingest
        monkeypatch.setattr(thread._source, "is_busy", lambda: True)
        assert assembly.is_asking_outside


def test_endpoints_of_the_daemon_that_runs_a_station_stay_its_own_when_another_is_started(
    tmp_path: Path, health: Health, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel lets a process take its own lock twice, so another's is a stand-in.
    monkeypatch.setattr("inspector.service.assembly.StationLock", refuse)
    endpoint = make_station(tmp_path).sockets.results
    with context() as running, running.socket(zmq.PUB) as results:
        results.bind(endpoint)
        before = (tmp_path / "results").stat().st_ino
        with pytest.raises(ConfigError, match="must be run by one daemon"), assemble(tmp_path, health, metrics):
            pass
        assert (tmp_path / "results").stat().st_ino == before
