"""Strips of any source become frames; senders are answered, and nothing that waits is forgotten when a source ends."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from pydantic import ValidationError

from inspector.config import Camera, Sockets
from inspector.errors import NotConnectedError, SourceExhaustedError
from inspector.sources.base import build_frame
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.registry import assemble_lines, build_receiver, build_sources
from inspector.sources.settings import LineScan
from inspector.sources.strips.source import LineScanSource
from inspector.testing.fake_camera import FakeCamera, make_image
from inspector.types import Frame, PixelFormat, Reason, Web
from tests.sources.contract import HW, WAIT_S, SourceContract
from tests.sources.test_contract import FolderRig, ZmqRig

LINES = LineScan(frame_lines=8, overlap_lines=2)
Event = Frame | BaseException | None


class ScriptedStrips:
    """Delivers what it was told to; `asks`: each strip's sender waits to be told."""

    name, cameras, can_wait, connect_s, is_caught_up = "top", ("top", "side"), False, 1.0, True

    def __init__(self, *events: Event, asks: bool = False) -> None:
        self.events = list(events)
        self.losses = {"gap": 0}
        self.asks = asks
        self.answers: list[str | None] = []
        self.unread: list[Frame] = []
        self.calls: list[str] = []

    def connect(self) -> None:
        self.calls.append("connect")

    def read(self, timeout_s: float) -> Frame | None:
        event = self.events.pop(0) if self.events else None
        if isinstance(event, BaseException):
            raise event
        return event

    def drain(self, within_s: float) -> Iterator[Frame]:
        return iter(self.unread)

    def awaits_answer(self) -> bool:
        return self.asks

    def answer(self, problem: str | None) -> None:
        self.answers.append(problem)

    def defer_answer(self) -> Callable[[str | None], None]:
        return self.answer

    def interrupt(self) -> None:
        self.calls.append("interrupt")

    def close(self) -> None:
        self.calls.append("close")

    def is_busy(self) -> bool:
        return True


def make_strip(number: int, count: int, camera: str = "top", **details: Any) -> Frame:
    pixels = np.random.default_rng(number).integers(0, 255, (count, 4), np.uint8)
    return build_frame(camera, str(number), pixels, PixelFormat.MONO8, **details)


def read_all(source: LineScanSource, count: int) -> list[Frame]:
    return [frame for _ in range(count) if (frame := source.read(0.01)) is not None]


