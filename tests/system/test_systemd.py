"""The unit as shipped under a real systemd: start, sandbox, reload, watchdog, stop, bad configuration."""

from __future__ import annotations

import json
import pwd
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inspector.testing.account import read_journal
from inspector.testing.line import Line
from inspector.testing.station_process import base_config
from tests.system.recovery import wait_for_pass, wait_for_reason
from tests.system.service_manager import ServiceManager

UNIT = "inspector@test"
PROBE = "/opt/inspector/repository/tests/system/sandbox_probe.py"
DROP_IN = f"""
[Service]
Environment=INSPECTOR_FAULTS=/etc/inspector/faults.json
ExecStartPre=/opt/inspector/bin/python {PROBE} /var/lib/inspector/probe.json
WatchdogSec=5s
RestartSec=100ms
"""


class Service:
    """The station that systemd runs, and its files."""

    def __init__(self, manager: ServiceManager, recipe: Path) -> None:
        self.manager = manager
        folder = manager.path("/etc/inspector")
        shutil.copytree(recipe, folder / "recipes" / "tiny")
        (folder / "credentials").mkdir(mode=0o700)
        (folder / "credentials" / "station-key").write_text("its key\n")
        (folder / "credentials" / "station-key").chmod(0o600)
        manager.path("/var/lib/elsewhere").mkdir()
        manager.path("/var/lib/elsewhere").chmod(0o777)
        self.drop_in(DROP_IN)
        self.config = base_config(Path("recipes/tiny"))
        # Only the watchdog is to find a hang here.
        self.config |= {"state_dir": "/var/lib/inspector", "stall_after_s": 300.0}
        self.configure()

    @property
    def journal(self) -> Path:
        return self.manager.state / "test" / "journal.sqlite"

    def drop_in(self, text: str) -> None:
        path = self.manager.path(f"/etc/systemd/system/{UNIT}.service.d/test.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.manager.run("systemctl", "daemon-reload")

    def configure(self, **changes: Any) -> None:
        self.manager.path("/etc/inspector/test.yaml").write_text(yaml.safe_dump(self.config | changes))

    def fault(self, **settings: Any) -> None:
        new = self.manager.path("/etc/inspector/faults.new")
        new.write_text(json.dumps(settings))
        new.replace(new.with_suffix(".json"))

    def show(self, name: str) -> str:
        return self.manager.show(UNIT, name)

    def wait_for_status(self, text: str) -> None:
        limit = time.monotonic() + 30
        while text not in (status := self.show("StatusText")):
            assert time.monotonic() < limit, status
            time.sleep(0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Iterator[Service]:
    manager = ServiceManager(tmp_path_factory.mktemp("systemd"))
    try:
        manager.start()
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield Service(manager, recipe)
    finally:
        manager.close()


@pytest.fixture(scope="module")
def line(service: Service) -> Iterator[Line]:
    """The line around the station, which is started for it."""
    service.manager.run("systemctl", "start", UNIT)
    with Line(service.config) as line:
        yield line


def test_start_ends_when_the_station_is_ready(service: Service, line: Line) -> None:
    assert (service.show("ActiveState"), service.show("SubState")) == ("active", "running")
    assert service.show("StatusText").startswith("READY")
    line.send(4)
    line.wait_answered()
    assert {arrival.message["verdict"] for arrival in line.results} == {"PASS", "FAIL"}
    service.wait_for_status("RUNNING; top ")


def test_sandbox_allows_what_the_station_needs_and_nothing_else(service: Service, line: Line) -> None:
    report = json.loads((service.manager.state / "probe.json").read_text())
    allowed = {name for name, outcome in report.items() if outcome == "done"}
    assert allowed == {
        "write state",
        "write runtime",
        "write tmp",
        "read configuration",
        "read processors",
        "read start of the machine",
        "read clock's state",
        "choose processors",
        "open network",
    }
    assert report["write elsewhere"] == "EROFS"
    state = service.manager.state.stat()
    assert report["user"][:2] == [state.st_uid] * 2
    assert state.st_uid not in {0, *(entry.pw_uid for entry in pwd.getpwall())}
    assert state.st_mode & 0o777 == 0o750
    assert report["secrets"] == {
        "station-key": "its key",
        "tls-key": "security.key: must contain a secret, got nothing from 'credential:tls-key'",
    }


def test_reload_is_applied_or_refused_and_the_status_says_so(service: Service, line: Line) -> None:
    service.config["cameras"]["top"]["deadline_ms"] = 9_000
    service.configure()
    service.manager.run("systemctl", "reload", UNIT)
    line.wait_for(lambda: _last_reload(line) == "applied", "reload")
    service.configure(tile_batch=2)
    service.manager.run("systemctl", "reload", UNIT)
    service.wait_for_status("reload refused: tile_batch: cannot change without a restart")
    service.manager.wait_for(UNIT, "SubState", "running")
    service.configure()
    since = len(line.results)
    line.send(1)
    line.wait_answered()
    assert line.results[since].message["deadline_ms"] == 9_000


def _last_reload(line: Line) -> str | None:
    change = line.statuses[-1].message["last_reload"]
    return change["state"] if change else None


def test_process_that_stands_still_is_ended_by_the_watchdog_and_its_frames_answered(
    service: Service, line: Line
) -> None:
    since = len(line.results)
    service.fault(hang=True)
    line.send(4)
    line.wait_for(lambda: len(read_journal(service.journal)[1]) == 4, "frames on record")
    service.fault(freeze=True)
    service.manager.wait_for(UNIT, "NRestarts", "1")
    service.fault()
    service.manager.wait_for(UNIT, "SubState", "running", timeout_s=120)
    answers = wait_for_reason(line, "RESTART", since=since, count=4)
    line.send(2)
    wait_for_pass(line, since=since)
    log = service.manager.log(UNIT)
    assert "Watchdog timeout (limit 5s)!" in log
    assert "Fatal Python error: Aborted" in log  # and where each thread stood
    assert {arrival.message["verdict"] for arrival in answers} == {"ERROR"}
    account = line.account(service.journal)
    assert account.broken == {}


def test_stop_answers_what_was_accepted_and_ends_well(service: Service, line: Line) -> None:
    since = len(line.results)
    service.fault(slow_s=0.3)
    line.send(6)
    line.wait_sent()
    service.manager.run("systemctl", "stop", UNIT)
    line.pause()
    assert (service.show("ActiveState"), service.show("Result"), service.show("ExecMainStatus")) == (
        "inactive",
        "success",
        "0",
    )
    assert "stopped; 0 frames unanswered" in service.manager.log(UNIT)
    assert len(line.results) > since
    assert line.account(service.journal).broken == {}


def test_start_that_fails_for_what_may_pass_is_tried_again_until_it_has_passed(service: Service) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.config["http"]["port"]))
        other.listen()
        restarts = int(service.show("NRestarts"))
        service.manager.run("systemctl", "start", "--no-block", UNIT)
        service.manager.wait_for(UNIT, "NRestarts", str(restarts + 1))
        assert "cannot start now; try again later" in service.manager.log(UNIT)
    service.manager.wait_for(UNIT, "SubState", "running", timeout_s=120)
    service.manager.run("systemctl", "stop", UNIT)


def test_bad_configuration_is_not_tried_again(service: Service, line: Line) -> None:
    service.configure(state_dir="/var/lib/elsewhere")
    service.manager.run("systemctl", "start", UNIT, check=False)
    service.manager.wait_for(UNIT, "ActiveState", "failed")
    assert (service.show("ExecMainStatus"), service.show("Result")) == ("78", "exit-code")
    assert "state_dir: must be a folder this process can write" in service.manager.log(UNIT)
    restarts = service.show("NRestarts")
    time.sleep(1.0)  # ten times RestartSec
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("failed", restarts)
    assert list(service.manager.path("/var/lib/elsewhere").iterdir()) == []
