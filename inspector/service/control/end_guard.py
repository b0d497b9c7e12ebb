"""The end guard: a process that was told to end does, whatever hangs: a disk, a library, the interpreter's own end."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time

logger = logging.getLogger(__name__)

_TELL_S = 1.0
"""How long the last words may take: what they are written to may be what hangs."""


class EndGuard(threading.Thread):
    """Ends the process with status 1 if it still runs after a time. There is no way back."""

    def __init__(self, within_s: float) -> None:
        super().__init__(name="end-guard", daemon=True)
        self._within_s = within_s

    def start(self) -> None:
        """Count from now. The kernel ends the process a little later, where no thread can any more."""
        signal.setitimer(signal.ITIMER_REAL, self._within_s + 2 * _TELL_S)
        super().start()

    def run(self) -> None:
        """Wait; if the process still runs then, log all stacks and end it."""
        time.sleep(self._within_s)
        telling = threading.Thread(target=self._tell, name="end-guard-log", daemon=True)
        telling.start()
        telling.join(_TELL_S)
        os._exit(1)

    def _tell(self) -> None:
        logger.error("the stop hangs: the process exits %.1f s after the stop began; all stacks follow", self._within_s)
        faulthandler.dump_traceback(all_threads=True)