def get_lines(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    return [frame.web.y for frame in frames if frame.web is not None]


def test_frames_of_other_cameras_are_handed_on_as_they_are() -> None:
    side = make_strip(9, 3, "side")
    camera = ScriptedStrips(make_strip(1, 5), side, make_strip(2, 5))
    frames = read_all(LineScanSource(camera, {"top": LINES}), 3)
    assert frames[0] is side
    assert get_lines(frames[1:]) == [(0, 8)]


def test_every_strip_has_one_answer_that_of_the_last_frame_it_fills() -> None:
    camera = ScriptedStrips(make_strip(1, 5), make_strip(2, 20), make_strip(3, 1), asks=True)
    source = LineScanSource(camera, {"top": LINES})
    assert source.read(0.01) is None
    assert camera.answers == [None]
    asked = []
    for _ in range(3):
        assert source.read(0.01) is not None
        asked.append(source.awaits_answer())
    assert asked == [False, False, True]
    assert camera.answers == [None]
    source.defer_answer()("late")
    assert camera.answers == [None, "late"]


def test_strips_that_the_source_counts_as_lost_are_a_gap() -> None:
    camera = ScriptedStrips(make_strip(1, 5), make_strip(2, 5), make_strip(3, 8))
    source = LineScanSource(camera, {"top": LINES})
    assert get_lines(read_all(source, 2)) == [(0, 8)]
    camera.losses["gap"] += 2
    error, frame = read_all(source, 2)
    assert (error.error_reason, error.web) == (Reason.LINES_MISSING, Web(1, (8, 10), (8, 10)))
    assert "2 strip(s) before 3 were lost" in str(error.error)
    assert frame.web == Web(2, (10, 18), (10, 18))


def test_lines_that_wait_are_an_error_when_the_source_is_lost_and_then_it_is_told() -> None:
    camera = ScriptedStrips(make_strip(1, 5), NotConnectedError("cable out"), make_strip(2, 8))
    source = LineScanSource(camera, {"top": LINES})
    (error,) = read_all(source, 2)
    assert (error.error_reason, get_lines([error])) == (Reason.LINES_MISSING, [(0, 5)])
    assert "cable out" in str(error.error)
    with pytest.raises(NotConnectedError, match="cable out"):
        source.read(0.01)
    assert get_lines(read_all(source, 1)) == [(5, 13)]


def test_source_that_is_lost_before_a_line_came_owes_nothing() -> None:
    source = LineScanSource(ScriptedStrips(NotConnectedError("cable out")), {"top": LINES})
    with pytest.raises(NotConnectedError):
        source.read(0.01)


def test_last_lines_of_a_source_that_ends_are_judged_and_then_it_ends() -> None:
    camera = ScriptedStrips(make_strip(1, 11), SourceExhaustedError("no more"))
    source = LineScanSource(camera, {"top": LINES})
    assert get_lines(read_all(source, 2)) == [(0, 8), (3, 11)]
    with pytest.raises(SourceExhaustedError):
        source.read(0.01)


def test_lines_that_wait_are_judged_once_none_came_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    camera = ScriptedStrips(make_strip(1, 11))
    source = LineScanSource(camera, {"top": LINES})
    assert get_lines(read_all(source, 1)) == [(0, 8)]
    now[0] += 4.9
    assert read_all(source, 1) == []
    now[0] += 0.2
    assert get_lines(read_all(source, 1)) == [(3, 11)]
    now[0] += 50  # it goes on, and then nobody reads for long
    camera.events += [make_strip(2, 4), make_strip(3, 1)]
    assert get_lines(read_all(source, 1)) == []
    now[0] += 50
    assert get_lines(read_all(source, 1)) == []
    now[0] += 5.1
    assert get_lines(read_all(source, 1)) == [(8, 16)]


def test_rest_is_what_waits_and_what_was_not_read_yet() -> None:
    source = LineScanSource(ScriptedStrips(make_strip(1, 17), make_strip(2, 3, "side")), {"top": LINES, "side": LINES})
    assert get_lines(read_all(source, 1)) == [(0, 8)]
    rest = list(source.drain(1.0))
    assert get_lines(rest) == [(6, 14), (9, 17)]
    assert read_all(source, 1) == []
    (short,) = source.drain(1.0)
    assert (short.camera, short.error_reason) == ("side", Reason.SHUTDOWN)
    assert list(source.drain(1.0)) == []


def test_strips_on_their_way_at_the_end_are_in_its_frames() -> None:
    camera = ScriptedStrips(make_strip(1, 5))
    camera.unread = [make_strip(2, 5), make_strip(3, 1)]
    source = LineScanSource(camera, {"top": LINES})
    assert read_all(source, 1) == []
    assert get_lines(list(source.drain(1.0))) == [(0, 8), (3, 11)]


class AskingStrips(ScriptedStrips):
    """Knows the sender of the strip it gave last only, as a socket does; `told`: strips whose senders were told."""

    asker: str | None = None

    def drain(self, within_s: float) -> Iterator[Frame]:
        self.told: list[str] = []
        for strip in self.unread:
            self.asker = strip.frame_id
            yield strip

    def awaits_answer(self) -> bool:
        return self.asker is not None

    def answer(self, problem: str | None) -> None:
        self.defer_answer()(problem)

    def defer_answer(self) -> Callable[[str | None], None]:
        asker, self.asker = self.asker, None
        assert asker is not None
        return lambda problem: self.told.append(asker)


def test_every_strip_that_is_on_its_way_at_the_end_has_an_answer_of_its_own() -> None:
    camera = AskingStrips()
    camera.unread = [make_strip(number, 5) for number in (1, 2, 3, 4)]
    source = LineScanSource(camera, {"top": LINES})
    told = []
    for frame in source.drain(1.0):
        if source.awaits_answer():
            source.defer_answer()(None)
        told.append((get_lines([frame])[0], list(camera.told)))
    assert told == [((0, 8), ["1", "2"]), ((6, 14), ["1", "2", "3"]), ((12, 20), ["1", "2", "3", "4"])]


def test_all_else_is_the_source_s() -> None:
    camera = ScriptedStrips()
    source = LineScanSource(camera, {"top": LINES})
    source.connect()
    source.interrupt()
    source.close()
    assert camera.calls == ["connect", "interrupt", "close"]
    assert source.is_busy()
    assert (source.name, source.cameras, source.losses) == ("top", ("top", "side"), {"gap": 0})


@pytest.mark.parametrize("block_ids", [(7, 7), (7, 3), (None, None), (0, 0)])
def test_nothing_is_put_together_of_images_whose_numbers_do_not_tell_lost_ones(block_ids: tuple[int | None]) -> None:
    camera = FakeCamera()
    lines = LineScan(frame_lines=96, overlap_lines=0)  # two images
    source = LineScanSource(GenicamSource("top", PylonSettings(type="pylon"), camera), {"top": lines})
    source.connect()
    camera.images.extend(dataclasses.replace(make_image(1), block_id=block_id) for block_id in block_ids)
    errors = read_all(source, 2)
    assert errors
    for error in errors:
        assert error.pixels is None
        assert "frame_id: must end in a number, which tells lost strips" in str(error.error)
        assert "-unnumbered" in str(error.error)
    assert get_lines(errors)[-1][1] == 96


def test_image_that_a_camera_s_driver_lost_or_found_damaged_is_a_gap() -> None:
    camera = FakeCamera()
    settings = PylonSettings(type="pylon")
    lines = LineScan(frame_lines=96, overlap_lines=0)  # two images
    source = LineScanSource(GenicamSource("top", settings, camera), {"top": lines})
    source.connect()
    images = [make_image(number) for number in (1, 2, 3, 5, 6, 7)]
    camera.images.extend([*images, make_image(8, error="half"), make_image(9)])
    frames = read_all(source, 8)
    assert [(frame.error_reason if frame.error else None) for frame in frames] == [
        None, Reason.LINES_MISSING, None, Reason.LINES_MISSING,
    ]  # fmt: skip
    assert get_lines(frames) == [(0, 96), (96, 144), (144, 240), (240, 288)]


def test_encoded_strip_is_decoded_though_it_is_of_another_size_than_the_recipe_s_frames(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    endpoints = Sockets(frames=f"ipc://{tmp_path}/frames", imagezmq=f"ipc://{tmp_path}/imagezmq")
    cameras = {"top": make_camera(), "side": Camera()}
    receiver = build_receiver(cameras, endpoints, context, lambda camera: (8, 4))
    assert receiver is not None
    source = assemble_lines(receiver, cameras)
    source.connect()
    sender = context.socket(zmq.PUSH)
    sender.connect(endpoints.frames)
    png = cv2.imencode(".png", np.zeros((8, 5), np.uint8))[1].tobytes()
    found = {}
    for name in cameras:
        sender.send_multipart([json.dumps({"camera": name, "frame_id": 1, "encoding": "png"}).encode(), png])
        deadline = time.monotonic() + WAIT_S
        while name not in found and time.monotonic() < deadline:
            if (frame := source.read(0.1)) is not None:
                found[frame.camera] = frame.error_reason if frame.error else None
    sender.close(linger=0)
    source.close()
    assert found == {"top": None, "side": Reason.FRAME_MISMATCH}


# ---------------------------------------------------------------- the station file


def make_camera(**line_scan: Any) -> Camera:
    return Camera.model_validate({"line_scan": {"frame_lines": 8, "overlap_lines": 2} | line_scan})


@pytest.mark.parametrize(
    ("line_scan", "rule"),
    [
        ({"overlap_lines": 8}, "overlap_lines.*must be less than frame_lines, 8"),
        ({"frame_lines": 0}, "frame_lines"),
        ({"numbered": False}, "encoder_divider: required where numbered is false"),
        ({"encoder_divider": 0}, "encoder_divider: must be from 0.001 to 1000000 counts, up or down"),
        ({"encoder_divider": -2e6}, "encoder_divider: must be from 0.001"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
    ],
)
def test_line_scan_that_breaks_a_rule_is_refused(line_scan: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){rule}"):
        make_camera(**line_scan)


@pytest.mark.parametrize(
    ("camera", "rule"),
    [
        ({"triggers": "software"}, "must be null where triggers is set"),
        ({"source": {"type": "imagezmq"}}, "numbered must be false with a source of type imagezmq"),
        ({"source": {"type": "opencv", "device": 0}}, "numbered must be false with a source of type opencv"),
    ],
)
def test_line_scan_is_refused_where_lost_strips_or_triggers_could_not_be_told(
    camera: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValidationError, match=rule):
        Camera.model_validate(camera | {"line_scan": {"frame_lines": 8, "overlap_lines": 2}})


def test_source_is_wrapped_only_where_a_camera_has_line_scan(tmp_path: Path) -> None:
    folder = {"source": {"type": "folder", "path": str(tmp_path)}}
    plain = Camera.model_validate(folder)
    scanned = Camera.model_validate(folder | {"line_scan": {"frame_lines": 8, "overlap_lines": 2}})
    built = build_sources({"plain": plain, "scanned": scanned})
    assert [isinstance(source, LineScanSource) for source in built] == [False, True]


# ---------------------------------------------------------------- the contract, over strips


STRIP_LINES = 30


class FolderStrips(FolderRig):
    """Strips in a watched folder: each frame is of several files."""

    one_size = "frames of a web have frame_lines lines"

    def build(self, *, silent: bool = False) -> Any:
        line_scan = LineScan(frame_lines=HW[0], overlap_lines=HW[0] - STRIP_LINES)
        return LineScanSource(super().build(silent=silent), {"top": line_scan})

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        strip = np.full((STRIP_LINES, hw[1], 3), value, np.uint8)
        for _ in range(2):
            self._count += 1
            strip[0, 0] = self._count % 256
            path = self._folder / f"{self._count:04}.png"
            path.write_bytes(cv2.imencode(".png", strip)[1].tobytes())


class ZmqStrips(ZmqRig):
    """Strips that are sent."""

    one_size = "frames of a web have frame_lines lines"

    def build(self, *, silent: bool = False) -> Any:
        return LineScanSource(super().build(silent=silent), {"top": LineScan(frame_lines=HW[0], overlap_lines=16)})

    def send(self, value: int, hw: tuple[int, int] = HW) -> None:
        for _ in range(HW[0] // 16):
            super().send(value, (16, hw[1]))


class TestFolderStrips(SourceContract):
    """Image files."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> FolderStrips:
        return FolderStrips(tmp_path)


class TestZmqStrips(SourceContract):
    """Strips that are sent."""

    @pytest.fixture
    def rig(self, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[ZmqStrips]:
        made = ZmqStrips(context)
        yield made
        made.close()


def test_strip_by_req_is_answered_once_it_is_taken(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    rig = ZmqRig(context)
    receiver: Any = rig.build()
    source = assemble_lines(receiver, {"top": Camera(line_scan=LINES)})
    source.connect()
    sender = context.socket(zmq.REQ)
    sender.rcvtimeo = int(WAIT_S * 1000)
    sender.connect(receiver._config.imagezmq)
    header = {"camera": "top", "encoding": "raw", "dtype": "uint8", "shape": [5, 4], "frame_id": 1}
    sender.send_multipart([json.dumps(header).encode(), bytes(20)])
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not sender.poll(0):
        assert source.read(0.1) is None
    assert sender.recv() == b"OK"
    sender.close(linger=0)
    source.close()
    rig.close()
