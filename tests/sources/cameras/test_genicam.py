"""What all GenICam cameras share: settings written and read back, numbers, times, triggers, damaged images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from inspector.config import Camera
from inspector.errors import NotConnectedError
from inspector.sources.cameras.driver import Grabbed, add_chunks, apply_features, build_grabbed, read_ticks
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.cameras.settings import FeatureValue
from inspector.sources.report import Ptp, ReadBack
from inspector.testing.fake_camera import FakeCamera, make_image
from inspector.types import Frame, PixelFormat, Reason
from tests.sources.contract import HW, WAIT_S, SourceContract


def make(camera: FakeCamera, **settings: Any) -> GenicamSource:
    return GenicamSource("top", PylonSettings(type="pylon", **settings), camera)


def connected(camera: FakeCamera, **settings: Any) -> GenicamSource:
    source = make(camera, **settings)
    source.connect()
    return source


# ---------------------------------------------------------------- settings


def test_settings_are_written_in_an_order_that_cameras_take_and_by_the_names_they_have() -> None:
    names = ("Width", "Height", "OffsetX", "OffsetY", "ExposureTimeAbs", "GainRaw", "AcquisitionFrameRate", "Gamma",
             "TriggerSelector", "TriggerSource", "TriggerActivation")  # fmt: skip
    camera = FakeCamera(dict.fromkeys(names, "0"))
    settings = {"pixel_format": "Mono8", "width": 64, "height": 48, "offset_x": 8, "exposure_us": 100.0, "gain": 3.4}
    connected(camera, **settings, frame_rate=25, trigger="line", trigger_edge="FallingEdge", features={"Gamma": 0.5})
    assert camera.calls == [
        "open", "PixelFormat=Mono8", "OffsetX=0", "OffsetY=0", "Width=64", "Height=48", "OffsetX=8", "Gamma=0.5",
        "ExposureTimeAbs=100.0", "GainRaw=3", "AcquisitionFrameRate=25.0", "TriggerSelector=FrameStart",
        "TriggerMode=On", "TriggerSource=Line1", "TriggerActivation=FallingEdge", "start",
    ]  # fmt: skip


def test_binning_gamma_and_delay_are_written_where_they_belong() -> None:
    names = ("BinningHorizontal", "BinningVertical", "Width", "OffsetX", "OffsetY", "Gamma", "GammaEnable",
             "TriggerSelector", "TriggerSource", "TriggerDelayAbs")  # fmt: skip
    camera = FakeCamera(dict.fromkeys(names, "0"))
    connected(camera, binning=2, width=64, gamma=0.5, trigger="software", trigger_delay_us=30)
    assert camera.calls == [
        "open", "OffsetX=0", "OffsetY=0", "BinningHorizontal=2", "BinningVertical=2", "Width=64", "GammaEnable=true",
        "Gamma=0.5", "TriggerSelector=FrameStart", "TriggerMode=On", "TriggerSource=Software", "TriggerDelayAbs=30.0",
        "start",
    ]  # fmt: skip


class Balancing(FakeCamera):
    """With a `BalanceRatio` for each colour; red's cannot be changed where it is `stuck`."""

    def __init__(self, *, stuck: bool = False) -> None:
        super().__init__({"BalanceRatioSelector": "Red", "BalanceRatio": "", "BalanceWhiteAuto": "Continuous"})
        self.ratios = dict.fromkeys(("Red", "Green", "Blue"), "1.0")
        self.stuck = stuck

    def write_feature(self, name: str, value: str) -> None:
        super().write_feature(name, value)
        colour = self.features["BalanceRatioSelector"]
        if name == "BalanceRatio" and not (self.stuck and colour == "Red"):
            self.ratios[colour] = value

    def read_feature(self, name: str) -> str:
        return self.ratios[self.features["BalanceRatioSelector"]] if name == "BalanceRatio" else self.features[name]


def test_white_balance_is_written_colour_by_colour() -> None:
    camera = Balancing()
    connected(camera, white_balance={"red": 1.5, "blue": 2})
    assert camera.ratios == {"Red": "1.5", "Green": "1.0", "Blue": "2.0"}
    assert camera.features["BalanceWhiteAuto"] == "Off"


