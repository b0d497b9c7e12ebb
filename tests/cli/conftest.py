"""The program, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from inspector.cli.app import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `inspector ARGUMENTS...`; returns its exit status and all it printed, in one line."""

    def run_program(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["inspector", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())

    return run_program
