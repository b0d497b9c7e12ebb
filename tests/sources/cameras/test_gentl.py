"""The simulator's GenTL producer that comes with the package genicam, through harvesters."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras import gentl as module
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.gentl import GentlDriver, GentlSettings
from inspector.sources.cameras.remote import RemoteDriver
from inspector.sources.settings import Device
from inspector.strict.claims import find_conflicts
from inspector.types import Frame, PixelFormat
from tests.sources.contract import HW, WAIT_S, SourceContract


def _find_producer() -> Path | None:
    if importlib.util.find_spec("harvesters") is None:
        return None
    found = importlib.util.find_spec("genicam")
    producer = Path(str(found.origin)).with_name("viky.cti") if found is not None else None
    return producer if producer is not None and producer.is_file() else None


PRODUCER = _find_producer()
needs_producer = pytest.mark.skipif(
    PRODUCER is None, reason="harvesters is not installed (pip install 'inspector[genicam]')"
)
CAMERA = "VikyTL_DEV_green"


def build(**settings: Any) -> Source:
    base: dict[str, Any] = {"device": CAMERA, "read_timeout_s": WAIT_S}
    return GentlSettings(type="genicam", producer=PRODUCER or Path("none.cti"), **(base | settings)).build("top")


@pytest.fixture
def connect() -> Iterator[Any]:
    made: list[Source] = []

    def run(**settings: Any) -> Source:
        made.append(build(**settings))
        made[-1].connect()
        return made[-1]

    yield run
    for source in made:
        source.close()


def take(source: Source) -> Frame:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (frame := source.read(0.2)) is not None:
            return frame
    pytest.fail("no frame came")


def test_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"harvesters is not installed: pip install 'inspector\[genicam\]'") as caught:
        build()
    assert caught.value.field == ("cameras", "top", "source", "type")


def test_cameras_of_two_producers_are_not_taken_for_one_another() -> None:
    one, other = (GentlSettings(type="genicam", producer=Path(name)) for name in ("a.cti", "b.cti"))
    folder = Path("/station")
    assert not list(find_conflicts([*one.list_claims("top", folder), *other.list_claims("side", folder)]))
    assert list(find_conflicts([*one.list_claims("top", folder), *one.list_claims("side", folder)]))
    assert one.anchor(folder).producer == folder / "a.cti"


@needs_producer
def test_frames_come_in_order_with_the_colours_that_the_camera_sends(connect: Any) -> None:
    source = connect(width=200, height=100, frame_rate=50)
    frames = [take(source) for _ in range(5)]
    for frame in frames:
        assert frame.pixels is not None
        assert (frame.pixel_format, frame.pixels.shape, frame.pixels.dtype) == (
            PixelFormat.RGB8,
            (100, 200, 3),
            "uint8",
        )
    green = (np.asarray(frames[-1].pixels) == (0, 255, 0)).all(axis=2)  # the ball, of the camera's colour
    assert 0 < green.sum() < 100 * 200
    assert source.losses["gap"] == 0
    assert [frame.captured_utc_ns for frame in frames] == [0] * 5  # this camera has no clock


@needs_producer
@pytest.mark.parametrize(
    ("written", "expected", "shape", "dtype"),
    [
        ("Mono8", PixelFormat.MONO8, (100, 200), "uint8"),
        ("RGBa8", PixelFormat.RGB8, (100, 200, 3), "uint8"),
    ],
)
def test_pixel_format_is_that_of_the_settings(
    connect: Any, written: str, expected: PixelFormat, shape: tuple[int, ...], dtype: str
) -> None:
    frame = take(connect(pixel_format=written, width=200, height=100))
    assert frame.pixels is not None
    assert (frame.pixel_format, frame.pixels.shape, frame.pixels.dtype) == (expected, shape, dtype)


@needs_producer
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"width": 1_000_000}, r"Width: Value = 1000000 must be equal or smaller than Max = 800\.$"),
        ({"features": {"Gammma": 1}}, "Gammma: the camera has no such feature$"),
        ({"trigger": "software"}, "TriggerMode: the camera has no such feature$"),
        ({"device": "nobody"}, r"no camera nobody is there, says .*viky\.cti$"),
    ],
)
def test_camera_that_has_not_what_was_asked_for_is_named_with_the_feature(
    connect: Any, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(NotConnectedError, match=f"^camera top: {problem}"):
        connect(**settings)


@needs_producer
def test_producer_that_is_not_there_is_named() -> None:
    source = GentlSettings(type="genicam", producer=Path("/nowhere/maker.cti")).build("top")
    with pytest.raises(NotConnectedError, match=r"^camera top: producer: /nowhere/maker\.cti is not there$"):
        source.connect()
    source.close()


@needs_producer
def test_several_cameras_of_a_producer_run_beside_one_another(connect: Any) -> None:
    green, red = connect(), connect(device="VikyTL_DEV_red")
    assert take(green).pixels is not None
    assert take(red).pixels is not None
    red.close()
    red.connect()
    assert take(red).pixels is not None
    assert take(green).pixels is not None
    assert green.losses["gap"] == 0


@needs_producer
def test_cameras_of_the_producers_that_the_environment_names_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f":{Path(str(PRODUCER)).parent}")
    found = list(GentlSettings.find_devices())
    assert len(found) == 3
    assert {str(PRODUCER) in device.name and "Viky" in device.name for device in found} == {True}


@needs_producer
def test_producer_that_cannot_be_used_hides_no_camera_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.cti").symlink_to(tmp_path / "removed")
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path}:{Path(str(PRODUCER)).parent}")
    found: list[Device] = []
    with pytest.raises(NotConnectedError, match=r"broken\.cti: "):
        found.extend(GentlSettings.find_devices())
    assert len(found) == 3


@needs_producer
def test_image_without_an_image_in_it_is_damaged() -> None:
    buffer = SimpleNamespace(frame_id=7, timestamp_ns=0, payload=SimpleNamespace(components=[]))
    grabbed = module._read(buffer)
    assert (grabbed.block_id, grabbed.pixels, grabbed.error) == (7, None, "image damaged: no image in it")


class GentlRig:
    """One of the simulator's cameras."""

    never_lost = "a camera of the simulator cannot be unplugged"
    one_size = "a camera's size changes only when it is opened"

    def build(self, *, silent: bool = False) -> Source:
        rate, timeout_s = (1, 0.2) if silent else (50, WAIT_S)
        return build(width=200, height=100, frame_rate=rate, read_timeout_s=timeout_s)

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        """It sends by itself."""

    def cut(self) -> None:
        """It cannot be."""

    def restore(self) -> None:
        """It is always there."""


