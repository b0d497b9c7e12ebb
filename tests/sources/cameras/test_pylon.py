"""Basler's own emulated cameras, through pypylon."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras import pylon as module
from inspector.sources.cameras.driver import add_chunks
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonDriver, PylonSettings, _read_chunk
from inspector.types import Frame, PixelFormat
from tests.sources.contract import HW, WAIT_S, SourceContract

needs_pypylon = pytest.mark.skipif(
    importlib.util.find_spec("pypylon") is None, reason="pypylon is not installed (pip install 'inspector[pylon]')"
)
# Pylon's timers are SIGALRMs with a handler of its own, which the default method of pytest-timeout would replace.
pytestmark = pytest.mark.timeout(300, method="thread")
PICTURE = {"TestImageSelector": "Testimage2"}
"""It moves by a pixel from image to image."""


@pytest.fixture(autouse=True)
def emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYLON_CAMEMU", "2")


@pytest.fixture
def connect() -> Iterator[Any]:
    made: list[GenicamSource] = []

    def run(**settings: Any) -> GenicamSource:
        base = {"width": 64, "height": 48, "read_timeout_s": WAIT_S}
        chosen = PylonSettings(type="pylon", **(base | settings))
        made.append(GenicamSource("top", chosen, PylonDriver(chosen.serial)))
        made[-1].connect()
        return made[-1]

    yield run
    for source in made:
        source.close()


def take(source: GenicamSource) -> Frame:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (frame := source.read(0.2)) is not None:
            return frame
    pytest.fail("no frame came")


def camera_of(source: GenicamSource) -> Any:
    driver: Any = source._driver
    return driver._camera


def test_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pypylon is not installed: pip install 'inspector\[pylon\]'") as caught:
        PylonSettings(type="pylon").build("top")
    assert caught.value.field == ("cameras", "top", "source", "type")


@needs_pypylon
def test_settings_are_what_the_camera_has_afterwards(connect: Any) -> None:
    source = connect(offset_x=16, exposure_us=5000.0, gain=12, frame_rate=33.3, features={"BinningVertical": 2})
    nodes = camera_of(source).GetNodeMap()
    got = {name: nodes.GetNode(name).ToString() for name in ("Width", "OffsetX", "ExposureTime", "BinningVertical")}
    assert got == {"Width": "64", "OffsetX": "16", "ExposureTime": "5000.0", "BinningVertical": "2"}
    assert float(nodes.GetNode("AcquisitionFrameRate").ToString()) == pytest.approx(33.3)
    assert take(source).pixels.shape == (48, 64)  # type: ignore[union-attr]


@needs_pypylon
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"width": 1_000_000}, r"Width: Value = 1000000 must be equal or smaller than Max = 4096\.$"),
        ({"features": {"Gammma": 1}}, "Gammma: the camera has no such feature$"),
        ({"trigger": "line", "trigger_line": "Line77"}, "TriggerSource: .*cannot convert value 'Line77'"),
        ({"features": {"DeviceModelName": "x"}}, "DeviceModelName: Node is not writable"),
        ({"serial": "nobody"}, "no camera nobody is there$"),
    ],
)
def test_camera_that_has_not_what_was_asked_for_is_named_with_the_feature(
    connect: Any, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(NotConnectedError, match=f"^camera top: {problem}"):
        connect(**settings)


@needs_pypylon
@pytest.mark.parametrize(
    ("written", "expected", "dtype", "ndim"),
    [
        ("Mono8", PixelFormat.MONO8, np.uint8, 2),
        ("Mono12", PixelFormat.MONO16, np.uint16, 2),
        ("Mono16", PixelFormat.MONO16, np.uint16, 2),
        ("RGB8", PixelFormat.RGB8, np.uint8, 3),
        ("BGR8", PixelFormat.BGR8, np.uint8, 3),
        ("BGRa8", PixelFormat.BGR8, np.uint8, 3),
        ("BayerRG8", PixelFormat.RGB8, np.uint8, 3),
    ],
)
def test_pixel_format_is_that_of_the_settings(
    connect: Any, written: str, expected: PixelFormat, dtype: type, ndim: int
) -> None:
    frame = take(connect(pixel_format=written))
    assert frame.pixels is not None
    assert (frame.pixel_format, frame.pixels.dtype, frame.pixels.ndim) == (expected, dtype, ndim)


@needs_pypylon
def test_images_come_in_order_without_a_gap(connect: Any) -> None:
    source = connect(trigger="software", trigger_period_s=0.001, features=PICTURE)
    corners = [int(take(source).pixels[0, 0]) for _ in range(10)]  # type: ignore[index]
    steps = np.diff(np.array(corners)) % 256
    assert set(steps.tolist()) == {1}
    assert source.losses["gap"] == 0


@needs_pypylon
def test_each_software_trigger_has_its_frame(connect: Any) -> None:
    source = connect(trigger="software", trigger_period_s=0.001)
    ids = [take(source).frame_id for _ in range(5)]
    assert [name.rpartition("-")[2] for name in ids] == ["1", "2", "3", "4", "5"]
    assert source.losses["gap"] == 0


@needs_pypylon
def test_failed_grabs_are_counted_and_no_frames(connect: Any) -> None:
    source = connect(features={"ForceFailedBufferCount": 3}, frame_rate=20)
    take(source)
    camera_of(source).GetNodeMap().GetNode("ForceFailedBuffer").Execute()
    frames = [source.read(1.0) for _ in range(12)]
    assert source.losses["damaged"] == 3
    assert source.losses["gap"] == 0
    assert all(frame is None or frame.pixels is not None for frame in frames)


@needs_pypylon
def test_failed_grab_of_a_trigger_is_answered(connect: Any) -> None:
    source = connect(trigger="software", trigger_period_s=0.001, features={"ForceFailedBufferCount": 1})
    take(source)
    camera_of(source).GetNodeMap().GetNode("ForceFailedBuffer").Execute()
    frames = [take(source) for _ in range(3)]
    (failed,) = (frame for frame in frames if frame.error is not None)
    assert failed.error.startswith("image damaged: ")
    assert failed.pixels is None


class PylonRig:
    """An emulated camera that runs by itself."""

    never_lost = "an emulated camera cannot be unplugged"
    one_size = "a camera's size changes only when it is opened"

    def build(self, *, silent: bool = False) -> Source:
        trigger = "line" if silent else "free"
        return PylonSettings(type="pylon", width=64, height=48, frame_rate=30, trigger=trigger).build("top")

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        """It sends by itself."""

    def cut(self) -> None:
        """It cannot be."""

    def restore(self) -> None:
        """It is always there."""


@needs_pypylon
class TestPylon(SourceContract):
    """Cameras of Basler."""

    @pytest.fixture
    def rig(self) -> PylonRig:
        return PylonRig()


# ---------------------------------------------------------------- chunks


def make_result(**chunks: str) -> Any:
    """A grab result with chunks, which the emulation has not: a whole image of `HW`."""
    nodes = {f"Chunk{name}": SimpleNamespace(ToString=lambda text=text: text) for name, text in chunks.items()}
    return SimpleNamespace(
        Height=HW[0], Width=HW[1], PaddingX=0, PixelType=0x01080001, TimeStamp=5, BlockID=7,
        GrabSucceeded=lambda: True, GetBuffer=lambda: bytes(HW[0] * HW[1]),
        GetChunkDataNodeMap=lambda: SimpleNamespace(GetNode=nodes.__getitem__),
    )  # fmt: skip


@needs_pypylon
def test_chunks_are_read_from_the_image_they_came_with() -> None:
    driver = PylonDriver("")
    result = make_result(FrameID="18446744073709551615", EncoderValue="-12")
    image = add_chunks(driver._read(result), ("ChunkFrameID", "ChunkEncoderValue"), lambda n: _read_chunk(result, n))
    assert image.chunks == (2**64 - 1, -12)
    assert image.pixels is not None


@needs_pypylon
def test_camera_without_chunks_is_not_used_and_says_so(connect: Any) -> None:
    with pytest.raises(NotConnectedError, match=r"^camera top: Chunk\w+: the camera has no such feature$"):
        connect(chunks=("FrameID",))
    assert take(connect()).pixels is not None  # and is as it was
