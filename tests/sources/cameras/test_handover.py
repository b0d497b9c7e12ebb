"""Messages that come in pieces, and pictures through shared memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import zmq

from inspector.sources.cameras.handover import Inbox, Outbox, PictureMemory


@pytest.fixture
def ends() -> Iterator[tuple[Inbox, Outbox, socket.socket]]:
    near_end, far_end = socket.socketpair()
    inbox = Inbox(near_end)
    with far_end:
        yield inbox, Outbox(far_end), far_end
    inbox.close()


Ends = tuple[Inbox, Outbox, socket.socket]


def draw(value: int, shape: tuple[int, ...] = (4, 6, 3), dtype: str = "uint8") -> np.ndarray[Any, Any]:
    return np.full(shape, value, dtype)


def take(inbox: Inbox) -> np.ndarray[Any, Any]:
    message = inbox.receive(10)
    assert message is not None
    return inbox.copy_picture(message["dtype"], message["shape"], message["place"])


def test_message_that_stops_in_its_middle_is_none_in_time_and_whole_later(ends: Ends) -> None:
    inbox, _, far_end = ends
    content = b'{"event": "open"}'
    far_end.sendall(len(content).to_bytes(8) + content[:5])
    assert inbox.receive(0.05) is None
    far_end.sendall(content[5:])
    assert inbox.receive(10) == {"event": "open"}


def test_end_of_the_child_is_told_in_the_middle_of_a_message_too(ends: Ends) -> None:
    inbox, _, far_end = ends
    far_end.sendall((17).to_bytes(8) + b'{"ev')
    far_end.shutdown(socket.SHUT_RDWR)
    with pytest.raises(EOFError):
        inbox.receive(10)


def test_pictures_are_read_into_the_shared_memory_and_copied_out_of_it(ends: Ends) -> None:
    inbox, outbox, _ = ends
    assert outbox.get_place() is None
    outbox.hand_over(draw(1))
    first = take(inbox)
    place = outbox.get_place()
    assert place is not None
    place[:] = 2
    outbox.hand_over(place)
    third = outbox.get_place()
    assert third is not None
    assert not np.shares_memory(place, third)
    second = take(inbox)
    for _ in range(4):
        place = outbox.get_place()
        assert place is not None
        place[:] = 9
        outbox.hand_over(place)
        take(inbox)
    np.testing.assert_array_equal(first, draw(1))
    np.testing.assert_array_equal(second, draw(2))


def test_place_is_not_used_again_before_its_picture_was_taken(ends: Ends) -> None:
    inbox, outbox, _ = ends
    outbox.hand_over(draw(1))
    outbox.hand_over(draw(2))
    waiter = threading.Thread(target=outbox.get_place)
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive()
    assert int(take(inbox)[0, 0, 0]) == 1
    waiter.join(10)
    assert not waiter.is_alive()
    assert int(take(inbox)[0, 0, 0]) == 2


@pytest.mark.parametrize(("shape", "dtype"), [((8, 6, 3), "uint8"), ((2, 2), "uint8"), ((4, 6, 3), "uint16")])
def test_picture_of_another_kind_is_handed_over_as_it_is(ends: Ends, shape: tuple[int, ...], dtype: str) -> None:
    inbox, outbox, _ = ends
    outbox.hand_over(draw(1))
    np.testing.assert_array_equal(take(inbox), draw(1))
    outbox.hand_over(draw(2, shape, dtype))
    got = take(inbox)
    np.testing.assert_array_equal(got, draw(2, shape, dtype))
    assert got.dtype == dtype


def test_child_that_waits_for_room_is_told_when_nobody_listens_any_more(ends: Ends) -> None:
    inbox, outbox, _ = ends
    outbox.hand_over(draw(1))
    outbox.hand_over(draw(2))
    inbox._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BrokenPipeError):
        outbox.get_place()


# ---------------------------------------------------------------- memory of pictures


def get_address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


HOLDERS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "the picture": lambda picture: picture,
    "a part of it": lambda picture: picture[1:3, ::2],
    "a part of a view": lambda picture: picture.reshape(-1).view("uint16")[3:],
    "a tensor": torch.from_numpy,
    "its bytes": memoryview,
    "a message": lambda picture: zmq.Frame(picture, copy=False),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_is_not_used_again_while_anybody_has_the_picture(ends: Ends, holder: str) -> None:
    inbox, outbox, _ = ends
    outbox.hand_over(draw(7, (4, 8)))
    held = HOLDERS[holder](take(inbox))
    for value in range(10, 20):
        outbox.hand_over(draw(value, (4, 8)))
        assert take(inbox).min() == value
    assert set(bytes(np.ascontiguousarray(held))) == {7}


def test_memory_is_used_again_once_nobody_has_the_picture(ends: Ends) -> None:
    inbox, outbox, _ = ends
    addresses = set()
    for value in range(6):
        outbox.hand_over(draw(value))
        addresses.add(get_address(take(inbox)))
    assert len(addresses) == 1


def test_pictures_that_are_all_kept_have_memory_of_their_own_and_little_is_kept_for_later() -> None:
    memory = PictureMemory()
    kept = [memory.take(24) for _ in range(8)]
    assert len({get_address(each) for each in kept}) == 8
    assert len(memory._pieces) == 3
    assert get_address(memory.take(48)) not in {get_address(each) for each in kept}
    assert [piece.size for piece in memory._pieces] == [48]
