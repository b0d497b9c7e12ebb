"""A file is held by one process, until it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inspector.locks import find_holder, hold

HOLD = """
import sys
from pathlib import Path
from inspector.locks import hold
print(hold(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_file_is_refused_to_a_second_process_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert find_holder(path) is None
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        assert find_holder(path) == first.pid
        before = count_descriptors()
        assert not hold(path)
        assert count_descriptors() == before
        first.kill()
    assert find_holder(path) is None
    assert hold(path)


def test_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere/lock"):
        hold(tmp_path / "nowhere" / "lock")