def test_each_colours_balance_is_read_back() -> None:
    with pytest.raises(NotConnectedError, match=r"BalanceRatio: asked for 1\.5, the camera has 1\.0"):
        connected(Balancing(stuck=True), white_balance={"red": 1.5, "blue": 2})


@pytest.mark.parametrize(
    ("settings", "camera", "problem"),
    [
        ({"features": {"Lines": 640}}, FakeCamera({"Lines": "512"}, ("Lines",)), "Lines: asked for 640, .* has 512"),
        ({"features": {"Gamma": 1}}, FakeCamera(), "Gamma: the camera has no such feature"),
        ({"exposure_us": 100}, FakeCamera(), "ExposureTime: the camera has no such feature"),
        ({"exposure_us": 100}, FakeCamera({"ExposureTime": "102"}, ("ExposureTime",)), "asked for 100.0, .* has 102"),
        ({"features": {"Lamp": True}}, FakeCamera({"Lamp": "0"}, ("Lamp",)), "Lamp: asked for true, the camera has 0"),
        ({"features": {"LineSelector": "Line9"}}, FakeCamera({"LineSelector": "Line1"}, ("LineSelector",)),
         "LineSelector: asked for Line9, the camera has Line1"),
        ({"features": {"Lamp": "refused"}}, FakeCamera({"Lamp": "0"}), "Lamp: not writable"),
        ({}, FakeCamera({"PixelFormat": "YUV422"}), "PixelFormat: must be one of Mono8, .*, the camera has YUV422"),
    ],
)  # fmt: skip
def test_camera_is_not_used_when_it_has_not_what_was_asked_for(
    settings: dict[str, Any], camera: FakeCamera, problem: str
) -> None:
    source = make(camera, **settings)
    with pytest.raises(NotConnectedError, match=f"^camera top: .*{problem}$"):
        source.connect()
    assert not camera.is_open


def test_value_that_the_camera_rounded_is_taken_and_told() -> None:
    (told,) = apply_features(FakeCamera({"ExposureTime": "100.4"}, ("ExposureTime",)), [("ExposureTime", 100.0)])
    assert told == ReadBack("ExposureTime", "100.0", "100.4", differs=False)


def test_all_settings_that_a_camera_did_not_take_are_named_at_once_and_reported() -> None:
    camera = FakeCamera({"Lines": "512", "Gamma": "1", "Lamp": "0"}, ("Lines", "Lamp"))
    source = make(camera, features={"Lines": 640, "Gamma": 2, "Lamp": 3})
    words = ("Lines: asked for 640, the camera has 512", "Lamp: asked for 3, the camera has 0")
    with pytest.raises(NotConnectedError, match=f"^camera top: {'; '.join(words)}$"):
        source.connect()
    report = source.report()
    assert (report.is_connected, report.differences) == (False, words)
    assert ReadBack("Gamma", "2", "2", differs=False) in report.settings


def test_what_features_selected_last_stays_selected() -> None:
    camera = FakeCamera({"LineSelector": "", "Delay": "0"})
    choices: list[tuple[str, FeatureValue]] = [("LineSelector", "Line1"), ("Delay", 1), ("LineSelector", "Line2")]
    told = apply_features(camera, choices)
    assert [each.name for each in told] == ["LineSelector", "Delay", "LineSelector"]
    assert camera.features["LineSelector"] == "Line2"


def test_clock_that_leaps_forward_when_ptp_locks_makes_no_frame_old() -> None:
    camera = FakeCamera({"PtpEnable": "false", "PtpStatus": "Uncalibrated"})
    source = connected(camera, ptp=True)
    camera.images.append(make_image(1, device_ns=10**9))
    assert source.read(0.01) is not None
    camera.features["PtpStatus"] = "Slave"
    source._watch._due = 0.0
    camera.images.append(make_image(2, device_ns=10**18))  # a time that is not this machine's
    frame = source.read(0.01)
    assert frame is not None
    assert frame.received_utc_ns - frame.captured_utc_ns == 0
    assert (source.report().ptp, source.report().is_dated_by_ptp) == (Ptp("Slave", None), False)
    source.close()
    assert source.report().ptp is None


