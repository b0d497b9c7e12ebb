"""One daemon a station, whatever ended the last one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inspector.errors import ConfigError
from inspector.service.control.lock import StationLock, find_daemon
from inspector.transient import is_transient

HOLD = """
import sys
from pathlib import Path
from inspector.service.control.lock import StationLock
lock = StationLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_station_is_found_and_refused_to_a_second_daemon_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "press-3"
    assert find_daemon(folder) is None
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert find_daemon(folder) == first.pid
        with pytest.raises(
            ConfigError, match=f"station: must be run by one daemon only, but process {first.pid} already runs it"
        ) as error:
            StationLock(folder)
        assert is_transient(error.value)  # it may be one that is about to end
        first.kill()
    assert find_daemon(folder) is None
    StationLock(folder)


def test_folder_that_cannot_be_made_is_a_fault_of_state_dir(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="state_dir: must be a folder this process can write: ") as caught:
        StationLock(tmp_path / "state" / "press-3")
    assert caught.value.field == ("state_dir",)


@pytest.mark.parametrize("ran_before", [True, False])
def test_disk_that_is_read_only_may_pass_where_the_station_ran_before_and_is_its_sandbox_where_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran_before: bool
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if ran_before:
        (tmp_path / "daemon.lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match=r"state_dir: must be a folder this process can write: .*Read-only") as error:
        StationLock(tmp_path)
    assert is_transient(error.value) == ran_before
