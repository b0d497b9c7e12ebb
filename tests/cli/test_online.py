"""What `inspector tail` makes of a result, and `inspector run` of a station that cannot start."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.cli.online import _line
from inspector.errors import ConfigError
from inspector.service.daemon import Daemon

Run = Callable[..., tuple[int, str]]

RESULT = {
    "verdict": "PASS", "reason": "OK", "camera": "top", "seq": 7, "frame_id": "part-1", "score": 3.0, "threshold": 4.0,
    "latency_ms": {"total": 12.3}, "warn": False,
}  # fmt: skip


def test_line_has_verdict_score_and_time_and_says_where_it_warns() -> None:
    line = "PASS  OK              top #7 part-1 score 3/4 12 ms"
    assert _line(RESULT) == line
    assert _line(RESULT | {"warn": True}) == f"{line} warn"


def test_no_frame_id_forges_a_line_or_reaches_the_terminal() -> None:
    line = _line(RESULT | {"frame_id": "x\nPASS  OK \x1b[2J", "score": None})
    assert line == r"PASS  OK              top #7 x\nPASS  OK \x1b[2J 12 ms"


# ---------------------------------------------------------------- a start that fails


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A station file; whatever starting it does to this process is undone."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGUSR1)}
    monkeypatch.setattr("inspector.service.daemon.set_up_logs", lambda _: None)
    monkeypatch.setattr("inspector.logs.log_unforeseen", lambda: None)
    path = tmp_path / "station.yaml"
    path.write_text("schema: 1\nstation: press\nstate_dir: state\nhttp: {port: 9000}\ncameras: {top: {}}\n")
    yield path
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("number", "expected", "begins"),
    [
        (errno.ENOSPC, 1, "inspector: cannot start now, try again later, as systemd does: "),
        (errno.EADDRINUSE, 1, "inspector: cannot start now, try again later, as systemd does: "),
        (errno.EACCES, 78, "inspector: bad configuration "),
    ],
)
def test_station_that_cannot_start_ends_with_78_only_when_it_takes_a_person(
    run: Run, station: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: int, begins: str
) -> None:
    def refuse(self: Daemon) -> int:
        error = OSError(number, os.strerror(number))
        raise ConfigError(f"http: must be an address this process can bind: {error}", field=("http", "port")) from error

    monkeypatch.setattr(Daemon, "run", refuse)
    status, printed = run("run", station)
    assert status == expected
    assert printed.startswith(f"{begins}{station}:4:8: http: must be an address this process can bind: [Errno")


def test_station_file_that_the_disk_does_not_give_for_now_is_no_bad_configuration(
    run: Run, station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: Any) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_text", refuse)
    status, printed = run("run", station)
    assert status == 1
    assert "cannot be read: [Errno 5]" in printed