@pytest.mark.parametrize("state", ["Slave", "Uncalibrated"])
def test_image_held_in_the_driver_is_old_too_when_the_lock_of_its_clock_changes(
    state: str,
) -> None:
    other = {"Slave": "Uncalibrated", "Uncalibrated": "Slave"}[state]
    camera = FakeCamera({"PtpEnable": "false", "PtpStatus": other})
    source = connected(camera, ptp=True)
    ages = []
    for held_ns in (0, 3 * 10**9):
        camera.images.append(make_image(1, device_ns=time.time_ns() - held_ns))
        frame = source.read(0.01)
        assert frame is not None
        ages.append(frame.received_utc_ns - frame.captured_utc_ns)
        camera.features["PtpStatus"] = state
        source._watch._due = 0.0
    assert ages[1] >= 2.9 * 10**9 > 10**9 > ages[0]


def test_settings_are_written_again_when_the_camera_comes_back() -> None:
    camera = FakeCamera({"Gamma": "1"})
    source = connected(camera, features={"Gamma": 2})
    source.close()
    camera.features["Gamma"] = "1"  # it lost power
    source.connect()
    assert camera.features["Gamma"] == "2"


def test_feature_with_a_field_of_its_own_is_refused_among_the_others() -> None:
    with pytest.raises(ValidationError, match="features: TriggerMode is set by a field of its own"):
        PylonSettings(type="pylon", features={"TriggerMode": "On"})


# ---------------------------------------------------------------- images


def test_gaps_and_damage_are_counted_and_never_judged_when_the_camera_runs_by_itself() -> None:
    camera = FakeCamera()
    source = connected(camera)
    camera.images.extend([make_image(65_535), make_image(1), make_image(2, error="lost packets"), make_image(5)])
    frames = [frame for frame in (source.read(0.01) for _ in range(4)) if frame is not None]
    assert [int(frame.pixels[0, 0]) for frame in frames if frame.pixels is not None] == [255, 1, 5]
    assert source.losses == {"gap": 2, "damaged": 1}


def test_image_of_too_few_bytes_is_damaged() -> None:
    camera = FakeCamera()
    source = connected(camera)
    camera.images.append(build_grabbed(1, 0, bytes(15), 0x01080001, (4, 4)))
    assert source.read(0.01) is None
    assert source.losses["damaged"] == 1


@pytest.mark.parametrize(
    ("number", "size", "expected"),
    [(0x010C0047, 24, PixelFormat.MONO16), (0x02180014, 48, PixelFormat.RGB8), (0x02180015, 48, PixelFormat.BGR8)],
)
def test_frame_has_the_format_of_its_image(number: int, size: int, expected: PixelFormat) -> None:
    camera = FakeCamera()
    source = connected(camera)
    camera.images.append(build_grabbed(1, 0, bytes(size), number, (4, 4)))
    frame = source.read(0.01)
    assert frame is not None
    assert frame.pixel_format is expected


def test_camera_without_triggers_runs_by_itself_and_is_refused_for_others() -> None:
    camera = FakeCamera()
    del camera.features["TriggerMode"]
    connected(camera)
    with pytest.raises(NotConnectedError, match="TriggerMode: the camera has no such feature"):
        connected(camera, trigger="line")


def test_frame_that_was_held_back_says_when_it_was_captured() -> None:
    camera = FakeCamera()
    source = connected(camera)
    now_ns = time.monotonic_ns()
    camera.images.extend([make_image(1, device_ns=now_ns - 77), make_image(2, device_ns=now_ns - 3_000_000_000)])
    first, second = source.read(0.01), source.read(0.01)
    assert first is not None
    assert second is not None
    assert first.captured_utc_ns == first.received_utc_ns
    assert 2.9e9 < second.received_utc_ns - second.captured_utc_ns < 4e9


# ---------------------------------------------------------------- triggers


