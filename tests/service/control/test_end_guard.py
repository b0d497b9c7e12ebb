"""A process that was told to end does, whatever hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

PROLOGUE = """
import atexit, ctypes, logging, sys, threading, time
from inspector.service.control.end_guard import EndGuard
logging.basicConfig(format="%(message)s")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_process_ends_with_a_line_and_the_stacks_when_the_main_thread_hangs() -> None:
    ended = run("EndGuard(0.2).start(); threading.Lock().acquire(); term = time.sleep; term(1000)")
    assert ended.returncode == 1
    assert ended.stderr.startswith("the stop hangs: the process exits 0.2 s after the stop began; all stacks follow\n")
    assert 'File "<string>", line' in ended.stderr


def test_process_ends_when_a_library_hangs_at_the_interpreters_end() -> None:
    ended = run("atexit.register(time.sleep, 1000); EndGuard(0.2).start()")
    assert ended.returncode == 1
    assert "the stop hangs" in ended.stderr


def test_process_ends_when_its_log_hangs() -> None:
    ended = run("logging.Logger.error = lambda *_: time.sleep(1000); EndGuard(0.2).start(); time.sleep(1000)")
    assert (ended.returncode, ended.stderr) == (1, "")


def test_process_ends_when_no_thread_of_it_can_run_any_more() -> None:
    """As a library in C that hangs and keeps the interpreter's lock, or at the process's very end."""
    ended = run("EndGuard(0.2).start(); ctypes.PyDLL(None).sleep(1000)")
    assert ended.returncode == -signal.SIGALRM


def test_process_keeps_its_own_status_when_nothing_hangs() -> None:
    ended = run("EndGuard(50).start(); sys.exit(3)")
    assert (ended.returncode, ended.stderr) == (3, "")
