"""The refuser: while the station stops, who sends frames and waits for an answer is told that it does."""

from __future__ import annotations

import logging
import queue
import threading

import zmq

from inspector.security.farewell import part, refuse_waiting
from inspector.types import Reason

logger = logging.getLogger(__name__)

_PAUSE_S = 0.1
"""Between two looks: a REQ sender that is told tries again at once, and the last frames are being judged."""
_ANSWER = f"ERROR {Reason.SHUTDOWN.name}: the station is stopping and accepts no frames".encode()


class Refuser(threading.Thread):
    """Takes over a source's socket once the source is at its end. Started by a stop."""

    def __init__(self) -> None:
        super().__init__(name="refuser", daemon=True)
        self._left: queue.SimpleQueue[zmq.Socket[bytes]] = queue.SimpleQueue()
        self._stop_asked = threading.Event()

    def adopt(self, socket: zmq.Socket[bytes]) -> None:
        """Answer at this bound ROUTER from now on, until the end; its thread uses it no more."""
        self._left.put(socket)

    def stop(self) -> None:
        """Ask it to end, and to close what it was given; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Refuse frames until asked to stop."""
        sockets: list[zmq.Socket[bytes]] = []
        count = 0
        is_last = False
        while not is_last:
            is_last = self._stop_asked.wait(_PAUSE_S)
            while not self._left.empty():
                sockets.append(self._left.get())
            count += sum(part(socket, _ANSWER) if is_last else refuse_waiting(socket, _ANSWER) for socket in sockets)
        if count:
            logger.info(
                "%d frames arrived while the station was stopping: none was judged, their senders were informed", count
            )
