"""The device worker over a real detector and a simulated device: nobody waits behind later frames. Time is virtual."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.device import Device
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger
from inspector.service.flow.service_times import ServiceTimes
from inspector.service.flow.worker import DeviceWorker
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.base import build_frame
from inspector.testing.simulated_device import (
    Answer,
    SimulatedDevice,
    SimulatedEngine,
    SimulatedLine,
    summarise_latency,
)
from inspector.types import Frame, PixelFormat, Verdict

SIDE, BATCH = 64, 2
FRAMES = 500
PERIOD_S = 1 / 25
BEGIN_S = 0.010
"""Of the host, for checking a frame of 12 megapixels, copying it to pinned memory and queueing its batches."""

MakeJudge = Callable[..., Judge]
Run = Callable[..., list[Answer]]


def make_frames(frame_hw: tuple[int, int], defective: Callable[[int], bool]) -> list[Frame]:
    good = np.zeros(frame_hw, np.uint8)
    bad = good.copy()
    bad[20:30, 30:50] = 255
    return [
        build_frame("top", f"f{number}", bad if defective(number) else good, PixelFormat.MONO8)
        for number in range(FRAMES)
    ]


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.fixture
def run(device: SimulatedDevice, ledger: Ledger, running: Health, metrics: Metrics, make_judge: MakeJudge) -> Run:
    """Answers to frames that come 25 times a second, each taking `gpu_ms` of the device."""

    def run(gpu_ms: float, defective: Callable[[int], bool], frame_hw: tuple[int, int] = (128, 128)) -> list[Answer]:
        batches = -(-(frame_hw[0] // SIDE) * (frame_hw[1] // SIDE) // BATCH)
        engine = SimulatedEngine(device, batch=BATCH, side=SIDE, batch_s=gpu_ms / 1e3 / batches)
        recipe = Recipe.model_validate(
            {
                "recipe_id": "bright",
                "backbone": "resnet18",
                "weights_sha256": "0" * 64,
                "preprocessing": {"pixel_format": "Mono8"},
                "tiling": {"tile_size": SIDE, "stride": SIDE},
                "threshold": {"value": 0.5, "method": "manual"},
            }
        )
        detector = Detector(recipe, engine, downloads=device)
        judge = make_judge(detector)
        detector.recipe = recipe
        judges = Judges()
        judges.switch({"top": judge})
        line = SimulatedLine(device, ledger, make_frames(frame_hw, defective), period_s=PERIOD_S, begin_s=BEGIN_S)
        worker = DeviceWorker(
            line.buffer,
            ledger,
            judges,
            line.submit,
            device=Device("cpu", engine.device),
            abandoned=threading.Event(),
            service_times=ServiceTimes(),
            health=running,
            metrics=metrics,
        )
        return line.run(worker)

    return run


def check(answers: list[Answer], defective: Callable[[int], bool]) -> dict[str, Any]:
    """Each frame's verdict in its order, then the latencies."""
    expected = [(f"f{number}", Verdict.FAIL if defective(number) else Verdict.PASS) for number in range(FRAMES)]
    assert [(answer.frame_id, answer.verdict) for answer in answers] == expected
    return summarise_latency(answers)


@pytest.mark.parametrize(
    "defective",
    [lambda number: False, lambda number: True, lambda number: number % 20 == 7],
    ids=["pass", "fail", "some"],
)
@pytest.mark.parametrize("frame_hw", [(128, 128), (192, 192)], ids=["whole batches", "half a batch left"])
def test_verdicts_come_within_60_ms_when_frames_of_37_ms_come_25_times_a_second(
    run: Run, device: SimulatedDevice, defective: Callable[[int], bool], frame_hw: tuple[int, int]
) -> None:
    latency = check(run(37.0, defective, frame_hw), defective)
    assert latency["p99"] <= 60, latency
    assert latency["growth"] < 10  # no backlog
    assert device.compute.busy_s / device.clock.now_s > 0.85


def test_verdicts_come_after_one_frames_time_when_the_device_is_half_idle(run: Run) -> None:
    latency = check(run(20.0, lambda number: False), lambda number: False)
    assert latency["max"] < BEGIN_S * 1e3 + 20 + 3  # the worker looks each millisecond


def test_device_is_never_idle_when_frames_come_faster_than_it_computes(run: Run, device: SimulatedDevice) -> None:
    run(50.0, lambda number: number % 2 == 0)
    assert device.compute.busy_s / device.clock.now_s > 0.98
