"""Pictures for people: drawn when wanted, given up rather than waited for."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Overlays
from inspector.detection.run import Judgement
from inspector.service.flow.ledger import Outcome, Ticket
from inspector.service.flow.overlayer import Overlayer, describe_result
from inspector.service.orders.live import Live
from inspector.service.orders.snapshots import Snapshots
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Reason, Region, Result, Verdict

Accept = Callable[..., Ticket]
Launch = Callable[[Any], Any]
MakeResult = Callable[..., Result]
Offer = Callable[..., Result]

WAIT_S = 10.0
REASONS = {Verdict.PASS: Reason.OK, Verdict.FAIL: Reason.DEFECT, Verdict.ERROR: Reason.OVERLOAD}


class RecordingSocket:
    """An overlays socket that keeps what it is given; `fail` names the frames it cannot send."""

    def __init__(self, *, fail: tuple[str, ...] = ()) -> None:
        self.sent: queue.Queue[tuple[str, Mapping[str, Any], np.ndarray, int]] = queue.Queue()
        self.live: queue.Queue[tuple[str, Mapping[str, Any], bytes]] = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self._fail = fail

    def publish(self, camera: str, result: Mapping[str, Any], picture: np.ndarray, quality: int) -> None:
        if result["frame_id"] in self._fail:
            raise ValueError("cannot be encoded")
        self.sent.put((camera, result, picture, quality))
        assert self.gate.wait(WAIT_S)

    def publish_live(self, camera: str, message: Mapping[str, Any], jpeg: bytes) -> None:
        if message["frame_id"] in self._fail:
            raise ValueError("cannot be encoded")
        self.live.put((camera, message, jpeg))

    def names(self) -> list[str]:
        """Frames sent and not yet looked at."""
        return [self.sent.get_nowait()[1]["frame_id"] for _ in range(self.sent.qsize())]

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def socket() -> RecordingSocket:
    return RecordingSocket()


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(("top",))


@pytest.fixture
def live(snapshots: Snapshots) -> Live:
    return Live({"top": None}, snapshots, station="press-3", note=lambda *_, **__: None)


@pytest.fixture
def make(socket: RecordingSocket, live: Live, health: Health, metrics: Metrics) -> Callable[..., Overlayer]:
    """An overlayer that is not started yet."""

    def make(frames: str = "all", socket: RecordingSocket = socket, **config: Any) -> Overlayer:
        return Overlayer(socket, Overlays(frames=frames, **config), live=live, health=health, metrics=metrics)

    return make


@pytest.fixture
def offer(accept: Accept, make_judgement: Callable[..., Judgement], make_result: MakeResult) -> Offer:
    """Offer a published result of a frame; the result."""

    def offer(overlayer: Overlayer, name: str, verdict: Verdict = Verdict.FAIL, **details: Any) -> Result:
        judgement = None if verdict is Verdict.ERROR else make_judgement(2.0 if verdict is Verdict.FAIL else 0.5)
        decision = judgement.decision if judgement else None
        outcome = Outcome(accept(name, **details), verdict, REASONS[verdict], judgement=judgement)
        result = make_result(
            frame_id=name,
            verdict=verdict,
            reason=REASONS[verdict],
            score=decision.score if decision else None,
            regions=decision.regions if decision else (),
        )
        overlayer.offer(outcome, result)
        return result

    return offer


def dropped(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("inspector_overlays_dropped_total", {"camera": "top"})


@pytest.mark.parametrize(
    ("frames", "drawn"), [("fail", ["FAIL"]), ("all", ["PASS", "FAIL", "ERROR"]), ("none", [])]
)  # fmt: skip
def test_frames_are_drawn_as_configured_when_offered(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, end: Any, socket: RecordingSocket,
    registry: CollectorRegistry, frames: str, drawn: list[str],
) -> None:  # fmt: skip
    overlayer = make(frames)
    for verdict in Verdict:
        offer(overlayer, verdict.value, verdict)
    end(launch(overlayer))
    assert socket.names() == drawn
    assert dropped(registry) == 0


def test_picture_goes_out_with_its_result_when_drawn(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, socket: RecordingSocket
) -> None:
    overlayer = launch(make(width=320, quality=70))
    result = offer(overlayer, "f1")
    camera, sent, picture, quality = socket.sent.get(timeout=WAIT_S)
    assert (camera, quality) == ("top", 70)
    assert sent == result.to_wire()
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (320, 3)
    assert picture.shape[0] > 32  # the frame is 1 × 10; the banner stands above
    assert tuple(picture[0, 0]) == (40, 40, 210)  # red, as every FAIL
    assert picture[-1].max() > 0  # heat: the frame itself is black


def test_map_is_asked_for_as_wide_as_the_picture(
    make: Callable[..., Overlayer], accept: Accept, make_judgement: Callable[..., Judgement], make_result: MakeResult,
    launch: Launch, socket: RecordingSocket,
) -> None:  # fmt: skip
    judgement = make_judgement(2.0)
    asked: list[int | None] = []
    noted = dataclasses.replace(judgement, fetch_map=lambda columns: asked.append(columns) or judgement.anomaly_map)
    overlayer = launch(make(width=320))
    overlayer.offer(
        Outcome(accept("f1"), Verdict.FAIL, Reason.DEFECT, judgement=noted), make_result(verdict=Verdict.FAIL)
    )
    socket.sent.get(timeout=WAIT_S)
    assert asked == [320]


def test_frames_take_no_room_and_are_not_drawn_when_they_have_no_pixels(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, end: Any, socket: RecordingSocket,
    registry: CollectorRegistry,
) -> None:  # fmt: skip
    overlayer = make()
    for number in range(10):  # more than may wait
        offer(overlayer, f"bad{number}", Verdict.ERROR, error="truncated")
    offer(overlayer, "good")
    end(launch(overlayer))
    assert socket.names() == ["good"]
    assert dropped(registry) == 0


def test_pictures_are_given_up_and_counted_when_drawing_cannot_keep_up(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, end: Any, socket: RecordingSocket,
    registry: CollectorRegistry,
) -> None:  # fmt: skip
    socket.gate.clear()
    overlayer = launch(make())
    offer(overlayer, "f0")
    assert socket.sent.get(timeout=WAIT_S)[1]["frame_id"] == "f0"  # it is stuck at the gate from here on
    for number in range(1, 8):
        offer(overlayer, f"f{number}")
    assert dropped(registry) == 3
    socket.gate.set()
    end(overlayer)
    assert socket.names() == ["f1", "f2", "f3", "f4"]  # what waits is still drawn


def test_a_picture_that_fails_costs_a_picture_and_the_thread_goes_on(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, end: Any, registry: CollectorRegistry, health: Health
) -> None:
    socket = RecordingSocket(fail=("f1",))
    overlayer = make(socket=socket)
    for name in ("f0", "f1", "f2"):
        offer(overlayer, name)
    end(launch(overlayer))
    assert socket.names() == ["f0", "f2"]
    assert dropped(registry) == 1
    assert health.last_error is None


def test_overlayer_beats_while_idle_and_is_forgotten_when_it_ended(
    make: Callable[..., Overlayer], launch: Launch, end: Any, beats: queue.Queue[str]
) -> None:
    overlayer = launch(make())
    assert [beats.get(timeout=WAIT_S) for _ in range(2)] == ["overlays"] * 2
    end(overlayer)
    assert beats.queue[-1] == "forget overlays"


TWO = (Region((0, 0, 1, 1), 2.0, 1), Region((4, 0, 5, 1), 1.5, 1))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"score": 0.123456, "threshold": 0.7}, "score 0.1235 / 0.7  top f1  0 region(s)"),
        ({"part_id": "p9", "regions": TWO}, "score 0.5 / 1  top f1 part p9  2 region(s)"),
        ({"score": 0.95, "warn": True}, "WARN score 0.95 / 1  top f1  0 region(s)"),
        ({"simulated": True}, "SIMULATED score 0.5 / 1  top f1  0 region(s)"),
        (
            {"score": None, "threshold": None, "verdict": Verdict.ERROR, "reason": Reason.OVERLOAD},
            "OVERLOAD  top f1  0 region(s)",
        ),
        (
            {"threshold": 0.7, "verdict": Verdict.ERROR, "reason": Reason.NOT_READY},
            "NOT_READY score 0.5 / 0.7  top f1  0 region(s)",
        ),
    ],
)
def test_banner_says_what_was_found_when_described(make_result: MakeResult, changes: dict[str, Any], text: str) -> None:
    assert describe_result(make_result(**changes)) == text


def test_live_pictures_come_between_overlays_and_one_that_fails_ends_nothing(
    make: Callable[..., Overlayer], offer: Offer, launch: Launch, end: Any, live: Live, snapshots: Snapshots,
    make_frame: Callable[..., Any],
) -> None:  # fmt: skip
    socket = RecordingSocket(fail=("f1",))
    overlayer = launch(make(socket=socket))
    live.answer({"camera": "top", "rate_hz": 5}, "anna")
    snapshots.note(make_frame("f1"))
    offer(overlayer, "drawn")
    assert socket.sent.get(timeout=WAIT_S)[1]["frame_id"] == "drawn"
    for name in ("f2", "f3"):
        snapshots.note(make_frame(name))
        camera, message, jpeg = socket.live.get(timeout=WAIT_S)
        assert (camera, message["frame_id"], jpeg[:2]) == ("top", name, b"\xff\xd8")
    end(overlayer)
