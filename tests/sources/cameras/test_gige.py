"""GigE Vision over loopback: Aravis' own fake camera in a process of its own, killed and started again."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras import gige as module
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.gige import GigeDriver, GigeSettings, load_aravis
from inspector.sources.report import Ptp
from inspector.types import Frame, PixelFormat
from tests.sources.contract import HW, WAIT_S, SourceContract

PROGRAM = "arv-fake-gv-camera-0.8"
ADDRESS = "127.0.0.1"
GVCP_PORT = 3956


def _find_lack() -> str:
    try:
        load_aravis()
    except ConfigError as error:
        return str(error)
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (Debian package aravis-tools)"


LACK = _find_lack()
needs_camera = pytest.mark.skipif(bool(LACK), reason=LACK or "there")


class FakeGige:
    """A camera on the network."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Switch it on and wait until it answers."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((ADDRESS, GVCP_PORT))  # fails where another one would answer in its place
        self._process = subprocess.Popen([PROGRAM, "-i", ADDRESS, *self._options])
        try:
            self._wait()
        except BaseException:
            self.kill()  # nobody else would, and the next one needs its port
            raise

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + WAIT_S
        while True:
            driver = GigeDriver(GigeSettings(type="gige", device=ADDRESS))
            try:
                return driver.open()
            except NotConnectedError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None, "it ended by itself: is its port in use?"
                time.sleep(0.1)
            finally:
                driver.close()

    def kill(self) -> None:
        """Without a word to anyone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def camera() -> Iterator[FakeGige]:
    made = FakeGige()
    yield made
    made.kill()


def make_settings(**settings: Any) -> GigeSettings:
    base = {"device": ADDRESS, "width": 64, "height": 48, "frame_rate": 25, "read_timeout_s": WAIT_S}
    return GigeSettings(type="gige", **(base | settings))


@pytest.fixture
def connect() -> Iterator[Any]:
    made: list[GenicamSource] = []

    def run(**settings: Any) -> GenicamSource:
        chosen = make_settings(**settings)
        made.append(GenicamSource("top", chosen, GigeDriver(chosen)))
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


def test_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"apt-get install gir1\.2-aravis-0\.8 python3-gi") as caught:
        GigeSettings(type="gige").build("top")
    assert caught.value.field == ("cameras", "top", "source", "type")


@needs_camera
def test_settings_are_what_the_camera_has_afterwards(camera: FakeGige, connect: Any) -> None:
    source = connect(exposure_us=5000.0, gain=3, features={"BinningHorizontal": 1})
    names = ("Width", "Height", "ExposureTimeAbs", "GainRaw", "AcquisitionFrameRate")
    got = [float(source._driver.read_feature(name)) for name in names]
    assert got == [64, 48, 5000, 3, 25]
    frame = take(source)
    assert frame.pixels is not None
    assert frame.pixels.shape == (48, 64)


@needs_camera
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"features": {"Gammma": 1}}, "Gammma: the camera has no such feature"),
        ({"pixel_format": "Mono12"}, "PixelFormat: .*'Mono12' not an entry"),
        ({"trigger": "line", "trigger_line": "Line77"}, "TriggerSource: .*'Line77' not an entry"),
    ],
)
def test_camera_that_has_not_what_was_asked_for_is_named_with_the_feature(
    camera: FakeGige, connect: Any, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(NotConnectedError, match=f"^camera top: {problem}"):
        connect(**settings)


@needs_camera
def test_camera_that_is_not_there_is_named(connect: Any) -> None:
    with pytest.raises(NotConnectedError, match=r"^camera top: .*127\.0\.0\.99"):
        connect(device="127.0.0.99")


@needs_camera
@pytest.mark.parametrize(
    ("written", "expected", "shape", "dtype"),
    [
        ("Mono8", PixelFormat.MONO8, (48, 64), "uint8"),
        ("Mono16", PixelFormat.MONO16, (48, 64), "uint16"),
        ("BayerGR8", PixelFormat.RGB8, (48, 64, 3), "uint8"),
        ("RGB8", PixelFormat.RGB8, (48, 64, 3), "uint8"),
    ],
)
def test_pixel_format_is_that_of_the_settings(
    camera: FakeGige, connect: Any, written: str, expected: PixelFormat, shape: tuple[int, ...], dtype: str
) -> None:
    frame = take(connect(pixel_format=written))
    assert frame.pixels is not None
    assert (frame.pixel_format, frame.pixels.shape, frame.pixels.dtype) == (expected, shape, dtype)


@needs_camera
def test_numbers_that_wrap_are_no_gap(camera: FakeGige, connect: Any) -> None:
    source = connect(frame_rate=100)  # its numbers begin at 65401
    ids: list[int] = []
    grab = source._driver.grab

    def watch(timeout_s: float, chunks: Sequence[str] = ()) -> Any:
        grabbed = grab(timeout_s, chunks)
        if grabbed is not None:
            ids.append(grabbed.block_id)
        return grabbed

    source._driver.grab = watch  # type: ignore[method-assign]
    deadline = time.monotonic() + 2 * WAIT_S
    while not ids or ids[-1] > 1000:
        assert time.monotonic() < deadline
        source.read(0.2)
    in_order = sum((after - before) % 65_535 - 1 for before, after in itertools.pairwise(ids))
    assert ids[0] > 65_000
    assert source.losses["gap"] == in_order < 100


@needs_camera
def test_frame_says_when_it_was_captured(camera: FakeGige, connect: Any) -> None:
    source = connect()
    for _ in range(5):
        frame = take(source)
        assert 0 <= frame.received_utc_ns - frame.captured_utc_ns < WAIT_S * 1e9
        assert frame.captured_utc_ns > 0


@needs_camera
def test_images_that_lost_packets_are_counted_and_no_frames(connect: Any) -> None:
    camera = FakeGige("-r", "200")
    try:
        source = connect(width=512, height=512, packet_size=1400)
        deadline = time.monotonic() + WAIT_S
        while source.losses.get("damaged", 0) < 2:
            assert time.monotonic() < deadline
            frame = source.read(0.2)
            assert frame is None or frame.pixels is not None
    finally:
        camera.kill()


@needs_camera
def test_image_is_damaged_when_the_library_says_so_though_all_bytes_are_there() -> None:
    aravis = load_aravis()
    buffer = SimpleNamespace(
        get_status=lambda: aravis.BufferStatus.MISSING_PACKETS, get_frame_id=lambda: 7, get_timestamp=lambda: 0,
        get_data=lambda: bytes(12), get_image_width=lambda: 4, get_image_height=lambda: 3,
        get_image_pixel_format=lambda: 0x01080001, get_image_padding=lambda: (0, 0),
    )  # fmt: skip
    grabbed = module._read(aravis, buffer)
    assert (grabbed.block_id, grabbed.pixels, grabbed.error) == (7, None, "image damaged: missing-packets")
    buffer.get_status = lambda: aravis.BufferStatus.SUCCESS
    assert module._read(aravis, buffer).pixels.shape == (3, 4)  # type: ignore[union-attr]


MORE_FEATURES = """
    <Boolean Name="PtpEnable"><pValue>PtpEnableRegister</pValue></Boolean>
    <Integer Name="CounterValue"><pValue>CounterRegister</pValue></Integer>
    <Integer Name="PtpOffsetFromMaster"><pValue>PtpOffsetRegister</pValue></Integer>
    <Command Name="PtpDataSetLatch"><pValue>PtpLatchRegister</pValue><CommandValue>1</CommandValue></Command>
    <Enumeration Name="PtpStatus">
      <EnumEntry Name="Initializing"><Value>0</Value></EnumEntry>
      <EnumEntry Name="Slave"><Value>9</Value></EnumEntry>
      <pValue>PtpStatusRegister</pValue>
    </Enumeration>
