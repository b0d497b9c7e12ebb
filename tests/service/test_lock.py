"""One daemon a station, whatever ended the last one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inspector.errors import ConfigError
from inspector.service.lock import StationLock, find_daemon

HOLD = """
import sys
from pathlib import Path
from inspector.service.lock import StationLock
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
        with pytest.raises(ConfigError, match=f"station: must be run by one daemon, but process {first.pid} runs it"):
            StationLock(folder)
        first.kill()
    assert find_daemon(folder) is None
    StationLock(folder)


def test_folder_that_cannot_be_made_is_a_fault_of_state_dir(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="state_dir: must be a folder this process can write: ") as caught:
        StationLock(tmp_path / "state" / "press-3")
    assert caught.value.field == ("state_dir",)
