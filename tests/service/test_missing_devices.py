"""A station starts without a device that cannot be used, where its file says so and another one can."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from inspector.config import Station
from inspector.errors import ConfigError
from inspector.service import missing_devices as module
from inspector.service.missing_devices import find_missing, report_missing
from inspector.service.telemetry.health import Health, State

CAMERAS = {"top": {}, "side": {"device": "cuda:1"}, "back": {"device": "cuda:0"}}
DEAD = "CUDA error: uncorrectable ECC error encountered"


def build(**changes: Any) -> Station:
    fields = {"schema": 1, "station": "press", "device": ["cuda:0", "cuda:1"], "cameras": CAMERAS}
    return Station.model_validate(fields | {"missing_device": "leave_out"} | changes)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """What devices raise where they are tried."""
    faults: dict[str, Exception] = {}
    monkeypatch.setattr(module, "_TRY", "import json, sys; sys.exit(json.loads(sys.argv[1].partition(' ')[2]))")
    run = subprocess.run

    def try_with_fault(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        fault = faults.get(command[-1])
        return run([*command[:-1], f"{command[-1]} {json.dumps(fault and str(fault))}"], **options)

    monkeypatch.setattr(module.subprocess, "run", try_with_fault)
    return faults


def test_device_is_tried_in_a_process_of_its_own() -> None:
    assert module._try("cpu") is None
    assert "cuda:63" in str(module._try("cuda:63"))


def test_device_that_hangs_or_ends_the_process_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRY", "import os; os.abort()")
    assert module._try("cpu") == f"its process ended with {-signal.SIGABRT}"
    monkeypatch.setattr(module, "_TRY", "import time; time.sleep(600)")
    monkeypatch.setattr(module, "_TRY_S", 0.2)
    assert module._try("cpu") == "it does not answer within 0.2 s"


@pytest.mark.parametrize("fault", [ConfigError("device: must be a device of this machine"), RuntimeError(DEAD)])
def test_device_that_is_not_there_or_does_not_work_is_missing(faults: dict[str, Exception], fault: Exception) -> None:
    assert find_missing(build()) == {}
    faults["cuda:1"] = fault
    assert find_missing(build()) == {"cuda:1": str(fault)}


def test_no_device_is_left_out_when_the_file_does_not_say_so_or_no_other_can_be_used(
    faults: dict[str, Exception],
) -> None:
    faults["cuda:1"] = RuntimeError(DEAD)
    assert find_missing(build(missing_device="refuse")) == {}
    faults["cuda:0"] = RuntimeError(DEAD)
    assert find_missing(build()) == {}


def test_cameras_of_a_device_that_is_left_out_are_placed_on_the_others() -> None:
    station = build(device=["cuda:0", "cuda:1", "cpu"])
    assert station.places == {"side": 1, "back": 0, "top": 2}
    left = station.without({"cuda:1"})
    assert left.devices == ("cuda:0", "cpu")
    assert left.places == {"back": 0, "top": 1, "side": 0}
    assert left.without({"cuda:0", "cpu"}) is left
    assert station.without(()) is station
    assert build().without({"cuda:0"}).places == {"top": 0, "side": 0, "back": 0}


def test_station_is_degraded_and_ready_without_a_device(health: Health) -> None:
    report_missing({"cuda:1": DEAD}, health)
    health.enter(State.READY)
    assert health.state is State.DEGRADED
    words = f"device cuda:1: left out until a restart, the other devices judge its cameras: {DEAD}"
    assert health.ready() == (True, f"DEGRADED: {words}")
    assert health.last_error == words