"""
"""Which the fake has not: on words of its memory that it does not use."""
WORDS = {"PtpEnable": 0x500, "Counter": 0x504, "PtpOffset": 0x508, "PtpLatch": 0x50C, "PtpStatus": 0x510}
WORD = """
    <IntReg Name="{name}Register"><Address>{address}</Address><Length>4</Length><AccessMode>RW</AccessMode>
      <pPort>Device</pPort><Sign>Unsigned</Sign><Endianess>BigEndian</Endianess></IntReg>
"""


END = "</RegisterDescription>"


def read_description(device: Any) -> str:
    """A camera's XML; the binding may read past the end of Aravis' text."""
    try:
        text, _ = device.get_genicam_xml()
    except UnicodeDecodeError as error:
        text = error.object.decode(errors="replace")
    return str(text.partition(END)[0]) + END


@pytest.fixture
def able_camera(tmp_path: Path) -> Iterator[FakeGige]:
    """The fake with a counter and a clock that PTP may keep."""
    plain = FakeGige()
    driver = GigeDriver(GigeSettings(type="gige", device=ADDRESS))
    try:
        driver.open()
        description = read_description(driver._camera.get_device())
    finally:
        driver.close()
        plain.kill()
    words = "".join(WORD.format(name=name, address=hex(address)) for name, address in WORDS.items())
    path = tmp_path / "camera.xml"
    path.write_text(description.replace(END, f"{MORE_FEATURES}{words}{END}"))
    made = FakeGige("-g", str(path))
    yield made
    made.kill()


def wait_for(source: GenicamSource, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        source.read(0.1)


@needs_camera
def test_settings_are_reported_as_they_were_read_back_after_a_loss_of_power_too(camera: FakeGige, connect: Any) -> None:
    source = connect(exposure_us=5000.0, gain=3)
    before = source.report()
    found = {each.name: (each.asked, each.found, each.differs) for each in before.settings}
    assert found["Width"] == ("64", "64", False)
    assert found["GainRaw"] == ("3", "3", False)
    assert float(found["ExposureTimeAbs"][1]) == 5000
    camera.kill()
    with pytest.raises(NotConnectedError, match="it does not answer any more"):
        wait_for(source, lambda: False)
    gone = source.report()
    assert (gone.is_connected, gone.settings) == (False, before.settings)
    camera.start()
    with contextlib.closing(GigeDriver(GigeSettings(type="gige", device=ADDRESS))) as driver:
        driver.open()
        assert driver.read_feature("Width") != "64", "it must have lost its settings"
    source.connect()
    after = source.report()
    assert (after.is_connected, after.settings) == (True, before.settings)
    assert after.read_utc_ns > before.read_utc_ns


@needs_camera
def test_missed_triggers_are_counted_from_the_camera_s_own_counter(able_camera: FakeGige, connect: Any) -> None:
    source = connect(missed_trigger_counter="CounterValue", features={"CounterValue": 7})
    assert source.report().triggers_missed == 0
    source._driver.write_feature("CounterValue", "9")
    wait_for(source, lambda: source.report().triggers_missed == 2)
    source._driver.write_feature("CounterValue", "1")  # it began anew
    wait_for(source, lambda: source.report().triggers_missed == 3)


@needs_camera
def test_camera_without_the_counter_is_not_used(camera: FakeGige, connect: Any) -> None:
    with pytest.raises(NotConnectedError, match=r"^camera top: CounterValue: the camera has no such feature"):
        connect(missed_trigger_counter="CounterValue")


@needs_camera
def test_ptp_is_switched_on_and_its_state_reported(able_camera: FakeGige, connect: Any) -> None:
    source = connect(ptp=True, features={"PtpOffsetFromMaster": 120})
    assert source._driver.read_feature("PtpEnable") in {"1", "true"}
    assert source._driver.read_feature("PtpLatchRegister") == "1"
    assert source.report().ptp == Ptp("Initializing", 120)
    take(source)
    assert not source.report().is_dated_by_ptp
    source._driver.write_feature("PtpStatus", "Slave")
    wait_for(source, lambda: source.report().ptp == Ptp("Slave", 120))
    wait_for(source, lambda: source.report().is_dated_by_ptp)  # the fake's clock is this machine's


class GigeRig:
    """The fake camera."""

    never_lost = ""
    one_size = "a camera's size changes only when it is opened"

    def __init__(self) -> None:
        self._camera = FakeGige()

    def build(self, *, silent: bool = False) -> Source:
        if silent:
            return make_settings(read_timeout_s=1.0, trigger="software", trigger_period_s=1000.0).build("top")
        return make_settings(read_timeout_s=WAIT_S).build("top")

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        """It sends by itself."""

    def cut(self) -> None:
        self._camera.kill()

    def restore(self) -> None:
        self._camera.start()

    def close(self) -> None:
        self._camera.kill()


@needs_camera
class TestGige(SourceContract):
    """Cameras of any make, killed and started again."""

    @pytest.fixture
    def rig(self) -> Iterator[GigeRig]:
        made = GigeRig()
        yield made
        made.close()
