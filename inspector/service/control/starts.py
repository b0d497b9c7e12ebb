"""How often a station was started, and how the run before each start ended. Kept over restarts in one small file."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from inspector.errors import InspectorError
from inspector.files import write_whole

logger = logging.getLogger(__name__)

AFTER = ("first", "stop", "fault", "kill")
"""`kill`: the run before left no word of its end, as after `kill -9`, a power cut, a crash or the watchdog."""
_RUNNING = "running"


class Starts:
    """The file says `running` while the station does: what still says so at the next start was killed.

    A disk that takes nothing costs the count and no more.
    """

    def __init__(self, path: Path) -> None:
        """Nothing on the disk is touched before `begin`."""
        self._path = path
        self._counts = dict.fromkeys(AFTER, 0)

    @property
    def counts(self) -> Mapping[str, int]:
        """Starts by what they came after; all of `AFTER`."""
        return self._counts

    def begin(self) -> None:
        """Count the start of this run."""
        after = self._read()
        self._counts = self._counts | {after: self._counts[after] + 1}  # one assignment: a scrape may look
        self._write(_RUNNING)

    def end(self, how: Literal["stop", "fault"], within_s: float = 0.5) -> None:
        """It ends in order, or by a fault that the program saw itself; a disk that hangs does not hold up the end."""
        writing = threading.Thread(target=self._write, args=(how,), name="starts", daemon=True)
        writing.start()
        writing.join(within_s)

    def _read(self) -> str:
        """How the run before ended; its counts go on."""
        try:
            found = json.loads(self._path.read_bytes())
            counts = {after: int(found["counts"][after]) for after in AFTER}
            last = {_RUNNING: "kill", "stop": "stop", "fault": "fault"}[found["last"]]
        except FileNotFoundError:
            return "first"
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            logger.warning("%s: cannot be read, starts are counted from zero: %r", self._path, error)
            return "kill"
        self._counts = counts
        return last

    def _write(self, last: str) -> None:
        try:
            write_whole(self._path, json.dumps({"counts": self._counts, "last": last}).encode())
        except InspectorError as error:
            logger.warning("this start may be counted wrongly: %s", error)
