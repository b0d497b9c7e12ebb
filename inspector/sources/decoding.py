"""Messages whose pixels are being decoded by several threads, handed over in the order in which their camera sent them.

What is here has been read and is nobody's frame yet, as one that a single thread decodes: so only little is let in, and
the rest stays with its sender. A camera may have one message for each thread and one more, all cameras together twice
as many; and what is decoded and not yet taken stays within `max_bytes`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator

from inspector.sources.wire import Message
from inspector.types import Frame, Reason


class Pending:
    """A message on its way to become a frame.

    Attributes:
        message: what came.
        asker: whatever its reader needs in order to answer its sender.
        frame: None until it is decoded.
        is_begun: whether a thread has it.
    """

    __slots__ = ("asker", "frame", "is_begun", "message")

    def __init__(self, message: Message, asker: object = None) -> None:
        self.message = message
        self.asker = asker
        self.frame: Frame | None = None
        self.is_begun = False

    @property
    def received_monotonic_ns(self) -> int:
        """When it came."""
        return self.message.received_monotonic_ns


class Decoding:
    """Filled and emptied by one thread, worked on by `threads` others.

    Attributes:
        threads: how many call `work`; none: a message is decoded by whoever puts it here.
        max_bytes: what is decoded and not yet taken may hold, but for the picture that each thread is at.
        wakes: a descriptor that can be read as soon as a message is decoded; `take` clears it with the last one.
    """

    def __init__(self, threads: int = 0, max_bytes: int = 0) -> None:
        self.threads = threads
        self.max_bytes = max_bytes
        self._queues: dict[str, deque[Pending]] = {}  # by camera, the oldest first
        self._changed = threading.Condition()
        self.wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self.wakes)

    # ------------------------------------------------------------ the thread that reads messages

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._queues.values()))

    @property
    def has_room(self) -> bool:
        """Whether one more message may be put here, whichever camera's it is."""
        with self._changed:
            sizes = [len(queue) for queue in self._queues.values()]
            is_free = all(size <= self.threads for size in sizes) and sum(sizes) < 2 * self.threads
            return not sizes or (is_free and self._count_bytes() < self.max_bytes)

    def put(self, message: Message, asker: object = None) -> None:
        """Have it decoded; at once where that takes no time and no message of its camera is before it."""
        pending = Pending(message, asker)
        with self._changed:
            queue = self._queues.setdefault(message.camera, deque())
            is_quick = not queue and not (message.is_compressed and self.threads)
            pending.is_begun = is_quick
            queue.append(pending)
            self._changed.notify()
        if is_quick:
            self._decode(pending)

    def take(self) -> Pending | None:
        """One that is decoded, and before which none of its camera is: of those the one that came first; or None."""
        with self._changed:
            first = min(self._list_decoded(), key=lambda pending: pending.received_monotonic_ns, default=None)
            if first is not None:
                self._remove(first)
            if not self._list_decoded():
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.wakes)
            return first

    def _list_decoded(self) -> list[Pending]:
        return [queue[0] for queue in self._queues.values() if queue[0].frame is not None]

    def drain(self, within_s: float) -> Iterator[Pending]:
        """All that is here, waited for; what is not decoded in time becomes ERROR SHUTDOWN, and is not decoded."""
        deadline = time.monotonic() + within_s
        while (first := self._find_first()) is not None:
            with self._changed:
                self._changed.wait_for(lambda: first.frame is not None, max(0.0, deadline - time.monotonic()))
                if first.frame is None:
                    why = "the station stopped before its pixels were decoded"
                    first.is_begun, first.frame = True, first.message.fail(why, Reason.SHUTDOWN)
                self._remove(first)
            yield first

    def _find_first(self) -> Pending | None:
        with self._changed:
            heads = [queue[0] for queue in self._queues.values()]
            return min(heads, key=lambda pending: pending.received_monotonic_ns, default=None)

    def _remove(self, first: Pending) -> None:
        queue = self._queues[first.message.camera]
        queue.popleft()
        if not queue:
            del self._queues[first.message.camera]
        self._changed.notify_all()

    # ------------------------------------------------------------ the threads that decode

    def work(self, timeout_s: float) -> None:
        """Decode one message, if one comes in time.

        Raises:
            Exception: a fault that nobody foresaw; the message becomes a frame that says so, and is answered.
        """
        with self._changed:
            pending = self._changed.wait_for(self._choose, timeout_s)
            if pending is None:
                return
            pending.is_begun = True
        self._decode(pending)

    def _choose(self) -> Pending | None:
        """The next to decode: of the camera that has the fewest under way, so that none waits for another's flood."""
        if self._count_bytes(is_decoded=True) >= self.max_bytes:
            return None
        waiting = [
            (sum(pending.is_begun and pending.frame is None for pending in queue), first.received_monotonic_ns, first)
            for queue in self._queues.values()
            if (first := next((pending for pending in queue if not pending.is_begun), None)) is not None
        ]
        return min(waiting, key=lambda each: each[:2])[2] if waiting else None

    def _decode(self, pending: Pending) -> None:
        message = pending.message
        try:
            frame = message.decode()
        except BaseException as error:
            self._end(pending, message.fail(f"pixels: cannot be decoded: {error!r:.200}", Reason.BAD_FRAME))
            raise
        self._end(pending, frame)

    def _end(self, pending: Pending, frame: Frame) -> None:
        with self._changed:
            if pending.frame is None:  # else it was given up
                pending.frame = frame
            os.eventfd_write(self.wakes, 1)
            self._changed.notify_all()

    def _count_bytes(self, *, is_decoded: bool = False) -> int:
        every = [pending for queue in self._queues.values() for pending in queue]
        decoded = sum(pending.frame.nbytes for pending in every if pending.frame is not None)
        return decoded if is_decoded else decoded + sum(p.message.nbytes for p in every if p.frame is None)
