"""The buffer between ingest and device."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from inspector.config import WhenFull
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.ledger import Ledger, Ticket
from inspector.sources.base import build_frame
from inspector.types import PixelFormat

LEDGER = Ledger({"a": 1000, "b": 1000, "c": 1000})


def ticket(name: str, camera: str = "a", size: int = 10) -> Ticket:
    return LEDGER.accept(build_frame(camera, name, np.zeros((1, size), np.uint8), PixelFormat.MONO8))


def names(tickets: list[Ticket] | None) -> list[str] | None:
    return None if tickets is None else [t.frame.frame_id for t in tickets]


def drain(buffer: FrameBuffer, place: int = 0) -> list[str]:
    got = []
    while (taken := buffer.get(0, place)) is not None:
        got.append(taken.frame.frame_id)
    return got


def test_oldest_is_dropped_when_full_and_told_so() -> None:
    buffer = FrameBuffer(30, WhenFull.DROP_OLDEST)
    assert [names(buffer.put(ticket(n))) for n in "1234"] == [[], [], [], ["1"]]
    assert names(buffer.put(ticket("big", size=25))) == ["2", "3", "4"]
    assert buffer.nbytes == 25
    assert drain(buffer) == ["big"]


def test_newest_is_dropped_when_full_and_told_so() -> None:
    buffer = FrameBuffer(20, WhenFull.DROP_NEWEST)
    assert [names(buffer.put(ticket(n))) for n in "123"] == [[], [], ["3"]]
    assert drain(buffer) == ["1", "2"]


def test_frame_larger_than_the_buffer_is_dropped_by_any_policy() -> None:
    for policy in WhenFull:
        assert names(FrameBuffer(20, policy).put(ticket("x", size=21))) == ["x"]


def test_put_waits_when_blocking_until_there_is_room() -> None:
    buffer = FrameBuffer(10, WhenFull.BLOCK)
    buffer.put(ticket("1"))
    assert buffer.put(ticket("2"), timeout_s=0.05) is None
    threading.Timer(0.1, buffer.get, (1.0,)).start()
    assert buffer.put(ticket("3"), timeout_s=5.0) == []


def test_greedy_camera_pays_when_the_buffer_blocks_and_may_not() -> None:
    buffer = FrameBuffer(30, WhenFull.BLOCK)
    for name in ("a1", "a2", "a3"):
        buffer.put(ticket(name, "a"))
    assert names(buffer.put(ticket("b1", "b"), may_block=False)) == ["a1"]
    assert names(buffer.put(ticket("a4", "a"), may_block=False)) == ["a2"]
    assert buffer.put(ticket("b2", "b"), can_wait=True, may_block=False, timeout_s=0.01) is None


def test_limits_count_from_the_next_ticket_on_when_they_are_changed() -> None:
    buffer = FrameBuffer(30, WhenFull.DROP_OLDEST)
    for name in "123":
        buffer.put(ticket(name))
    buffer.limit(20, WhenFull.DROP_OLDEST)
    assert names(buffer.put(ticket("4"))) == ["1", "2"]
    buffer.limit(20, WhenFull.DROP_NEWEST)
    assert names(buffer.put(ticket("5"))) == ["5"]
    assert names(buffer.put(ticket("big", size=21))) == ["big"]
    buffer.limit(30, WhenFull.DROP_NEWEST)
    assert names(buffer.put(ticket("6"))) == []
    assert drain(buffer) == ["3", "4", "6"]


def test_put_goes_on_when_it_waits_and_there_is_room_by_a_new_limit() -> None:
    buffer = FrameBuffer(10, WhenFull.BLOCK)
    buffer.put(ticket("1"))
    threading.Timer(0.1, buffer.limit, (20, WhenFull.BLOCK)).start()
    assert buffer.put(ticket("2"), timeout_s=5.0) == []


def test_cameras_take_turns_and_the_greedy_one_pays() -> None:
    buffer = FrameBuffer(50, WhenFull.DROP_OLDEST)
    for name in ("a1", "a2", "a3", "a4"):
        buffer.put(ticket(name, "a"))
    buffer.put(ticket("b1", "b"))
    assert names(buffer.put(ticket("b2", "b"))) == ["a1"]
    assert drain(buffer) == ["b1", "a2", "b2", "a3", "a4"]  # the drop counted as a's turn


@pytest.mark.parametrize("when_full", list(WhenFull))
def test_closed_buffer_takes_none_drops_none_and_still_gives_what_waits(when_full: WhenFull) -> None:
    buffer = FrameBuffer(50, when_full)
    buffer.put(ticket("1"))
    buffer.close()
    assert buffer.put(ticket("2")) == []  # not for want of room: the stop says why it is not judged
    assert drain(buffer) == ["1"]


def test_ticket_is_taken_out_with_its_bytes_when_discarded() -> None:
    buffer = FrameBuffer(50, WhenFull.DROP_OLDEST)
    tickets = [ticket(name) for name in "123"]
    for each in tickets:
        buffer.put(each)
    buffer.discard(tickets[1])
    assert (len(buffer), buffer.nbytes) == (2, 20)
    assert drain(buffer) == ["1", "3"]


def test_nothing_happens_when_what_is_discarded_does_not_wait() -> None:
    buffer = FrameBuffer(50, WhenFull.DROP_OLDEST)
    taken = ticket("same")
    buffer.put(taken)
    buffer.put(ticket("same"))  # another frame of the same name
    assert buffer.get(0) is taken
    buffer.discard(taken)
    buffer.discard(ticket("never put"))
    buffer.discard(ticket("never put", "b"))
    assert (buffer.nbytes, drain(buffer)) == (10, ["same"])


def test_turn_goes_to_the_other_camera_when_the_last_of_one_is_discarded() -> None:
    buffer = FrameBuffer(50, WhenFull.DROP_OLDEST)
    last = ticket("a1", "a")
    for each in (last, ticket("b1", "b"), ticket("b2", "b")):
        buffer.put(each)
    buffer.discard(last)
    buffer.discard(last)
    buffer.put(ticket("a2", "a"))
    assert drain(buffer) == ["b1", "a2", "b2"]
    assert buffer.nbytes == 0


def test_put_that_waits_gets_its_room_when_another_is_discarded() -> None:
    buffer = FrameBuffer(10, WhenFull.BLOCK)
    waits = ticket("1")
    buffer.put(waits)
    threading.Timer(0.1, buffer.discard, (waits,)).start()
    assert buffer.put(ticket("2"), timeout_s=5.0) == []
    assert drain(buffer) == ["2"]


def test_camera_has_a_frame_waiting_until_its_last_is_taken_or_discarded() -> None:
    buffer = FrameBuffer(50, WhenFull.DROP_OLDEST)
    a, b = ticket("a1", "a"), ticket("b1", "b")
    buffer.put(a)
    buffer.put(b)
    assert (buffer.has("a"), buffer.has("b"), buffer.has("c")) == (True, True, False)
    assert buffer.get(0) is a
    buffer.discard(b)
    assert (buffer.has("a"), buffer.has("b")) == (False, False)


# ---------------------------------------------------------------- several devices


def test_each_device_gets_the_frames_of_its_cameras_in_turn_and_no_other() -> None:
    buffer = FrameBuffer(100, WhenFull.BLOCK, {"a": 0, "b": 1, "c": 0})
    for name, camera in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("b2", "b")):
        buffer.put(ticket(name, camera))
    assert drain(buffer, 1) == ["b1", "b2"]
    assert (buffer.is_idle(0), buffer.is_idle(1)) == (False, True)
    assert drain(buffer, 0) == ["a1", "c1", "a2"]


def test_frame_that_was_answered_is_taken_out_whichever_device_it_waits_for() -> None:
    buffer = FrameBuffer(30, WhenFull.DROP_OLDEST, {"a": 0, "b": 1})
    answered = ticket("b1", "b")
    buffer.put(answered)
    buffer.discard(answered)
    assert buffer.is_idle(1)
    assert (drain(buffer, 1), len(buffer), buffer.nbytes) == ([], 0, 0)


def test_device_is_woken_by_a_frame_of_its_own_camera() -> None:
    buffer = FrameBuffer(30, WhenFull.BLOCK, {"a": 0, "b": 1})
    got: list[Ticket | None] = []
    waiting = threading.Thread(target=lambda: got.append(buffer.get(10.0, 1)))
    waiting.start()
    buffer.put(ticket("a1"))
    buffer.put(ticket("b1", "b"))
    waiting.join(10.0)
    assert names([each for each in got if each]) == ["b1"]


@pytest.mark.parametrize("policy", list(WhenFull))
def test_frame_of_a_device_finds_its_room_when_another_device_stands_still(policy: WhenFull) -> None:
    buffer = FrameBuffer(40, policy, {"a": 0, "b": 1})
    assert [names(buffer.put(ticket(name), timeout_s=0.01)) for name in "12"] == [[], []]
    third = {WhenFull.BLOCK: None, WhenFull.DROP_OLDEST: ["1"], WhenFull.DROP_NEWEST: ["3"]}[policy]
    assert names(buffer.put(ticket("3"), timeout_s=0.01)) == third
    assert names(buffer.put(ticket("4", "b"), timeout_s=0.01)) == []
    assert names(buffer.put(ticket("5", "b"), can_wait=True, timeout_s=0.01)) == []
    assert names(buffer.put(ticket("6", "b", size=21))) == ["6"]  # more than the device's share
    assert buffer.nbytes == 40
    assert drain(buffer, 1) == ["4", "5"]