def test_damaged_image_of_a_trigger_is_answered() -> None:
    camera = FakeCamera({"TriggerSource": "", "TriggerActivation": ""})
    source = connected(camera, trigger="line")
    camera.images.extend([make_image(1), make_image(2, error="lost packets")])
    first, second = source.read(0.01), source.read(0.01)
    assert first is not None
    assert second is not None
    assert (second.error, second.error_reason, second.pixels) == ("lost packets", Reason.BAD_FRAME, None)
    assert source.losses == {"damaged": 1, "gap": 0}


def test_silence_of_a_camera_that_is_triggered_by_a_line_is_no_loss() -> None:
    source = connected(FakeCamera({"TriggerSource": "", "TriggerActivation": ""}), trigger="line", read_timeout_s=0.01)
    time.sleep(0.05)
    assert source.read(0.01) is None


def test_silence_of_a_camera_that_runs_by_itself_is_a_loss() -> None:
    source = connected(FakeCamera(), read_timeout_s=0.01)
    time.sleep(0.05)
    with pytest.raises(NotConnectedError, match=r"no frame for 0\.01 s"):
        source.read(0.01)


def test_software_trigger_waits_for_the_frame_of_the_one_before() -> None:
    camera = FakeCamera({"TriggerSource": ""})
    source = connected(camera, trigger="software", trigger_period_s=0.001, read_timeout_s=60)
    for _ in range(3):
        assert source.read(0.01) is None
    assert camera.calls.count("fire") == 1
    camera.images.append(make_image(1))
    frame = source.read(0.01)
    assert frame is not None
    assert frame.trigger_id is None
    time.sleep(0.01)
    source.read(0.01)
    assert camera.calls.count("fire") == 2


def test_trigger_without_an_image_is_answered_and_what_comes_late_is_taken_for_no_other() -> None:
    camera = FakeCamera({"TriggerSource": ""})
    source = connected(camera, trigger="software", trigger_period_s=0.001, read_timeout_s=0.05)
    frame, deadline = None, time.monotonic() + 30
    while frame is None and time.monotonic() < deadline:
        frame = source.read(0.01)
    assert frame is not None
    assert frame.error == "no frame within 0.05 s of its trigger"
    assert source.losses["trigger"] == 1
    camera.images.append(make_image(1))
    with pytest.raises(NotConnectedError, match="a software trigger was not answered"):
        source.read(0.01)


# ---------------------------------------------------------------- the contract


class FakeCameraRig:
    """A camera in memory."""

    never_lost = ""
    one_size = "a camera's size changes only when it is opened"

    def __init__(self) -> None:
        self._camera = FakeCamera()
        self._count = 0

    def build(self, *, silent: bool = False) -> GenicamSource:
        return make(self._camera, read_timeout_s=0.3 if silent else 30)

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        self._count += 1
        self._camera.images.append(make_image(self._count))

    def cut(self) -> None:
        self._camera.is_there = False
        self._camera.images.append(NotConnectedError("unplugged"))

    def restore(self) -> None:
        self._camera.is_there = True


class TestFakeCamera(SourceContract):
    """The source of all GenICam cameras."""

    @pytest.fixture
    def rig(self) -> FakeCameraRig:
        return FakeCameraRig()


def test_automatic_exposure_and_gain_are_switched_off_where_a_value_is_set() -> None:
    camera = FakeCamera({"ExposureAuto": "Continuous", "ExposureTime": "9", "GainAuto": "Continuous", "Gain": "1"})
    connected(camera, exposure_us=500.0).close()
    assert [call for call in camera.calls if "Exposure" in call] == ["ExposureAuto=Off", "ExposureTime=500.0"]
    assert camera.features["GainAuto"] == "Continuous"
    connected(camera, gain=2.0).close()
    assert camera.features["GainAuto"] == "Off"


@pytest.mark.parametrize("text", ["0", "unknown"])
def test_clock_without_a_frequency_is_told_and_no_other_fault(text: str) -> None:
    with pytest.raises(NotConnectedError, match="GevTimestampTickFrequency: must be a number above 0, the camera has"):
        read_ticks("GevTimestampTickFrequency", text)
    assert [read_ticks("", each) for each in ("0x7735940", "1000000000.0", "7")] == [125_000_000, 1_000_000_000, 7]


