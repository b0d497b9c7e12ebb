"""What is looked at beside recipes and sockets: cameras that people left offline."""

from __future__ import annotations

import json
from pathlib import Path

from inspector.cli.check.parts import check_offline
from inspector.config import Station


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
