"""GigE Vision against a fake that is not Aravis' own, viva-genicam's: it resends packets, and loses them on demand.

With INSPECTOR_CHAOS=1 it is fired 2000 times.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from inspector.errors import NotConnectedError
from inspector.sources.cameras.driver import Grabbed, apply_features
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.gige import GigeDriver, GigeSettings
from inspector.sources.cameras.settings import list_features
from inspector.types import Frame, PixelFormat
from tests.sources.cameras.test_gige import LACK
from tests.sources.contract import WAIT_S
from tests.system.chaos import scaled, tell, timeout

fakes = pytest.importorskip("viva_genicam.testing", reason="viva-genicam is not installed")
pytestmark = pytest.mark.skipif(bool(LACK), reason=LACK or "there")

ADDRESS = "127.0.0.2"
"""Not that of Aravis' fake, which other tests have."""

TRIGGERS = scaled(20, 2000)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(opened: ExitStack, **options: Any) -> Any:
    defaults = {"width": 64, "height": 48, "fps": 20, "bind_ip": ADDRESS}
    return opened.enter_context(fakes.FakeGigeCamera(**(defaults | options)))


def connect(opened: ExitStack, **settings: Any) -> GenicamSource:
    chosen = GigeSettings(type="gige", device=ADDRESS, read_timeout_s=WAIT_S, **settings)
    source = GenicamSource("top", chosen, GigeDriver(chosen))
    opened.callback(source.close)
    source.connect()
    return source


def take(source: GenicamSource, count: int) -> list[Frame]:
    frames: list[Frame] = []
    deadline = time.monotonic() + WAIT_S
    while len(frames) < count:
        assert time.monotonic() < deadline
        if (frame := source.read(0.1)) is not None:
            frames.append(frame)
    return frames


def test_settings_are_in_the_camera_s_memory(opened: ExitStack) -> None:
    camera = start(opened)
    source = connect(opened, exposure_us=4321.0)
    assert struct.unpack(">d", camera.peek(camera.REGISTERS["ExposureTime"], 8)) == (4321.0,)
    assert source.report().differences == ()


def test_packets_that_were_lost_are_asked_for_again(opened: ExitStack) -> None:
    start(opened, width=640, height=480, drop_packets=[(3, 5), (6, 2)])
    source = connect(opened)
    take(source, 12)
    assert source.losses == {"gap": 0}


def test_images_that_lost_packets_for_good_are_counted_and_no_frames(opened: ExitStack) -> None:
    start(opened, width=640, height=480, drop_packets=[(3, 5), (6, 2)], packet_resend=False)
    source = connect(opened)
    assert all(frame.pixels is not None for frame in take(source, 12))
    assert source.losses == {"gap": 0, "damaged": 2}


def test_each_software_trigger_has_one_frame(opened: ExitStack) -> None:
    camera = start(opened)
    source = connect(opened, trigger="software", trigger_period_s=0.05)
    frames = take(source, 8)
    assert camera.software_triggers() == 8
    assert len({frame.frame_id for frame in frames}) == 8


def test_camera_that_another_one_controls_is_lost_though_it_sends_on(opened: ExitStack) -> None:
    camera = start(opened)
    source = connect(opened)
    take(source, 3)
    camera.revoke_control()
    with pytest.raises(NotConnectedError, match="taken over"):
        take(source, 20 * int(WAIT_S))  # it sends on: silence is not what tells
    source.connect()
    take(source, 3)


@pytest.mark.parametrize(
    ("written", "expected", "shape", "dtype"),
    [
        ("Mono8", PixelFormat.MONO8, (48, 64), "uint8"),
        ("Mono16", PixelFormat.MONO16, (48, 64), "uint16"),
        ("BayerRG8", PixelFormat.RGB8, (48, 64, 3), "uint8"),
        ("RGB8", PixelFormat.RGB8, (48, 64, 3), "uint8"),
    ],
)
def test_pixels_are_those_of_the_camera_s_format(
    opened: ExitStack, written: str, expected: PixelFormat, shape: tuple[int, ...], dtype: str
) -> None:
    start(opened, pixel_format=written)
    (frame,) = take(connect(opened), 1)
    assert frame.pixels is not None
    assert (frame.pixel_format, frame.pixels.shape, frame.pixels.dtype) == (expected, shape, dtype)
    assert np.ptp(frame.pixels) > 100


@timeout(120, 900)
def test_each_trigger_on_request_has_its_frame_at_20_a_second(opened: ExitStack) -> None:
    camera = start(opened)
    source = connect(opened, trigger="request")
    frames: list[Frame] = []
    began = time.monotonic()
    for number in range(TRIGGERS):
        while (left_s := began + number / 20 - time.monotonic()) > 0:
            frames.extend(filter(None, [source.read(min(left_s, 0.01))]))
        source.fire(f"t{number}", time.monotonic_ns() + int(WAIT_S * 1e9))
        while number - len(frames) > 50:  # a machine too slow for the rate
            frames.extend(take(source, 1))
    frames.extend(take(source, TRIGGERS - len(frames)))
    tell(f"viva-genicam: {TRIGGERS} triggers, {TRIGGERS / (time.monotonic() - began):.1f}/s")
    assert [frame.trigger_id for frame in frames] == [f"t{number}" for number in range(TRIGGERS)]
    assert [frame.error for frame in frames] == [None] * TRIGGERS
    assert camera.software_triggers() == TRIGGERS
    assert source.losses == {"gap": 0}


# ---------------------------------------------------------------- chunks


def test_chunks_are_switched_on_and_date_and_count_the_images(opened: ExitStack) -> None:
    camera = start(opened)
    source = connect(opened, chunks=("FrameID", "Timestamp"))
    assert struct.unpack(">I", camera.peek(camera.REGISTERS["ChunkModeActive"], 4)) == (1,)
    frames = take(source, 5)
    assert source.losses["gap"] == 0
    captured = [frame.captured_utc_ns for frame in frames]
    assert captured == sorted(captured)
    assert all(0 <= frame.received_utc_ns - frame.captured_utc_ns < 10**10 for frame in frames)


def test_chunk_is_the_camera_s_own_time_of_its_image(opened: ExitStack) -> None:
    start(opened)
    chosen = GigeSettings(type="gige", device=ADDRESS, chunks=("FrameID", "Timestamp"))
    driver = GigeDriver(chosen)
    opened.callback(driver.close)
    driver.open()
    apply_features(driver, list_features(chosen))
    driver.start()
    images = [grab(driver, "ChunkFrameID", "ChunkTimestamp") for _ in range(3)]
    assert [image.chunks for image in images] == [(image.block_id, image.device_ns) for image in images]
    assert [image.block_id for image in images] == [1, 2, 3]
    lacking = grab(driver, "ChunkWidth")
    assert lacking.pixels is None
    assert re.match(r"image damaged: ChunkWidth: .*Chunk .* not found", lacking.error or "")


def grab(driver: GigeDriver, *chunks: str) -> Grabbed:
    grabbed = driver.grab(WAIT_S, chunks)
    assert grabbed is not None
    return grabbed


def test_camera_without_a_chunk_is_not_used_and_says_which(opened: ExitStack) -> None:
    start(opened)
    with pytest.raises(NotConnectedError, match=r"^camera top: chunks: the camera has no EncoderValue: "):
        connect(opened, chunks=("EncoderValue",))
