"""Offline and online of all cameras by signal, for what can end a process but not speak ZeroMQ."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, TypeAlias

logger = logging.getLogger(__name__)

OFFLINE, ONLINE = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
"""`kill -s RTMIN+1`; SIGUSR1 writes the log's ring."""
Answer: TypeAlias = Callable[[Mapping[str, Any], str], Any]


class OfflineSignals:
    """Notes the last signal in its handler, which takes no lock; the main loop obeys it."""

    def __init__(self) -> None:
        self._last: int | None = None

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        del frame
        self._last = signum

    def obey(self, offline: Answer, online: Answer) -> None:
        """Do what the last signal asked for, if one came; `offline` and `online` are those of `Offline`."""
        signum, self._last = self._last, None
        if signum is None:
            return
        try:
            (offline if signum == OFFLINE else online)({}, "signal")
        except ValueError as error:
            logger.error("signal: %s", error)