@needs_producer
class TestGentl(SourceContract):
    """Cameras behind a GenTL producer."""

    @pytest.fixture
    def rig(self) -> GentlRig:
        return GentlRig()


def test_source_is_genicams_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "require_harvesters", lambda *_: None)
    source: Any = build()
    assert isinstance(source._source, GenicamSource)


# ---------------------------------------------------------------- chunks


@needs_producer
def test_camera_without_a_chunk_is_not_used_and_says_which(connect: Any) -> None:
    with pytest.raises(NotConnectedError, match=r"camera top: chunks: the camera has no Timestamp: ChunkSelector: "):
        connect(chunks=("Timestamp",))


@pytest.fixture
def driver() -> Iterator[RemoteDriver]:
    driver = RemoteDriver(functools.partial(GentlDriver, PRODUCER or Path(), CAMERA))
    driver.open()
    driver.write_feature("ChunkSelector", "NrBounces")  # the simulator's own: how often its ball met an edge
    yield driver
    driver.close()


@needs_producer
@pytest.mark.parametrize(("is_active", "chunks", "error"), [("1", (0,), ""), ("0", (), "NrBounces: no chunk came")])
def test_chunk_is_read_where_it_came_with_the_image(
    driver: RemoteDriver, is_active: str, chunks: tuple[int, ...], error: str
) -> None:
    driver.write_feature("ChunkModeActive", is_active)
    driver.write_feature("ChunkEnable", "1")
    driver.start()
    image = driver.grab(WAIT_S, ("ChunkNrBounces",))
    assert image is not None
    assert image.chunks == chunks
    assert error in (image.error or "")
    assert (image.pixels is None) is bool(error)


@needs_producer
def test_image_with_other_chunks_than_those_asked_for_is_damaged(driver: RemoteDriver) -> None:
    driver.write_feature("ChunkModeActive", "1")
    driver.write_feature("ChunkEnable", "1")
    driver.start()
    image = driver.grab(WAIT_S, ("ChunkNrBounces", "ChunkTimestamp"))
    assert image is not None
    assert image.pixels is None
    assert (image.error or "").startswith("image damaged: ChunkTimestamp: ")
