"""Decoding by several threads: a camera's frames stay in order, none waits for another's, and none is lost."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from inspector.errors import BadFrameError
from inspector.sources.decoding import Decoding, Pending
from inspector.sources.wire import Message
from inspector.types import PixelFormat, Reason

WAIT_S = 10.0
PIXELS = np.zeros((10, 10), np.uint8)


class Picture:
    """A message that takes as long to decode as the test says, and is then good, bad or a fault."""

    def __init__(self, name: str, *, outcome: BaseException | None = None, encoding: str = "jpeg") -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._outcome = outcome
        header = {"camera": name[0], "frame_id": name, "part_id": "p7", "encoding": encoding}
        now = time.monotonic_ns()
        self.message = Message(name[0], header, b"x" * 50, 1, now, False, 1, lambda *_: self._decode())

    def end(self) -> Picture:
        self.may_end.set()
        return self

    def _decode(self) -> tuple[Any, PixelFormat]:
        self.begun.set()
        assert self.may_end.wait(WAIT_S)
        if self._outcome is not None:
            raise self._outcome
        return PIXELS, PixelFormat.MONO8


def name(pending: Pending | None) -> str | None:
    if pending is None:
        return None
    assert pending.frame is not None
    return pending.frame.frame_id


def is_told(decoding: Decoding) -> bool:
    return bool(select.select([decoding.wakes], [], [], 0)[0])


@pytest.fixture
def decoding() -> Decoding:
    return Decoding(threads=2, max_bytes=10_000)


@pytest.fixture
def begin(decoding: Decoding) -> Iterator[Callable[[Picture], threading.Thread]]:
    """Have the message that was put last decoded by a thread of its own, as far as the test lets it."""
    threads: list[tuple[Picture, threading.Thread]] = []

    def run(picture: Picture) -> threading.Thread:
        thread = threading.Thread(target=decoding.work, args=(WAIT_S,))
        thread.start()
        assert picture.begun.wait(WAIT_S)
        threads.append((picture, thread))
        return thread

    yield run
    for picture, thread in threads:
        picture.end()
        thread.join(WAIT_S)


Begin = Callable[[Picture], threading.Thread]


def test_frames_of_a_camera_keep_their_order_when_a_later_one_is_decoded_first(
    decoding: Decoding, begin: Begin
) -> None:
    first, second = Picture("a1"), Picture("a2").end()
    decoding.put(first.message)
    thread = begin(first)
    decoding.put(second.message)
    decoding.work(WAIT_S)
    assert second.begun.is_set()
    assert decoding.take() is None
    assert not is_told(decoding)
    first.end()
    thread.join(WAIT_S)
    assert is_told(decoding)
    assert [name(decoding.take()) for _ in range(3)] == ["a1", "a2", None]


def test_frame_of_another_camera_is_there_while_a_picture_is_still_being_decoded(
    decoding: Decoding, begin: Begin
) -> None:
    slow, other = Picture("a1"), Picture("b1").end()
    decoding.put(slow.message)
    begin(slow)
    decoding.put(other.message)
    decoding.work(WAIT_S)
    assert name(decoding.take()) == "b1"


def test_camera_with_nothing_under_way_is_decoded_before_one_that_floods(decoding: Decoding, begin: Begin) -> None:
    under_way, more, other = Picture("a1"), Picture("a2").end(), Picture("b1").end()
    decoding.put(under_way.message)
    begin(under_way)
    decoding.put(more.message)
    decoding.put(other.message)
    decoding.work(WAIT_S)
    assert (more.begun.is_set(), other.begun.is_set()) == (False, True)
    decoding.work(WAIT_S)
    assert more.begun.is_set()


def test_raw_frame_is_there_at_once_and_waits_for_those_of_its_camera_only(decoding: Decoding) -> None:
    decoding.put(Picture("b1", encoding="raw").end().message)
    assert name(decoding.take()) == "b1"
    slow, raw = Picture("a1").end(), Picture("a2", encoding="raw").end()
    decoding.put(slow.message)
    decoding.put(raw.message)
    assert decoding.take() is None
    for _ in range(2):
        decoding.work(WAIT_S)
    assert [name(decoding.take()) for _ in range(2)] == ["a1", "a2"]


def test_reader_decodes_where_no_thread_does() -> None:
    alone = Decoding()
    assert alone.has_room
    alone.put(Picture("a1").end().message, "asker")
    taken = alone.take()
    assert (name(taken), taken and taken.asker) == ("a1", "asker")


def test_reader_is_told_exactly_as_long_as_a_frame_can_be_taken(decoding: Decoding) -> None:
    told = [is_told(decoding)]
    for each in ("a1", "a2", "b1"):
        decoding.put(Picture(each).end().message)
        decoding.work(WAIT_S)
    for _ in range(3):
        told.append(is_told(decoding))
        assert decoding.take() is not None
    assert [*told, is_told(decoding)] == [False, True, True, True, False]


def test_little_is_let_in_of_one_camera_and_of_all(decoding: Decoding) -> None:
    for each in ("a1", "a2"):
        decoding.put(Picture(each).message)
        assert decoding.has_room
    decoding.put(Picture("a3").message)
    assert not decoding.has_room  # one for each thread, and one more
    several = Decoding(threads=2, max_bytes=10_000)
    for each in ("a1", "b1", "c1"):
        several.put(Picture(each).message)
        assert several.has_room
    several.put(Picture("d1").message)
    assert not several.has_room


@pytest.mark.parametrize(("max_bytes", "has_room"), [(150, False), (151, True)])
def test_room_is_bounded_in_bytes_as_they_came_and_decoded(max_bytes: int, has_room: bool) -> None:
    small = Decoding(threads=4, max_bytes=max_bytes)
    for each in ("a1", "b1"):
        small.put(Picture(each).end().message)
    small.work(WAIT_S)  # 100 bytes; the other still has its 50
    assert small.has_room is has_room


def test_none_is_decoded_while_those_that_wait_to_be_taken_fill_their_memory() -> None:
    small = Decoding(threads=4, max_bytes=100)
    pictures = [Picture(each).end() for each in ("a1", "b1")]
    for picture in pictures:
        small.put(picture.message)
    small.work(WAIT_S)
    small.work(0.0)
    assert not pictures[1].begun.is_set()
    assert name(small.take()) == "a1"
    small.work(0.0)
    assert name(small.take()) == "b1"


def test_all_is_waited_for_at_the_end(decoding: Decoding, begin: Begin) -> None:
    first, second = Picture("a1"), Picture("a2").end()
    decoding.put(first.message)
    thread = begin(first)
    decoding.put(second.message)
    threading.Timer(0.05, first.end).start()
    threading.Timer(0.1, decoding.work, (WAIT_S,)).start()
    assert [name(each) for each in decoding.drain(WAIT_S)] == ["a1", "a2"]
    thread.join(WAIT_S)
    assert decoding.take() is None


def test_what_is_not_decoded_in_time_at_the_end_is_an_error_with_its_ids_and_stays_one(
    decoding: Decoding, begin: Begin
) -> None:
    stuck, untouched = Picture("a1"), Picture("b1")
    decoding.put(stuck.message, "asker")
    thread = begin(stuck)
    decoding.put(untouched.message)
    drained = list(decoding.drain(0.01))
    stuck.end()
    thread.join(WAIT_S)
    decoding.work(0.0)
    assert not untouched.begun.is_set()
    frames = [each.frame for each in drained]
    assert [(f.frame_id, f.part_id, f.pixels, f.error_reason) for f in frames if f] == [
        ("a1", "p7", None, Reason.SHUTDOWN), ("b1", "p7", None, Reason.SHUTDOWN),
    ]  # fmt: skip
    assert [each.asker for each in drained] == ["asker", None]


def test_bad_picture_is_a_frame_that_says_why(decoding: Decoding) -> None:
    decoding.put(Picture("a1", outcome=BadFrameError("jpeg: cut")).end().message)
    decoding.work(WAIT_S)
    taken = decoding.take()
    assert taken is not None
    assert taken.frame is not None
    assert (taken.frame.error, taken.frame.error_reason) == ("jpeg: cut", Reason.BAD_FRAME)


def test_fault_of_the_program_ends_the_thread_and_its_frame_is_answered(decoding: Decoding) -> None:
    decoding.put(Picture("a1", outcome=RuntimeError("nobody foresaw")).end().message)
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        decoding.work(WAIT_S)
    taken = decoding.take()
    assert taken is not None
    assert taken.frame is not None
    assert taken.frame.pixels is None
    assert "nobody foresaw" in (taken.frame.error or "")