def test_user_set_is_loaded_before_all_else_is_written() -> None:
    camera = FakeCamera(dict.fromkeys(("UserSetSelector", "UserSetLoad", "ExposureTime"), ""))
    source = connected(camera, user_set="UserSet2", exposure_us=500.0)
    assert camera.calls[1:4] == ["UserSetSelector=UserSet2", "UserSetLoad()", "ExposureTime=500.0"]
    assert source.report().differences == ()
    source.close()


def test_feature_is_written_for_each_line_of_a_list() -> None:
    camera = Lines(dict.fromkeys(("LineSelector", "LineMode"), ""))
    modes = [{"LineSelector": "Line1", "LineMode": "Input"}, {"LineSelector": "Line2", "LineMode": "Output"}]
    source = connected(camera, features=modes)
    assert camera.modes == {"Line1": "Input", "Line2": "Output"}
    assert source.report().differences == ()
    source.close()


class Lines(FakeCamera):
    """With a mode for each line."""

    def __init__(self, features: dict[str, str]) -> None:
        super().__init__(features)
        self.modes: dict[str, str] = {}

    def write_feature(self, name: str, value: str) -> None:
        super().write_feature(name, value)
        if name == "LineMode":
            self.modes[self.features["LineSelector"]] = value

    def read_feature(self, name: str) -> str:
        return self.modes[self.features["LineSelector"]] if name == "LineMode" else super().read_feature(name)


def test_off_is_written_as_an_entry_where_the_feature_is_an_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera({"ExposureAuto": "Continuous"})
    write = camera.write_feature

    def refuse_numbers(name: str, value: str) -> None:
        if value == "false":
            raise NotConnectedError(f"{name}: no such entry, false")
        write(name, value)

    monkeypatch.setattr(camera, "write_feature", refuse_numbers)
    source = connected(camera, features={"ExposureAuto": False})
    assert camera.features["ExposureAuto"] == "Off"
    assert source.report().differences == ()
    source.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trigger_line": "Line3"}, "trigger_line: counts only with trigger: line, got 'Line3' with free"),
        ({"trigger": "software", "trigger_edge": "FallingEdge"}, "trigger_edge: counts only with trigger: line, got"),
        ({"trigger": "line", "trigger_period_s": 2}, "trigger_period_s: counts only with trigger: software, got 2.0"),
    ],
)
def test_field_of_another_trigger_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PylonSettings(type="pylon", **settings)


