"""What every kind of source must do, tried on whichever kind a rig holds: see `Source` for the contract in words."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np
import pytest

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.types import Frame

WAIT_S = 60.0
"""More than any answer takes, on a slow machine too; nothing waits that long unless it fails."""
READ_S = 0.1
HW = (48, 64)
OTHER_HW = (30, 40)


class Rig(Protocol):
    """A kind of source, and the device it reads in the test's hands.

    Attributes:
        never_lost: why its device cannot go away; empty where it can.
        one_size: why its device sends frames of one size; empty where it can send others.
    """

    never_lost: str
    one_size: str

    def build(self, *, silent: bool = False) -> Source:
        """A source, not connected; `silent`: of a device that is there and soon delivers nothing more."""

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        """Have the device deliver a frame whose pixels are about `value`; nothing where it delivers by itself."""

    def cut(self) -> None:
        """Take the device away."""

    def restore(self) -> None:
        """Bring it back."""


def take(rig: Rig, source: Source, value: int = 100, hw: tuple[int, int] = HW) -> Frame:
    """Send a frame and read it."""
    rig.send(value, hw)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (frame := source.read(READ_S)) is not None:
            return frame
    pytest.fail("no frame came")


def lose(rig: Rig, source: Source) -> None:
    """Take the device away and read until the source tells."""
    rig.cut()
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            source.read(READ_S)
        except NotConnectedError:
            return
    pytest.fail("the source never told that its device is gone")


def find_again(source: Source) -> None:
    """Connect, as often as it takes: libzmq, too, frees a port only a moment after it was closed."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            return source.connect()
        except (NotConnectedError, ConfigError):
            source.close()
            time.sleep(READ_S)
    pytest.fail("the source never found its device again")


def end(source: Source) -> None:
    """Stop it as the daemon does, and see that nothing of it is left."""
    source.interrupt()
    source.close()
    deadline = time.monotonic() + WAIT_S
    while source.is_busy():
        assert time.monotonic() < deadline, "something of it goes on"
        time.sleep(0.01)


class SourceContract:
    """To be inherited, beside a fixture `rig`."""

    def test_second_connect_changes_nothing_while_it_is_open(self, rig: Rig) -> None:
        source = rig.build()
        source.connect()
        source.connect()
        assert take(rig, source).camera in source.cameras
        end(source)

    def test_frame_says_when_it_came(self, rig: Rig) -> None:
        source = rig.build()
        source.connect()
        before_utc_ns, before_ns = time.time_ns(), time.monotonic_ns()
        frame = take(rig, source)
        assert before_utc_ns <= frame.received_utc_ns <= time.time_ns()
        assert before_ns <= frame.received_monotonic_ns <= time.monotonic_ns()
        assert frame.captured_utc_ns == 0 or abs(frame.received_utc_ns - frame.captured_utc_ns) < WAIT_S * 1e9
        end(source)

    def test_frames_have_ids_of_their_own_and_keep_their_pixels(self, rig: Rig) -> None:
        source = rig.build()
        source.connect()
        frames, copies = [], []
        for number in range(12):
            frame = take(rig, source, 20 * number)
            assert frame.pixels is not None
            frames.append(frame)
            copies.append(frame.pixels.copy())
        end(source)
        assert len({frame.frame_id for frame in frames}) == 12
        for frame, copy in zip(frames, copies, strict=True):
            assert frame.pixels is not None
            np.testing.assert_array_equal(frame.pixels, copy)

    def test_silence_is_no_frame_or_a_loss_and_holds_nobody_up(self, rig: Rig) -> None:
        source = rig.build(silent=True)
        source.connect()
        deadline = time.monotonic() + WAIT_S
        while (started := time.monotonic()) < deadline:
            try:
                frame = source.read(READ_S)
            except NotConnectedError:
                break
            assert time.monotonic() - started < WAIT_S / 4
            if frame is None:
                break
        else:
            pytest.fail("it never fell silent")
        end(source)

    def test_frame_of_another_size_is_handed_over_as_it_is(self, rig: Rig) -> None:
        if rig.one_size:
            pytest.skip(rig.one_size)
        source = rig.build()
        source.connect()
        assert [_hw(take(rig, source, 50, hw)) for hw in (HW, OTHER_HW, HW)] == [HW, OTHER_HW, HW]
        end(source)

    def test_lost_device_is_told_and_found_again(self, rig: Rig) -> None:
        if rig.never_lost:
            pytest.skip(rig.never_lost)
        source = rig.build()
        source.connect()
        first = take(rig, source, 40)
        lose(rig, source)
        source.close()
        with pytest.raises(NotConnectedError):
            source.connect()
        source.close()
        rig.restore()
        find_again(source)
        assert take(rig, source, 200).frame_id != first.frame_id
        end(source)

    def test_read_under_way_ends_when_it_is_stopped(self, rig: Rig) -> None:
        source = rig.build(silent=True)
        source.connect()
        stopping = threading.Event()

        def read() -> None:
            while not stopping.is_set():  # as the daemon's thread does
                try:
                    source.read(READ_S)
                except NotConnectedError:
                    return

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(2 * READ_S)
        stopping.set()
        source.interrupt()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        end(source)

    @pytest.mark.parametrize("state", ["new", "connected", "reading", "closed", "open again"])
    def test_stop_leaves_nothing_behind_in_any_state(self, rig: Rig, state: str) -> None:
        source = rig.build()
        if state != "new":
            source.connect()
        if state == "reading":
            take(rig, source)
        if state in {"closed", "open again"}:
            source.close()
        if state == "open again":
            find_again(source)
            take(rig, source)
        end(source)
        source.close()

    def test_stop_leaves_nothing_behind_when_the_device_is_away(self, rig: Rig) -> None:
        if rig.never_lost:
            pytest.skip(rig.never_lost)
        source = rig.build()
        rig.cut()
        with pytest.raises(NotConnectedError):
            source.connect()
        end(source)


def _hw(frame: Frame) -> tuple[int, int]:
    assert frame.pixels is not None
    height, width = frame.pixels.shape[:2]
    return height, width
