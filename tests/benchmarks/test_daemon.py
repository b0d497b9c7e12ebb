"""The benchmark of the daemon: its options, and that the program without a journal writes none."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from inspector.journal.verification import verify
from inspector.journal.writer import Journal, OpenFrame

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_journal_share_is_asked_for_by_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    daemon = importlib.import_module("daemon")
    assert not daemon.parse(["recipe"]).journal_share
    arguments = daemon.parse(["recipe", "--journal-share", "--frame-hw", "256", "256", "--frames", "500"])
    assert (arguments.journal_share, arguments.frame_hw, arguments.frames) == (True, [256, 256], 500)
    assert daemon.parse(["recipe", "--trigger"]).trigger
    assert daemon.parse(["recipe", "--scrapes-per-s", "100"]).scrapes_per_s == 100


def test_program_without_a_journal_writes_nothing_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    write_nothing = importlib.import_module("_unjournalled").write_nothing
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number, expected in ((1, 0), (2, 1)):
        with monkeypatch.context() as patch:
            if not expected:
                patch.setattr(Journal, "write", write_nothing)
            journal.write([OpenFrame(number, "top", "f", None, None, 0, 0, 2000, False)], [])
        assert verify(path).open_frames == expected
    journal.close()
