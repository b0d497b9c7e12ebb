"""A driver in a child: what it says, and what becomes of one that hangs or dies."""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from inspector.errors import NotConnectedError
from inspector.sources.cameras import remote as module
from inspector.sources.cameras.driver import Grabbed
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.cameras.remote import RemoteDriver
from inspector.testing.fake_camera import FakeCamera, make_image
from inspector.types import PixelFormat
from tests.sources.contract import HW, SourceContract


class SendingCamera(FakeCamera):
    """Runs by itself; `hang` and `crash` are features that do so when they are written."""

    def __init__(self, limit: int = 1_000_000) -> None:
        super().__init__({"Gamma": "1", "hang": "0", "crash": "0", "raise": "0"})
        self.count, self.limit = 0, limit

    def write_feature(self, name: str, value: str) -> None:
        if name == "hang":
            time.sleep(1000)
        if name == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "raise":
            raise ZeroDivisionError("of the library")
        super().write_feature(name, value)

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        self.count += 1
        if self.count <= self.limit:
            self.images.append(make_image(self.count, chunks=tuple(map(len, chunks))))
        return super().grab(timeout_s)


@pytest.fixture
def driver() -> Iterator[RemoteDriver]:
    made = RemoteDriver(SendingCamera)
    made.open()
    yield made
    made.close()


def test_calls_are_those_of_the_driver(driver: RemoteDriver) -> None:
    assert (driver.has_feature("Gamma"), driver.has_feature("Gammma")) == (True, False)
    driver.write_feature("Gamma", "2")
    assert driver.read_feature("Gamma") == "2"
    driver.start()
    driver.fire()
    grabbed = driver.grab(0.1, ("ChunkA", "Chunk"))
    assert grabbed is not None
    assert grabbed.chunks == (6, 5)
    assert (grabbed.block_id, grabbed.pixel_format) == (1, PixelFormat.MONO8)
    np.testing.assert_array_equal(grabbed.pixels, np.ones(HW, np.uint8))


def test_faults_are_told_and_the_driver_goes_on(driver: RemoteDriver) -> None:
    with pytest.raises(NotConnectedError, match=r"^Gamma: not writable$"):
        driver.write_feature("Gamma", "refused")
    with pytest.raises(NotConnectedError, match=r"^ZeroDivisionError: of the library$"):
        driver.write_feature("raise", "1")
    assert driver.read_feature("Gamma") == "1"


def test_library_that_hangs_is_killed_and_can_be_opened_again(driver: RemoteDriver) -> None:
    child = driver._child
    assert child is not None
    with pytest.raises(NotConnectedError, match=r"its library hangs: no answer to write_feature for 0\.2 s"):
        driver._call("write_feature", "hang", "1", timeout_s=0.2)
    child.join(60)
    assert not child.is_alive()
    with pytest.raises(NotConnectedError, match="not connected"):
        driver.read_feature("Gamma")
    driver.open()
    assert driver.read_feature("Gamma") == "1"


def test_library_that_crashes_is_told(driver: RemoteDriver) -> None:
    with pytest.raises(NotConnectedError, match="its process ended: it crashed"):
        driver.write_feature("crash", "1")


def test_open_fails_with_the_cause_and_works_later_when_no_child_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    driver = RemoteDriver(SendingCamera)
    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.context.SpawnProcess, "start", refuse)
        with pytest.raises(NotConnectedError, match=r"cannot start its process: .*Cannot allocate memory"):
            driver.open()
    driver.open()
    assert driver.has_feature("Gamma")
    driver.close()


class LargeCamera(SendingCamera):
    """Its images are larger than what lies between it and its reader."""

    def grab(self, timeout_s: float) -> Grabbed | None:
        return Grabbed(1, 0, np.zeros((4000, 4000), np.uint8))


def test_child_that_stops_within_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CALL_S", 0.5)
    driver = RemoteDriver(LargeCamera)
    driver.open()
    child, connection = driver._child, driver._connection
    assert child is not None
    assert connection is not None
    connection.send(("grab", (0.1,)))
    assert connection.poll(60)
    os.kill(child.pid or 0, signal.SIGSTOP)
    with pytest.raises(NotConnectedError, match="its library hangs: it stopped within grab"):
        driver.grab(0.1)
    child.join(60)
    assert not child.is_alive()
    driver.close()


def test_child_ends_by_itself_when_it_is_closed(driver: RemoteDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KILL_S", 60)
    monkeypatch.setattr(module, "_CLOSE_S", 60)
    child = driver._child
    assert child is not None
    driver.close()
    child.join(60)
    assert child.exitcode == 0
    driver.close()


class RemoteRig:
    """A camera in memory, in a child."""

    never_lost = "a camera of its own child is always there"
    one_size = "a camera's size changes only when it is opened"

    def build(self, *, silent: bool = False) -> GenicamSource:
        settings = PylonSettings(type="pylon", read_timeout_s=0.3 if silent else 60)
        build = functools.partial(SendingCamera, 5 if silent else 1_000_000)
        return GenicamSource("top", settings, RemoteDriver(build))

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        """It sends by itself."""

    def cut(self) -> None:
        """It cannot be."""

    def restore(self) -> None:
        """It is always there."""


class TestRemote(SourceContract):
    """A driver in a process of its own."""

    @pytest.fixture
    def rig(self) -> RemoteRig:
        return RemoteRig()
