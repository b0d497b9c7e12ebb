"""A driver in a process of its own, for libraries that hold Python up while they wait: a child can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import struct
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from inspector.errors import InspectorError, NotConnectedError
from inspector.sources.cameras.driver import Driver, Grabbed

_OPEN_S = 20.0
"""How long the child may take to start Python and its library, and to find the camera."""
_CALL_S = 5.0
_CLOSE_S = 2.0
_KILL_S = 0.5


class RemoteDriver:
    """See `Driver`: has another one do its work, in a child. A call that takes too long ends the child."""

    def __init__(self, build: Callable[[], Driver]) -> None:
        """`build` is called in the child, so it must be something that can be sent there (pickled)."""
        self._build = build
        self._child: BaseProcess | None = None
        self._connection: Connection | None = None

    def open(self) -> None:
        """See `Driver`."""
        try:
            self._start_child()
        except OSError as error:  # no memory, no process or no file descriptor is left
            raise NotConnectedError(f"cannot start its process: {error}") from error
        self._call("open", timeout_s=_OPEN_S)

    def _start_child(self) -> None:
        near_end, far_end = multiprocessing.Pipe()
        # A child that stops within an answer must not be waited for.
        with socket.socket(fileno=os.dup(near_end.fileno())) as same:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                same.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *divmod(int(_CALL_S * 1e6), 1_000_000)))
        context = multiprocessing.get_context("spawn")
        child = context.Process(target=_serve, args=(far_end, self._build), name="camera", daemon=True)
        with far_end:
            child.start()
        self._child, self._connection = child, near_end

    def has_feature(self, name: str) -> bool:
        """See `Driver`."""
        return bool(self._call("has_feature", name))

    def write_feature(self, name: str, value: str) -> None:
        """See `Driver`."""
        self._call("write_feature", name, value)

    def read_feature(self, name: str) -> str:
        """See `Driver`."""
        return str(self._call("read_feature", name))

    def execute(self, name: str) -> None:
        """See `Driver`."""
        self._call("execute", name)

    def start(self) -> None:
        """See `Driver`."""
        self._call("start")

    def fire(self) -> None:
        """See `Driver`."""
        self._call("fire")

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """See `Driver`."""
        grabbed: Grabbed | None = self._call("grab", timeout_s, chunks, timeout_s=timeout_s + _CALL_S)
        return grabbed

    def close(self) -> None:
        """See `Driver`; a child that does not end is killed."""
        with contextlib.suppress(NotConnectedError):
            self._call("close", timeout_s=_CLOSE_S)
        self._end()

    def _call(self, name: str, *arguments: Any, timeout_s: float = _CALL_S) -> Any:
        if self._connection is None:
            raise NotConnectedError("not connected")
        try:
            self._connection.send((name, arguments))
            if not self._connection.poll(timeout_s):
                self._end()
                raise NotConnectedError(f"its library hangs: no answer to {name} for {timeout_s:g} s")
            problem, answer = self._connection.recv()
        except BlockingIOError as error:
            self._end()
            raise NotConnectedError(f"its library hangs: it stopped within {name}") from error
        except (EOFError, OSError) as error:
            self._end()
            raise NotConnectedError(f"its process ended: {str(error) or 'it crashed'}") from error
        if problem is not None:
            raise NotConnectedError(problem)
        return answer

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        child, self._child = self._child, None
        if child is not None:
            child.join(_KILL_S if connection is not None else 0)  # it ends by itself once nobody listens
            child.kill()
            child.join(_KILL_S)


def _serve(far_end: Connection, build: Callable[[], Driver]) -> None:
    """The child: do what is asked until nobody asks any more."""
    driver = build()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            name, arguments = far_end.recv()
            far_end.send(_answer(driver, name, arguments))
    with contextlib.suppress(InspectorError):
        driver.close()


def _answer(driver: Driver, name: str, arguments: tuple[Any, ...]) -> tuple[str | None, Any]:
    """What went wrong, if anything, and what the driver said."""
    try:
        return None, getattr(driver, name)(*arguments)
    except InspectorError as error:
        return str(error), None
    except Exception as error:  # noqa: BLE001 (a library's; who asked is told, and opens the camera again)
        return f"{type(error).__name__}: {error}", None
