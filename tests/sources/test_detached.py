"""A source that hangs is given up in time, asked nothing more until it returns, and nothing it brings is lost."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inspector.errors import NotConnectedError, SourceExhaustedError
from inspector.sources import detached as module
from inspector.sources.base import Unanswering, build_frame
from inspector.sources.detached import DetachedSource
from inspector.types import Frame, PixelFormat

WAIT_S = 10.0


class HangingSource(Unanswering):
    """Delivers numbered frames; while told to, its calls do not return, as those to a dead share."""

    name = "shelf"
    cameras = ("shelf",)
    can_wait = True
    connect_s = 0.1

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.answers = threading.Event()
        self.answers.set()
        self.hung = threading.Event()
        self.next: Frame | BaseException | None = None
        self.closes_late, self.may_close = False, threading.Event()

    def connect(self) -> None:
        self._call("connect")

    def read(self, timeout_s: float) -> Frame | None:
        self._call("read")
        item, self.next = self.next, None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self.calls.append("close")
        if self.closes_late:
            assert self.may_close.wait(WAIT_S)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.current_thread())
        if not self.answers.is_set():
            self.hung.set()
            assert self.answers.wait(WAIT_S)


@pytest.fixture
def hanging() -> Iterator[HangingSource]:
    made = HangingSource()
    yield made
    made.answers.set()
    for thread in made.threads:
        thread.join(WAIT_S)


@pytest.fixture
def detached(hanging: HangingSource) -> Iterator[DetachedSource]:
    made = DetachedSource(hanging)
    yield made
    hanging.answers.set()
    while made.is_busy():
        time.sleep(0.001)
    made.close()


def frame(name: str) -> Frame:
    return build_frame("shelf", name, np.zeros((1, 1), np.uint8), PixelFormat.MONO8)


def read_in_time(source: DetachedSource) -> Frame | None:
    started = time.monotonic()
    taken = source.read(0.01)
    assert time.monotonic() - started < 5
    return taken


def read_until_given_up(source: DetachedSource) -> None:
    with pytest.raises(NotConnectedError, match=r"^shelf: no answer for \d+ s; waiting for it$"):
        deque(iter(lambda: read_in_time(source), "never"), maxlen=0)


def test_frames_and_faults_pass_through_while_the_source_answers(
    hanging: HangingSource, detached: DetachedSource
) -> None:
    assert (detached.name, detached.cameras, detached.can_wait) == ("shelf", ("shelf",), True)
    detached.connect()
    hanging.next = frame("a")
    taken = detached.read(WAIT_S)
    assert taken is not None
    assert taken.frame_id == "a"
    assert detached.read(WAIT_S) is None
    hanging.next = SourceExhaustedError("all read")
    with pytest.raises(SourceExhaustedError):
        detached.read(WAIT_S)
    detached.close()
    assert hanging.calls == ["connect", "read", "read", "read", "close"]
    (thread,) = hanging.threads
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_close_that_hangs_holds_nobody_up_and_the_source_is_opened_once_it_is_over(
    hanging: HangingSource, detached: DetachedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CLOSE_S", 0.1)
    detached.connect()
    hanging.closes_late = True
    for _ in range(2):
        detached.close()
        assert detached.is_busy()
        with pytest.raises(NotConnectedError, match=r"^shelf: no answer for \d+ s; waiting for it$"):
            detached.connect()
    assert hanging.calls == ["connect", "close"]
    hanging.closes_late = False
    hanging.may_close.set()
    while detached.is_busy():
        time.sleep(0.001)
    detached.connect()
    assert hanging.calls == ["connect", "close", "connect"]
    assert len(hanging.threads) == 1


def test_fault_while_closing_is_nobodys_concern(
    hanging: HangingSource, detached: DetachedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    detached.connect()
    with monkeypatch.context() as patched:
        patched.setattr(hanging, "close", fail)
        detached.close()
    detached.connect()
    assert hanging.calls == ["connect", "connect"]


def test_fault_of_a_disk_is_told_as_a_loss_that_may_pass(hanging: HangingSource, detached: DetachedSource) -> None:
    detached.connect()
    hanging.next = OSError(errno.EIO, "Input/output error")
    with pytest.raises(NotConnectedError, match=r"shelf: .*Input/output error"):
        detached.read(WAIT_S)
    hanging.next = frame("a")
    assert detached.read(WAIT_S) is not None


def test_connect_fails_and_works_later_when_no_thread_can_be_started(
    detached: DetachedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotConnectedError, match="shelf: can't start new thread"):
            detached.connect()
    detached.connect()
    assert detached.read(WAIT_S) is None


def test_source_that_hangs_is_given_up_and_asked_nothing_more_until_it_returns(
    hanging: HangingSource, detached: DetachedSource
) -> None:
    detached.connect()
    hanging.answers.clear()
    assert read_in_time(detached) is None
    read_until_given_up(detached)
    for _ in range(3):
        detached.close()
        with pytest.raises(NotConnectedError, match="waiting for it"):
            detached.connect()
    assert hanging.calls == ["connect", "read"]
    assert len(hanging.threads) == 1
    assert detached.is_busy()
    hanging.answers.set()
    detached.connect()
    assert not detached.is_busy()
    hanging.next = frame("b")
    assert detached.read(WAIT_S) is not None
    assert len(hanging.threads) == 1


def test_source_is_given_up_when_it_hangs_at_the_first_connect_and_used_when_it_answers(
    hanging: HangingSource, detached: DetachedSource
) -> None:
    hanging.answers.clear()
    for _ in range(2):
        with pytest.raises(NotConnectedError, match="no answer"):
            detached.connect()
        detached.close()
    hanging.answers.set()
    detached.connect()
    assert hanging.calls == ["connect"]


def test_frame_that_comes_after_its_source_was_given_up_is_not_lost(
    hanging: HangingSource, detached: DetachedSource
) -> None:
    detached.connect()
    hanging.next = frame("late")
    hanging.answers.clear()
    read_until_given_up(detached)
    detached.close()
    hanging.answers.set()
    detached.connect()
    late = detached.read(WAIT_S)
    assert late is not None
    assert late.frame_id == "late"
    assert hanging.calls == ["connect", "read"]


def test_fault_that_comes_late_is_told_by_the_next_connect(hanging: HangingSource, detached: DetachedSource) -> None:
    detached.connect()
    hanging.next = NotConnectedError("stale file handle")
    hanging.answers.clear()
    read_until_given_up(detached)
    hanging.answers.set()
    with pytest.raises(NotConnectedError, match="stale file handle"):
        detached.connect()
    detached.connect()
    assert hanging.calls == ["connect", "read", "connect"]


def test_waiting_ends_at_once_when_it_is_interrupted(hanging: HangingSource, detached: DetachedSource) -> None:
    detached.connect_s = 60.0
    hanging.answers.clear()
    faults: list[Any] = []

    def connect() -> None:
        try:
            detached.connect()
        except NotConnectedError as error:
            faults.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    assert hanging.hung.wait(WAIT_S)
    detached.interrupt()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert len(faults) == 1
    assert detached.read(60.0) is None
    assert detached.is_busy()


def test_thread_that_hangs_does_not_keep_the_process_from_ending(
    hanging: HangingSource, detached: DetachedSource
) -> None:
    hanging.answers.clear()
    with pytest.raises(NotConnectedError):
        detached.connect()
    (thread,) = hanging.threads
    assert thread.daemon
    assert thread.name == "source-shelf"