@pytest.mark.parametrize("trigger", ["line", "request"])
def test_camera_that_waits_for_triggers_is_lost_when_it_gives_no_sign_of_life(
    trigger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.sources.cameras.watch._PERIOD_S", 0.0)
    features = dict.fromkeys(("TriggerSelector", "TriggerSource", "TriggerActivation", "GevTimestampControlLatch"), "")
    camera = FakeCamera(features)
    source = connected(camera, trigger=trigger)
    assert source.read(0.01) is None
    monkeypatch.setattr(camera, "execute", unplug)
    assert source.read(0.01) is None  # one that refuses, and answers else, is there
    monkeypatch.setattr(camera, "execute", lambda name: None)
    source.close()
    source.connect()
    for way in ("execute", "read_feature"):
        monkeypatch.setattr(camera, way, unplug)
    with pytest.raises(NotConnectedError, match="PixelFormat: no answer"):
        source.read(0.01)
    source.close()


def unplug(name: str) -> None:
    raise NotConnectedError(f"{name}: no answer")


@pytest.mark.parametrize("text", ["3", "3.0", "0x3", "03"])
def test_number_is_the_same_however_the_camera_shows_it(text: str) -> None:
    source = connected(
        FakeCamera({"UserOutputValueAll": text}, fixed=("UserOutputValueAll",)), features={"UserOutputValueAll": 3}
    )
    assert source.report().differences == ()
    source.close()


# ---------------------------------------------------------------- fired on request


class Answering(FakeCamera):
    """Takes an image each time it is fired; but not those of `missed` triggers, counted from 0."""

    def __init__(self, missed: tuple[int, ...] = ()) -> None:
        super().__init__(dict.fromkeys(("TriggerSelector", "TriggerSource"), ""))
        self.fired = 0
        self.missed = missed

    def fire(self) -> None:
        super().fire()
        if self.fired not in self.missed:
            self.images.append(make_image(self.fired))
        self.fired += 1


def in_time(within_s: float = WAIT_S) -> int:
    """Until when a trigger may be fired."""
    return time.monotonic_ns() + int(within_s * 1e9)


def read_all(source: GenicamSource, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        if (frame := source.read(0.05)) is not None:
            frames.append(frame)
    return frames


def test_camera_is_fired_once_for_each_request_and_frames_have_their_ids() -> None:
    camera = Answering()
    source = connected(camera, trigger="request")
    assert "TriggerSource=Software" in camera.calls
    assert source.read(0.01) is None
    assert camera.fired == 0
    for number in range(20):
        source.fire(f"t{number}", in_time())
    assert [frame.trigger_id for frame in read_all(source, 20)] == [f"t{number}" for number in range(20)]
    assert source.read(0.01) is None
    assert camera.fired == 20


def test_image_that_was_there_before_the_trigger_is_of_none() -> None:
    camera = Answering()
    source = connected(camera, trigger="request")
    camera.images.append(make_image(7))
    source.fire("t1", in_time())
    stray, ours = read_all(source, 2)
    assert (stray.trigger_id, ours.trigger_id) == (None, "t1")
    assert camera.fired == 1


def test_trigger_that_is_not_answered_is_an_error_with_its_id_and_what_waited_is_dropped() -> None:
    camera = Answering(missed=(0,))
    source = connected(camera, trigger="request", read_timeout_s=0.05)
    source.fire("t1", in_time())
    source.fire("t2", in_time())
    (frame,) = read_all(source, 1)
    assert (frame.trigger_id, frame.pixels, frame.error) == ("t1", None, "no frame within 0.05 s of its trigger")
    with pytest.raises(NotConnectedError, match="a software trigger was not answered"):
        source.read(0.01)
    source.connect()
    assert source.read(0.01) is None  # t2 is answered NO_FRAME: it was asked for before the camera was lost
    source.fire("t3", in_time())
    assert [frame.trigger_id for frame in read_all(source, 1)] == ["t3"]


def test_trigger_whose_time_is_over_is_never_fired_and_the_next_is() -> None:
    camera = Answering(missed=(0,))
    source = connected(camera, trigger="request")
    source.fire("t1", in_time())
    assert source.read(0.01) is None
    source.fire("t2", in_time(0.01))
    source.fire("t3", in_time())
    time.sleep(0.02)
    camera.images.append(make_image(0))  # of t1, which took long
    assert [frame.trigger_id for frame in read_all(source, 2)] == ["t1", "t3"]
    assert source.read(0.01) is None
    assert camera.fired == 2


def test_triggers_that_wait_are_bounded_and_those_more_are_not_fired() -> None:
    camera = Answering()
    source = connected(camera, trigger="request")
    for number in range(150):
        source.fire(f"t{number}", in_time())
    assert [frame.trigger_id for frame in read_all(source, 100)] == [f"t{number}" for number in range(100)]
    assert source.read(0.01) is None
    assert camera.fired == 100


@pytest.mark.parametrize("trigger", ["free", "software", "line"])
def test_camera_that_is_not_fired_on_request_ignores_one(trigger: str) -> None:
    camera = FakeCamera(dict.fromkeys(("TriggerSelector", "TriggerSource", "TriggerActivation"), ""))
    source = connected(camera, trigger=trigger)
    camera.images.append(make_image(1))
    source.fire("t1", in_time())
    assert [frame.trigger_id for frame in read_all(source, 1)] == [None]


def test_camera_fired_on_request_goes_with_software_triggers_alone() -> None:
    source = {"type": "pylon", "trigger": "request"}
    assert Camera.model_validate({"source": source, "triggers": "software"}).source.can_be_fired
    for triggers in (None, "hardware"):
        with pytest.raises(ValidationError, match=r"must be software where source\.trigger is request, got"):
            Camera.model_validate({"source": source, "triggers": triggers})
    with pytest.raises(ValidationError, match=r"software needs a source of type zmq or imagezmq, .* got pylon"):
        Camera.model_validate({"source": {"type": "pylon"}, "triggers": "software"})


# ---------------------------------------------------------------- chunks


class Chunking(FakeCamera):
    """Knows some chunks only."""

    def __init__(self, *chunks: str, **features: str) -> None:
        super().__init__({"ChunkModeActive": "false", "ChunkSelector": "", "ChunkEnable": "false", **features})
        self.chunks = chunks

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        self.asked = chunks
        return super().grab(timeout_s)

    def write_feature(self, name: str, value: str) -> None:
        if name == "ChunkSelector" and value not in self.chunks:
            raise NotConnectedError(f"{name}: {value!r} is no entry")
        super().write_feature(name, value)


LINE = {"TriggerSelector": "", "TriggerSource": "", "TriggerActivation": ""}


def test_chunks_are_switched_on_before_what_may_need_them() -> None:
    camera = Chunking("FrameID", "EncoderValue", ChunkEncoderSelector="")
    connected(camera, chunks=("FrameID", "EncoderValue"), features={"ChunkEncoderSelector": "Encoder0"})
    assert camera.calls[1:7] == [
        "ChunkModeActive=true", "ChunkSelector=FrameID", "ChunkEnable=true", "ChunkSelector=EncoderValue",
        "ChunkEnable=true", "ChunkEncoderSelector=Encoder0",
    ]  # fmt: skip


def test_chunks_of_an_older_camera_are_read_by_the_names_it_has() -> None:
    camera = Chunking("Framecounter", "Triggerinputcounter", "Timestamp", **LINE)
    source = connected(camera, chunks=("Timestamp", "FrameID", "CounterValue"), trigger="line")
    source.read(0.0)
    assert camera.asked == ("ChunkTimestamp", "ChunkFramecounter", "ChunkTriggerinputcounter")


def test_camera_that_has_not_a_chunk_is_not_used_and_says_which() -> None:
    with pytest.raises(NotConnectedError, match=r"^camera top: chunks: the camera has no EncoderValue: "):
        connected(Chunking("FrameID"), chunks=("FrameID", "EncoderValue"))
    with pytest.raises(NotConnectedError, match=r"^camera top: chunks: the camera has no FrameID: "):
        connected(Chunking("Timestamp"), chunks=("Timestamp", "FrameID"))
    with pytest.raises(NotConnectedError, match=r"^camera top: ChunkModeActive: the camera has no such feature$"):
        connected(FakeCamera(), chunks=("FrameID",))


def test_encoder_value_is_the_frame_s_and_none_of_a_camera_that_is_not_asked() -> None:
    camera = Chunking("EncoderValue")
    camera.images.extend([make_image(1, chunks=(-7,)), make_image(2, chunks=(985_220,))])
    source = connected(camera, chunks=("EncoderValue",))
    assert [source.read(0.0).encoder_value for _ in range(2)] == [-7, 985_220]  # type: ignore[union-attr]
    plain = FakeCamera()
    plain.images.append(make_image(1))
    assert connected(plain).read(0.0).encoder_value is None  # type: ignore[union-attr]


def test_image_that_the_camera_took_and_never_sent_is_a_gap_and_one_lost_on_the_way_is_counted_once() -> None:
    camera = Chunking("FrameID")
    camera.images.extend([make_image(1, chunks=(11,)), make_image(2, chunks=(14,))])  # 12 and 13 never left it
    camera.images.extend([make_image(4, chunks=(16,)), make_image(5, error="torn")])  # 15 was lost, 17 is damaged
    camera.images.extend([make_image(6, chunks=(18,)), make_image(7, chunks=(1,)), make_image(8, chunks=(2,))])
    source = connected(camera, chunks=("FrameID",))
    gaps = []
    for _ in range(7):
        source.read(0.0)
        gaps.append(source.losses["gap"])
    assert gaps == [0, 2, 3, 3, 3, 3, 3]


def test_triggers_without_an_image_are_missed_by_the_camera_s_count() -> None:
    camera = Chunking("CounterValue", **LINE)
    camera.images.extend([make_image(1, chunks=(70,)), make_image(2, chunks=(71,)), make_image(3, chunks=(74,))])
    camera.images.extend([make_image(5, chunks=(76,))])  # 75's image was lost on the way
    source = connected(camera, chunks=("CounterValue",), trigger="line")
    assert source.report().triggers_missed == 0
    frames = [source.read(0.0) for _ in range(4)]
    assert [frame.trigger_id for frame in frames if frame] == [None] * 4  # by its order, where one is announced
    assert source.report().triggers_missed == 2
    assert source.losses["gap"] == 1


def test_image_whose_count_stayed_is_of_no_known_trigger_and_never_judged() -> None:
    camera = Chunking("CounterValue", **LINE)
    camera.images.extend([make_image(1, chunks=(70,)), make_image(2, chunks=(70,)), make_image(3, chunks=(72,))])
    source = connected(camera, chunks=("CounterValue",), trigger="line")
    first, second, third = (source.read(0.0) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.error == "ChunkCounterValue: must rise from image to image, got 70 again"
    assert second.pixels is None
    assert (first.error, third.error) == (None, None)
    assert (source.losses["damaged"], source.report().triggers_missed) == (1, 0)


def test_damaged_image_does_not_disturb_the_clock_of_the_chunks() -> None:
    camera = Chunking("Timestamp", **LINE)
    now_ns = time.monotonic_ns()
    camera.images.extend([make_image(1, device_ns=10**18, error="torn"), make_image(2, chunks=(now_ns,))])
    source = connected(camera, chunks=("Timestamp",), trigger="line")
    torn, whole = source.read(0.0), source.read(0.0)
    assert torn is not None
    assert whole is not None
    assert torn.captured_utc_ns == 0
    assert whole.captured_utc_ns == whole.received_utc_ns


@pytest.mark.parametrize(("ticks", "ns"), [({}, 1), ({"GevTimestampTickFrequency": "125000000"}, 8)])
def test_time_of_capture_is_the_chunk_s_in_the_camera_s_ticks(ticks: dict[str, str], ns: int) -> None:
    camera = Chunking("Timestamp", **ticks)
    camera.images.extend(make_image(n, device_ns=n, chunks=((10**10 + n * 10**9) // ns,)) for n in (1, 2))
    source = connected(camera, chunks=("Timestamp",))
    first, second = (source.read(0.0) for _ in range(2))
    assert first is not None
    assert second is not None
    # The quickest image is the second: the first, by its clock a second before it, is dated so in the end.
    assert second.received_utc_ns - second.captured_utc_ns == pytest.approx(0, abs=1e6)
    assert source._clock.compute_age_ns(10**10 + 10**9, second.received_monotonic_ns) == pytest.approx(10**9, abs=1e6)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"chunks": ("Timestamp", "Timestamp")}, "chunks: each may be named once"),
        ({"chunks": ("CounterValue",)}, "chunks: CounterValue counts triggers of a line"),
        ({"chunks": ("CounterValue",), "trigger": "line", "missed_trigger_counter": "X"}, "must be null"),
        ({"chunks": ("Gain",)}, "Input should be 'FrameID', 'Timestamp'"),
        ({"chunks": ("FrameID",), "features": {"ChunkSelector": "Gain"}}, "ChunkSelector is set by a field of its own"),
    ],
)
def test_chunks_that_tell_nothing_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        PylonSettings(type="pylon", **settings)


def test_image_that_lacks_a_chunk_is_damaged_and_one_that_has_all_keeps_its_pixels() -> None:
    def read(name: str) -> int:
        if name == "ChunkEncoderValue":
            raise NotConnectedError(f"{name}: not readable")
        return 7

    whole = make_image(3)
    assert add_chunks(whole, ("ChunkFrameID",), read).chunks == (7,)
    lacking = add_chunks(whole, ("ChunkFrameID", "ChunkEncoderValue"), read)
    assert (lacking.block_id, lacking.pixels) == (3, None)
    assert lacking.error == "image damaged: ChunkEncoderValue: not readable"
    assert add_chunks(make_image(3, error="torn"), ("ChunkFrameID",), read).error == "torn"
    assert add_chunks(whole, (), read) is whole
