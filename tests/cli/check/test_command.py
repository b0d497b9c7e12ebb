"""`inspector check` reports every fault, with its place and what to do, and leaves a running daemon alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inspector.cli.check import parts as checks
from inspector.cli.check.finding import Finding
from inspector.config import Station
from inspector.sources.folder import FolderSource as Folder

Run = Callable[..., tuple[int, str]]
SOCKETS = ("frames", "results", "overlays", "requests", "imagezmq")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A station without a recipe; the rest is well."""
    sockets = {name: f"ipc:///tmp/{tmp_path.name}-{name}" for name in SOCKETS}
    small = {"max_bytes": "1MiB"}
    return {
        "schema": 1, "station": "press", "state_dir": "state", "device": "cpu", "sockets": sockets,
        "http": {"port": 0}, "evidence": small | {"min_free": "1MiB"}, "journal": small, "cameras": {"top": {}},
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.yaml"


def check(run: Run, path: Path, config: dict[str, Any], *options: str) -> tuple[int, dict[str, Any]]:
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    status, printed = run("check", path, "--json", *options)
    report = json.loads(printed)
    return status, report | {"findings": {finding.pop("what"): finding for finding in report["findings"]}}


def test_faults_of_a_file_that_does_not_load_are_all_reported(run: Run, path: Path, config: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(config | {"http": {"prot": 1}, "device": "tpu"}, sort_keys=False))
    status, printed = run("check", path)
    assert status == 78
    for words in (f"{path}:4:1: device: String should match pattern", f"{path}:12:3: http.prot: unknown key"):
        assert words in printed
    status, printed = run("check", path, "--json")
    report = json.loads(printed)
    assert (status, report["station"], report["ok"]) == (78, None, False)
    assert [finding["problem"].partition(" ")[0] for finding in report["findings"]] == [f"{path}:4:1:", f"{path}:12:3:"]


def test_long_path_is_whole_when_the_terminal_is_narrow(tmp_path: Path, path: Path, config: dict[str, Any]) -> None:
    recipe = "r" * 100
    config["cameras"]["top"]["recipe"] = recipe
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "inspector", "check", path, "--no-environment"]
    ran = subprocess.run(command, env=os.environ | {"COLUMNS": "80"}, check=False, capture_output=True, text=True)
    assert ran.returncode == 78
    assert max(map(len, ran.stdout.splitlines())) <= 80
    folded = "".join(line.strip("│ ").rpartition("│")[2].strip() for line in ran.stdout.splitlines())
    assert recipe in folded


def test_every_fault_has_a_word_its_place_and_what_to_do(run: Run, path: Path, config: dict[str, Any]) -> None:
    config["sockets"]["overlays"] = "ipc:///nowhere/[red]overlays"
    config["cameras"]["top"]["source"] = {"type": "folder", "path": "gone"}
    status, report = check(run, path, config)
    assert (status, report["station"], report["ok"]) == (78, "press", False)
    failed = {what: finding for what, finding in report["findings"].items() if finding["result"] == "FAIL"}
    assert set(failed) == {"cameras.top.recipe", "sockets.overlays", "cameras.top.source"}
    assert all(finding["fix"] == finding["mend"] != "" for finding in failed.values())
    assert failed["sockets.overlays"]["at"] == f"{path}:8:3"
    assert failed["cameras.top.source"]["at"] == f"{path}:20:5"
    assert report["findings"]["daemon"]["detail"].startswith("not running for this station")
    status, printed = run("check", path)
    assert status == 78
    assert printed.count("FAIL") == 3
    assert "ipc:///nowhere/[red]overlays: the folder /nowhere does not exist" in printed
    assert "to do: create /nowhere and make it writable" in printed
    assert "3 of " in printed


