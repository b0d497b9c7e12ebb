"""Frames waiting for the devices: bounded in bytes, fair between the cameras of a device."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping

from inspector.config import WhenFull
from inspector.service.flow.ledger import Ticket


class FrameBuffer:
    """One queue per camera, read in turn by the device of the camera; the budget is shared out equally between devices.

    So a device that is slow, or stands still, takes no room from the frames of another.

    Attributes:
        places: the device of each camera.
    """

    def __init__(self, max_bytes: int, when_full: WhenFull, places: Mapping[str, int] | None = None) -> None:
        """`places`: the device of each camera, counted from 0; None: there is one."""
        self.max_bytes = max_bytes
        self._when_full = when_full
        self._queues: dict[str, deque[Ticket]] = {}
        self.places = dict(places or {})
        # Cameras that have frames waiting, by device.
        self._turns = [deque[str]() for _ in range(1 + max(self.places.values(), default=0))]
        of_camera = {camera: self._turns[place] for camera, place in self.places.items()}
        self._turns_of = defaultdict(lambda: self._turns[0], of_camera)
        self._bytes = [0] * len(self._turns)
        self._closed = False
        self._changed = threading.Condition()

    def limit(self, max_bytes: int, when_full: WhenFull) -> None:
        """Change the budget and the policy; what waits beyond it goes when the next ticket comes."""
        with self._changed:
            self.max_bytes = max_bytes
            self._when_full = when_full
            self._changed.notify_all()

    @property
    def nbytes(self) -> int:
        """Bytes of pixels waiting."""
        return sum(self._bytes)

    @property
    def _share(self) -> int:
        return self.max_bytes // len(self._turns)

    def __len__(self) -> int:
        return sum(map(len, list(self._queues.values())))  # no lock: who only looks holds up nobody

    def has(self, camera: str) -> bool:
        """Whether a frame of this camera waits."""
        with self._changed:
            return bool(self._queues.get(camera))

    def is_idle(self, place: int) -> bool:
        """Whether no frame waits for this device."""
        return not self._turns[place]

    def put(
        self, ticket: Ticket, *, can_wait: bool = False, may_block: bool = True, timeout_s: float = 0.2
    ) -> list[Ticket] | None:
        """Add a ticket.

        Args:
            ticket: whose frame waits.
            can_wait: wait for room whatever the policy, since the source loses nothing by it.
            may_block: wait where the policy is `block`; else room is made, as by `drop_oldest`.
            timeout_s: how long to wait before giving the caller a chance to stop.

        Returns:
            The tickets dropped for it (itself, with drop_newest), each owed an ERROR OVERLOAD. None: still no
            room after `timeout_s`; ask again. Empty, once it is closed: the stop answers a ticket that came so late.
        """
        size, place = ticket.frame.nbytes, self.places.get(ticket.frame.camera, 0)
        with self._changed:
            if self._closed:
                return []
            if size > self._share:
                return [ticket]
            if can_wait or (may_block and self._when_full is WhenFull.BLOCK):
                deadline = time.monotonic() + timeout_s
                while self._bytes[place] + size > self._share:
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                        return None
            elif self._bytes[place] + size > self._share and self._when_full is WhenFull.DROP_NEWEST:
                return [ticket]
            dropped = []
            while self._bytes[place] + size > self._share:
                dropped.append(self._take(self._greediest(place)))
            self._add(ticket)
            return dropped

    def get(self, timeout_s: float, place: int = 0) -> Ticket | None:
        """The next ticket for a device, its cameras in turn; None when none came in time."""
        turns = self._turns[place]
        with self._changed:
            self._changed.wait_for(lambda: turns or self._closed, timeout_s)
            return self._take(turns[0]) if turns else None

    def discard(self, ticket: Ticket) -> None:
        """Take out a ticket that was answered while it waits; nothing happens where it does not."""
        with self._changed:
            queue = self._queues.get(ticket.frame.camera)
            if queue is None or ticket not in queue:
                return
            queue.remove(ticket)
            if not queue:
                self._turns_of[ticket.frame.camera].remove(ticket.frame.camera)
            self._count(ticket, -1)

    def close(self) -> None:
        """Take no more, and drop none for it; what waits can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, ticket: Ticket) -> None:
        camera = ticket.frame.camera
        queue = self._queues.setdefault(camera, deque())
        if not queue:
            self._turns_of[camera].append(camera)
        queue.append(ticket)
        self._count(ticket, 1)

    def _take(self, camera: str) -> Ticket:
        queue = self._queues[camera]
        ticket = queue.popleft()
        turns = self._turns_of[camera]
        turns.remove(camera)
        if queue:
            turns.append(camera)
        self._count(ticket, -1)
        return ticket

    def _count(self, ticket: Ticket, sign: int) -> None:
        self._bytes[self.places.get(ticket.frame.camera, 0)] += sign * ticket.frame.nbytes
        self._changed.notify_all()

    def _greediest(self, place: int) -> str:
        # The camera that fills the buffer pays for it, so that a fast one cannot push a slow one out.
        return max(self._turns[place], key=lambda camera: sum(ticket.frame.nbytes for ticket in self._queues[camera]))
