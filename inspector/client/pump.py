"""The subscriber's thread: reads all that comes, at once, whatever its user does meanwhile."""

from __future__ import annotations

import threading
import time

from inspector.client.connections import Connections, read_clock
from inspector.client.follower import Follower

_LOOK_S = 0.05
"""How often the clock is looked at, at least."""
_MAX_BURST = 100
_BREATHER_S = 0.001
"""After a full burst: the user's thread gets its turn at the lock."""


class Pump(threading.Thread):
    """Owns the sockets from `start` on; closes them at its end.

    Attributes:
        changed: guards the follower; notified after each look, and at the end.
        has_ended: it reads no more, and the sockets are closed.
        failure: what it died of.
    """

    def __init__(self, connections: Connections, follower: Follower) -> None:
        super().__init__(name="inspector-subscriber", daemon=True)
        self._connections = connections
        self._follower = follower
        self._stop_asked = threading.Event()
        self._empty_at = read_clock()
        self.changed = threading.Condition()
        self.has_ended = False
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """Ask it to end; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Receive messages until asked to stop."""
        try:
            while not self._stop_asked.is_set():
                self._connections.wait(_LOOK_S)
                with self.changed:
                    is_full = self._turn()
                    self.changed.notify_all()
                if is_full:
                    time.sleep(_BREATHER_S)
        except BaseException as error:  # noqa: BLE001 (the user is told: nothing passes without this thread)
            self.failure = error
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._connections.close()
        finally:
            with self.changed:
                self.has_ended = True
                self.changed.notify_all()

    def _turn(self) -> bool:
        """Read what is there, at most a burst; whether there may be more."""
        for socket, why in self._connections.read_refusals():
            self._follower.take_refusal(socket, why)
        self._follower.refusal = self._connections.refusal
        if answer := self._connections.receive_answer():
            self._follower.take_answer(answer)
        is_full = self._read_burst()
        self._follower.look(read_clock())
        return is_full

    def _read_burst(self) -> bool:
        for _ in range(_MAX_BURST):
            looked_at = read_clock()
            message = self._connections.receive_result()
            if message is None:
                self._empty_at = looked_at
                return False
            now = read_clock()
            self._follower.take_message(message, now, now - self._empty_at)
        return True
