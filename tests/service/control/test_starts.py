"""How often a station was started, and after what, over restarts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from inspector.service.control.starts import Starts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "starts.json"


def begin(path: Path) -> Starts:
    starts = Starts(path)
    starts.begin()
    return starts


def test_each_start_is_counted_by_how_the_run_before_ended(path: Path) -> None:
    begin(path).end("stop")
    begin(path).end("fault")
    begin(path)  # and killed
    begin(path).end("stop")
    assert begin(path).counts == {"first": 1, "stop": 2, "fault": 1, "kill": 1}


def test_nothing_is_counted_before_the_run_begins(path: Path) -> None:
    assert Starts(path).counts == {"first": 0, "stop": 0, "fault": 0, "kill": 0}
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"counts": {}, "last": "stop"}', '{"counts": {"first": 1}}', "\0" * 100,
     '{"counts": {"first": "x", "stop": 0, "fault": 0, "kill": 0}, "last": "stop"}',
     '{"counts": {"first": 1, "stop": 0, "fault": 0, "kill": 0}, "last": "odd"}',
     '{"counts": {"first": Infinity, "stop": 0, "fault": 0, "kill": 0}, "last": "stop"}', "[" * 100_000,
     '{"counts": {"first": 1, "stop": 0, "fault": 0, "kill": 0}, "last": []}'],
)  # fmt: skip
def test_counts_begin_anew_after_a_kill_when_the_file_is_torn(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content, encoding="utf-8")
    assert begin(path).counts == {"first": 0, "stop": 0, "fault": 0, "kill": 1}
    assert "starts.json: cannot be read" in caplog.text
    assert begin(path).counts["kill"] == 2


def test_station_starts_all_the_same_when_the_disk_takes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    starts = begin(tmp_path / "file" / "starts.json")
    starts.end("stop")
    assert sum(starts.counts.values()) == 1
    assert "cannot be written" in caplog.text


def test_end_returns_in_time_when_the_disk_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, free = begin(path), threading.Event()
    monkeypatch.setattr(starts, "_write", lambda last: free.wait(10))
    starts.end("stop", within_s=0.05)
    writer = next(thread for thread in threading.enumerate() if thread.name == "starts")
    free.set()
    writer.join(10)
    assert begin(path).counts["kill"] == 1
