"""What `inspector check` finds of a station's parts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inspector.cli.check.parts import (
    _check_device,
    _check_engines,
    _check_sources,
    check_devices,
    check_offline,
    check_views,
)
from inspector.config import Station
from inspector.device import Driver
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.testing.fake_camera import FakeCamera
from inspector.types import Fallback


def make_station(state_dir: Path) -> Station:
    return Station.model_validate({"schema": 1, "station": "press", "state_dir": state_dir, "cameras": {"top": {}}})


def test_camera_that_stays_offline_is_a_warning_that_names_who_asked_and_the_way_back(tmp_path: Path) -> None:
    station = make_station(tmp_path)
    assert check_offline(station) == []
    station.folder.mkdir()
    kept = {name: {"since_utc_ns": 1, "who": "anna"} for name in ("top", "gone")}
    (station.folder / "offline.json").write_text(json.dumps({"cameras": kept}))
    (finding,) = check_offline(station)
    assert (finding.what, finding.result) == ("cameras.top offline", "WARN")
    assert finding.problem == "anna asked for it: every frame is answered ERROR OFFLINE, over a restart too"
    assert "inspector online STATION.yaml --camera top" in finding.fix


def test_damaged_file_is_a_warning_that_says_what_a_start_will_do(tmp_path: Path) -> None:
    station = make_station(tmp_path)
    station.folder.mkdir()
    (station.folder / "offline.json").write_text("{")
    (finding,) = check_offline(station)
    assert (finding.what, finding.result) == ("state_dir offline", "WARN")
    assert finding.problem.startswith("all cameras will be offline")


@pytest.mark.parametrize(
    ("simulated", "result", "words"),
    [
        (False, "ok", "PASS needs a PASS of top, left with one part_id, within 2500 ms of the first view"),
        (True, "WARN", "camera left is simulated, others are not: no part will pass at a client"),
    ],
)
def test_part_is_told_with_what_its_pass_needs_and_whether_it_can_have_one(
    tmp_path: Path, simulated: bool, result: str, words: str
) -> None:
    fields = {"cameras": {"top": {}, "left": {"simulated": simulated}},
              "parts": {"body": {"cameras": ["top", "left"], "window_ms": 2500}}}  # fmt: skip
    station = Station.model_validate({"schema": 1, "station": "press", "state_dir": tmp_path} | fields)
    (finding,) = check_views(station)
    assert (finding.result, finding.problem or finding.detail) == (result, words)
    assert finding.what == ("parts.body.cameras" if simulated else "parts.body")


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("in_use", [False, True])
def test_driver_that_is_too_old_is_a_problem_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, device: str, in_use: bool
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("inspector.device.read_driver", lambda: Driver("550.54.15", 12))
    finding = _check_device(device, in_use=in_use)
    assert "this machine has 550.54.15" in str(finding.problem)
    assert "580" in str(finding.problem)
    assert "install a newer driver, or the torch built for this one" in str(finding.fix)


@pytest.mark.parametrize("fallback", list(Fallback))
def test_engine_that_is_slower_than_need_be_is_a_warning_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, fallback: Fallback
) -> None:
    engine = SimpleNamespace(precision="fp32", name="an engine", fallback=fallback)
    detector = SimpleNamespace(engine=engine, recipe=SimpleNamespace(golden=()))
    monkeypatch.setattr(
        "inspector.service.flow.judges.load_judges", lambda *args: {"top": SimpleNamespace(detector=detector)}
    )
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {"recipe": "lens"}}})
    (finding,) = _check_engines(station, wanted=True, refused=())
    if fallback is Fallback.NONE:
        assert (finding.result, finding.detail) == ("ok", "fp32, an engine, no golden frames")
    else:
        assert finding.result == "WARN"
        assert finding.problem == "fp32, an engine, no golden frames: slower than this machine would allow"
        assert finding.fix == fallback.explanation != ""


def test_settings_that_a_camera_has_are_shown_as_they_were_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera({"ExposureTime": "100.4", "Width": "0", "Gain": "2"}, ("ExposureTime", "Gain"))
    build = lambda settings, name: GenicamSource(name, settings, camera)  # noqa: E731
    monkeypatch.setattr(PylonSettings, "build", build)
    source = {"type": "pylon", "exposure_us": 100, "width": 64, "gain": 2}
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {"source": source}}})
    (finding,) = _check_sources(station, None)
    assert finding.result == "ok"
    assert finding.detail == "pylon: available; Width 64, ExposureTime 100.4 (asked for 100.0), Gain 2, TriggerMode Off"


def test_each_recipe_is_proved_on_the_device_of_its_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(precision="fp16", name="an engine", fallback=Fallback.NONE)
    judge = SimpleNamespace(detector=SimpleNamespace(engine=engine, recipe=SimpleNamespace(golden=())))
    asked: list[tuple[str, ...]] = []

    def load_judges(station: Station, cache: Path) -> dict[str, Any]:
        asked.append(station.devices)
        return dict.fromkeys(station.cameras, judge)

    monkeypatch.setattr("inspector.service.flow.judges.load_judges", load_judges)
    cameras = {"top": {"recipe": "lens"}, "side": {"recipe": "lens"}, "back": {"recipe": "lens", "device": "cuda:1"}}
    station = Station.model_validate(
        {"schema": 1, "station": "press", "device": ["cuda:0", "cuda:1"], "cameras": cameras}
    )
    findings = _check_engines(station, wanted=True, refused=())
    assert asked == [("cuda:0",), ("cuda:0",), ("cuda:1",)]
    assert [finding.detail for finding in findings] == [
        f"fp16, an engine, no golden frames, on {device}" for device in ("cuda:0", "cuda:0", "cuda:1")
    ]


def test_one_of_several_devices_that_is_not_there_is_told_by_its_name() -> None:
    station = Station.model_validate(
        {"schema": 1, "station": "press", "device": ["cpu", "cuda:99"], "cameras": {"top": {}, "side": {}}}
    )
    found, missing = check_devices(station, in_use=True)
    assert (found.result, found.detail) == ("ok", "cpu")
    assert (missing.what, missing.result) == ("device", "FAIL")
    assert str(missing.problem).startswith("cuda:99: cannot be used: device: must be a device of this machine")


def test_missing_device_is_a_warning_where_the_station_starts_without_it() -> None:
    fields = {"schema": 1, "station": "press", "missing_device": "leave_out", "cameras": {"top": {}, "side": {}}}
    found, missing = check_devices(Station.model_validate(fields | {"device": ["cpu", "cuda:99"]}), in_use=True)
    assert (found.result, missing.result) == ("ok", "WARN")
    assert missing.fix.endswith("until then the station starts without it")
    findings = check_devices(Station.model_validate(fields | {"device": ["cuda:98", "cuda:99"]}), in_use=True)
    assert [finding.result for finding in findings] == ["FAIL", "FAIL"]
