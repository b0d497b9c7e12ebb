"""Which lines are written, where, and what happens to those nobody foresaw."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from inspector import logs
from inspector.logs import setup

OURS, THEIRS = logging.getLogger("inspector.service.flow.worker"), logging.getLogger("timm.models")


@pytest.fixture(autouse=True)
def _own_setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(setup, "_verbose", False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return


def messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(("level", "shown"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we")])
@pytest.mark.parametrize("ring", [0, 10])
def test_lines_are_written_from_the_level_on(
    level: str, shown: str, ring: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(format="json", level=level, ring=ring)
    for name in ("debug", "info", "warning", "error"):
        getattr(OURS, name)(name[0])
        getattr(THEIRS, name)(f"their {name}")
    assert messages(capsys) == [
        each
        for name in "diwe"
        for each in (name, {"w": "their warning", "e": "their error"}.get(name))
        if each and (each in shown or each.startswith("their"))
    ]
    assert OURS.isEnabledFor(logging.DEBUG) is (ring > 0 or level == "debug")


def test_each_line_is_written_once_when_set_up_again(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.set_up(format="json", ring=5)
    OURS.debug("kept")
    logs.set_up(format="json", ring=7)
    OURS.info("once")
    logs.dump_ring()
    assert messages(capsys) == ["once", "the last lines below this log's level follow, oldest first", "kept"]


def test_debug_lines_are_written_when_the_command_line_says_so_whatever_the_file_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(verbose=True)
    logs.set_up(format="json", level="warning")
    OURS.debug("seen")
    assert messages(capsys) == ["seen"]


def test_nothing_is_dumped_when_there_is_no_ring(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.dump_ring()
    assert capsys.readouterr().err == ""


def test_warnings_and_unhandled_exceptions_are_log_lines_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(format="json", ring=5)
    logs.log_unforeseen()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = setup._log_warning  # catch_warnings may have put its own
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    OURS.debug("what came before")
    thread = threading.Thread(target=lambda: 1 / 0, name="overlays")
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError("bad"), None)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("warning", "py.warnings"),
        ("critical", "inspector.logs.setup"),
        ("info", "inspector.logs.setup"),
        ("debug", "inspector.service.flow.worker"),
        ("critical", "inspector.logs.setup"),
    ]
    assert lines[0]["message"].endswith("DeprecationWarning: old")
    assert (lines[1]["thread"], lines[1]["message"]) == ("overlays", "unhandled error: ZeroDivisionError")
    assert lines[1]["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("is_journal", [True, False])
def test_priority_is_said_only_when_stderr_is_the_journals(is_journal: bool) -> None:
    program = (
        "import logging, os; from inspector import logs; status = os.fstat(2); "
        f"os.environ['JOURNAL_STREAM'] = f'{{status.st_dev}}:{{status.st_ino + {int(not is_journal)}}}'; "
        "logs.set_up(); logging.getLogger('inspector.x').warning('cable out')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stderr.startswith("<4>WARNING") is is_journal
    assert done.stderr.endswith("WARNING MainThread cable out\n")
