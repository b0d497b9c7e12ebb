"""A source whose calls may never return, such as files on a share that died: each runs where it can be given up."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from inspector.errors import NotConnectedError
from inspector.sources.base import Source, Unanswering
from inspector.sources.report import CameraReport
from inspector.types import Frame

_CLOSE_S = 5.0
"""How long closing may take; then it goes on by itself, and the source is not opened before it is over."""


class DetachedSource(Unanswering):
    """Has its source called in a thread of its own, and waits no longer than it may.

    A call that does not return in time is `NotConnectedError`, and so is an `OSError` of one. Nothing else is asked of
    the source until it has: so no more than one thread hangs, and what the call brings after all is not lost.
    """

    def __init__(self, source: Source) -> None:
        """A call of `source` may take up to its `connect_s`."""
        self.name = source.name
        self.cameras = source.cameras
        self.can_wait = source.can_wait
        self.connect_s = source.connect_s
        self.losses = source.losses
        self._source = source
        self._calls: queue.SimpleQueue[_Call | None] | None = None  # None: no thread
        self._call: _Call | None = None  # has not returned, or what it brought was not taken
        self._closing: _Call | None = None  # has not returned in time
        self._is_interrupted = False

    def connect(self) -> None:
        """See `Source.connect`; or wait for a call that was given up."""
        if self._closing is not None:
            if not self._await(self._closing, self.connect_s):
                raise self._give_up(self._closing)
            self._closing = None
        call = self._call or self._begin(self._source.connect)
        if not self._await(call, self.connect_s):
            raise self._give_up(call)
        if call.frame is None:  # a frame that came late is what is read next
            self._call = None
        self._raise_error(call)

    def read(self, timeout_s: float) -> Frame | None:
        call = self._call or self._begin(lambda: self._source.read(timeout_s))
        if not self._await(call, timeout_s):
            if call.age_s > self.connect_s:
                raise self._give_up(call)
            return None
        self._call = None
        self._raise_error(call)
        return call.frame

    def fire(self, trigger_id: str, until_ns: int) -> None:
        self._source.fire(trigger_id, until_ns)

    def interrupt(self) -> None:
        self._is_interrupted = True
        self._source.interrupt()
        if self._call is not None:
            self._call.changed.set()

    def close(self) -> None:
        """See `Source`; a source that hangs stays as it is until it returns."""
        if self._calls is None or self.is_busy():
            return
        self._closing = closing = self._ask(self._calls, self._source.close)
        closing.changed.wait(_CLOSE_S)
        if closing.is_over:
            self._closing = None
            self._calls.put(None)
            self._calls = None
            with contextlib.suppress(NotConnectedError):  # it is let go of all the same
                self._raise_error(closing)

    def report(self) -> CameraReport | None:
        return self._source.report()

    def is_busy(self) -> bool:
        return any(call is not None and not call.is_over for call in (self._call, self._closing))

    def _begin(self, function: Callable[[], Frame | None]) -> _Call:
        if self._calls is None:
            calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
            try:
                threading.Thread(target=_serve, args=(calls,), name=f"source-{self.name}", daemon=True).start()
            except RuntimeError as error:
                raise NotConnectedError(f"{self.name}: {error}") from error
            self._calls = calls
        self._call = self._ask(self._calls, function)
        return self._call

    @staticmethod
    def _ask(calls: queue.SimpleQueue[_Call | None], function: Callable[[], Frame | None]) -> _Call:
        call = _Call(function)
        calls.put(call)
        return call

    def _await(self, call: _Call, timeout_s: float) -> bool:
        """Whether it has returned."""
        if not self._is_interrupted:
            call.changed.wait(timeout_s)
        return call.is_over

    def _raise_error(self, call: _Call) -> None:
        if isinstance(call.error, OSError):  # a disk, or what the system has none left of: it may pass
            raise NotConnectedError(f"{self.name}: {call.error}") from call.error
        if call.error is not None:
            raise call.error

    def _give_up(self, call: _Call) -> NotConnectedError:
        return NotConnectedError(f"{self.name}: no answer for {call.age_s:.0f} s; waiting for it")


class _Call:
    """One call and what came of it; `changed` once it is over, or nobody waits for it any more."""

    def __init__(self, function: Callable[[], Frame | None]) -> None:
        self._function = function
        self._began = time.monotonic()
        self.changed = threading.Event()
        self.is_over = False
        self.frame: Frame | None = None
        self.error: BaseException | None = None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began

    def run(self) -> None:
        try:
            self.frame = self._function()
        except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
            self.error = error
        self.is_over = True
        self.changed.set()


def _serve(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # with its frame, which may be large