FOLDER = {"type": "folder", "path": "in"}
AGES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "ok", "2000 ms; a frame without a capture time is judged"),
    ({"deadline_ms": 700}, "ok", "700 ms; a frame without a capture time is judged"),
    ({"max_age_ms": 300}, "ok", "300 ms; a frame without a capture time is answered ERROR STALE"),
    ({"source": {"type": "opencv", "device": 0}}, "WARN", "the capture time is the time of reading: "),
    ({"max_age_ms": None}, "WARN", "null: a frame is judged no matter how long it was delayed on the way"),
    ({"max_age_ms": None, "source": FOLDER}, "WARN", "null: a frame is judged"),
    ({"source": FOLDER}, "WARN", "files have no capture time"),
    ({"max_age_ms": 300, "source": FOLDER}, "FAIL", "300: every frame will be answered ERROR STALE"),
    ({"max_age_ms": 300, "source": FOLDER | {"recorded": True}}, "ok", "300 ms; "),
    ({"source": FOLDER | {"recorded": True}}, "ok", "2000 ms; "),
    ({"source": {"type": "imagezmq"}}, "WARN", "imagezmq's own messages have no capture time"),
    ({"max_age_ms": 300, "source": {"type": "imagezmq"}}, "ok", "300 ms; "),
]


@pytest.mark.parametrize(("camera", "result", "words"), AGES)
def test_camera_whose_frames_may_be_of_any_age_is_told(camera: dict[str, Any], result: str, words: str) -> None:
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": camera}})
    (finding,) = checks.check_ages(station)
    assert (finding.what, finding.result) == ("cameras.top.max_age_ms", result)
    assert (finding.problem or finding.detail).startswith(words)
    assert bool(finding.fix) == (result != "ok")


def test_age_of_frames_is_checked_with_its_place_in_the_file(run: Run, path: Path, config: dict[str, Any]) -> None:
    config["cameras"]["top"]["max_age_ms"] = None
    _, report = check(run, path, config, "--no-environment")
    found = report["findings"]["cameras.top.max_age_ms"]
    assert (found["result"], found["at"]) == ("WARN", f"{path}:20:5")


def test_recipe_that_is_not_there_is_one_fault_and_not_its_engine_s_too(
    run: Run, path: Path, config: dict[str, Any]
) -> None:
    config["cameras"]["top"]["recipe"] = "lens"
    status, report = check(run, path, config)
    assert status == 78
    failed = [what for what, finding in report["findings"].items() if finding["result"] == "FAIL"]
    assert failed == ["cameras.top.recipe"]
    assert "cameras.top engine" not in report["findings"]


def test_folder_that_does_not_answer_is_a_fault_and_the_rest_is_checked_all_the_same(
    run: Run, path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    real_isdir = os.path.isdir

    def isdir(folder: Any) -> bool:
        assert not str(folder).endswith("share") or answers.wait(60)
        return real_isdir(folder)

    monkeypatch.setattr(os.path, "isdir", isdir)
    monkeypatch.setattr(Folder, "connect_s", 0.1)
    (path.parent / "inbox").mkdir()
    config["cameras"] = {
        name: {"source": {"type": "folder", "path": name}} for name in ("share", "inbox")
    }  # fmt: skip
    status, report = check(run, path, config)
    answers.set()
    assert status == 78
    assert report["findings"]["cameras.share.source"]["problem"].startswith("share: no answer for ")
    assert report["findings"]["cameras.inbox.source"]["detail"] == "folder: available"


def test_running_daemon_is_said_to_run_and_left_alone(
    run: Run, path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr("inspector.service.flow.judges.load_judges", lambda station, _: built.extend(station.cameras))
    monkeypatch.setattr(checks, "check_recipes", lambda _: [])
    config["cameras"] = {"top": {"recipe": "lens", "source": {"type": "opencv", "device": 0}}}
    hold = (
        "import sys; from pathlib import Path; from inspector.service.control.lock import StationLock;"
        "lock = StationLock(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path.parent / "state" / "press")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        status, report = check(run, path, config)
        daemon.kill()
    assert status == 0, report
    found = report["findings"]
    assert found["daemon"]["detail"] == f"process {daemon.pid} runs this station: whatever it uses is not tested"
    assert found["cameras.top.source"]["detail"] == f"opencv: not opened, it is in use by process {daemon.pid}"
    assert found["cameras.top engine"]["detail"].startswith("not built, golden frames not judged")
    assert built == []


def test_fault_of_the_whole_file_is_printed(
    run: Run, path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding("station file", problem=f"inspector cannot read {path}", fix=f"chmod a+r {path}")
    monkeypatch.setattr("inspector.cli.check.user.check_user", lambda *_: [found])
    path.write_text(yaml.safe_dump(config))
    status, printed = run("check", path, "--no-environment")
    assert status == 78
    assert "inspector cannot read" in printed
    assert "to do: chmod a+r" in printed
