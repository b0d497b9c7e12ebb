"""The real program with faults to order: `python tests/system/faulty_daemon.py run STATION.yaml`.

$INSPECTOR_FAULTS names a file with one JSON object, read anew whenever it changes; no file, no fault. Its keys:

device, at each micro-batch (not while warming up: the network is loaded without faults)
    slow_s: take so much longer. hang: take until the key is gone. nan: maps full of NaN. oom, oom_once: out of memory,
    always or at one batch. cuda_error: an error that poisons the process. die: the thread ends by SystemExit.
    exit: the process is gone, as by `kill -9`. freeze: no thread of the process runs any more.
    hang and cuda_error may name a thread: the fault is of its device alone.
clock
    utc_offset_s: added to `time.time` and `time.time_ns`; the monotonic clock stays.
journal, at each commit
    slow_commit_s: take so much longer. fail_commit: the disk is full. exit_before_commit, exit_after_commit: the
    process is gone.
sources
    hang_folder: looks into this folder take until the key is gone, as those on a share that died.
threads
    kill_thread: the name of a thread that ends by SystemExit where it stands, once for each change of the file.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHECK_S = 0.02


class Faults:
    """What is ordered at this moment. Shared by all threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._settings: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The setting, or None."""
        with self._lock:
            self._read()
            return self._settings.get(name)

    def take(self, name: str) -> Any:
        """The setting, or None; only one caller gets it, until the file changes."""
        with self._lock:
            self._read()
            return self._settings.pop(name, None)

    def _read(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._settings = (), {}
            return
        # Replaced in one piece by its writer: another file each time, even within one tick of the clock.
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._stamp, self._settings = stamp, json.loads(self._path.read_text(encoding="utf-8"))


def break_clock(faults: Faults) -> None:
    """Before anything else is imported: some modules take the functions, not the module."""
    real_s, real_ns = time.time, time.time_ns
    time.time = lambda: real_s() + (faults.get("utc_offset_s") or 0)
    time.time_ns = lambda: real_ns() + int((faults.get("utc_offset_s") or 0) * 1e9)


def break_journal(faults: Faults) -> None:
    """Every connection opened from here on commits badly when told to."""
    real_connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if not sql.lstrip().upper().startswith(("COMMIT", "END")):
                return super().execute(sql, *parameters)
            _before_commit(faults)
            cursor = super().execute(sql, *parameters)
            _after_commit(faults)
            return cursor

        def commit(self) -> None:
            if self.in_transaction:
                _before_commit(faults)
            super().commit()
            _after_commit(faults)

        def __exit__(self, kind: Any, *rest: Any) -> bool:
            if kind is None:
                self.commit()  # sqlite3's own would go round it
            return super().__exit__(kind, *rest)

    sqlite3.connect = lambda *args, **options: real_connect(*args, **{"factory": Connection} | options)


def _before_commit(faults: Faults) -> None:
    time.sleep(faults.get("slow_commit_s") or 0)
    if faults.get("exit_before_commit"):
        os._exit(137)
    if faults.get("fail_commit"):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
        raise error


def _after_commit(faults: Faults) -> None:
    if faults.get("exit_after_commit"):
        os._exit(137)


def break_folder(faults: Faults) -> None:
    """Of a source; hangs where a dead share would, with the interpreter's lock free."""
    real_isdir = os.path.isdir

    def isdir(path: Any) -> bool:
        while faults.get("hang_folder") == str(path):
            time.sleep(_CHECK_S)
        return real_isdir(path)

    os.path.isdir = isdir


def break_device(faults: Faults) -> None:
    """Every detector's engine, whichever it is."""
    import torch

    from inspector.detection.detector import Detector

    real_warm_up = Detector.warm_up

    def warm_up(self: Detector) -> None:
        real_warm_up(self)
        self.engine.infer = _infer_badly(faults, self.engine.infer)

    def _infer_badly(faults: Faults, infer: Callable[[int], torch.Tensor]) -> Callable[[int], torch.Tensor]:
        def call(count: int) -> torch.Tensor:
            time.sleep(faults.get("slow_s") or 0)
            while _is_here(faults.get("hang")):
                time.sleep(_CHECK_S)
            if faults.get("oom") or faults.take("oom_once"):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if _is_here(faults.get("cuda_error")):
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if faults.get("die"):
                raise SystemExit("told to die")
            if faults.get("exit"):
                os._exit(137)
            if faults.get("freeze"):
                ctypes.PyDLL(None).sleep(3600)  # unlike a CDLL it keeps the interpreter's lock meanwhile
            maps = infer(count)
            return torch.full_like(maps, torch.nan) if faults.get("nan") else maps

        return call

    Detector.warm_up = warm_up


def _is_here(setting: Any) -> bool:
    return setting is True or setting == threading.current_thread().name


def kill_threads(faults: Faults) -> None:
    """For as long as the process lives: end the thread that is named, at its next instruction."""
    while True:
        name = faults.take("kill_thread")
        for thread in threading.enumerate():
            if name == thread.name:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        time.sleep(_CHECK_S)


def main() -> None:
    """Break what can be broken, then be the program."""
    faults = Faults(Path(os.environ["INSPECTOR_FAULTS"]))
    break_clock(faults)
    break_journal(faults)
    break_folder(faults)
    # The checkout's own package, and not this folder's modules.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from inspector.cli.app import main as run

    break_device(faults)
    threading.Thread(target=kill_threads, args=(faults,), name="faults", daemon=True).start()
    run()


if __name__ == "__main__":
    main()
