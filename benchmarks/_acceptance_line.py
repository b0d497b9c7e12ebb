"""The line of `gpu_acceptance.py`: frames at a steady rate to the real device worker, in real or in simulated time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from inspector.config import WhenFull
from inspector.detection.detector import Detector
from inspector.device import Device
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Outcome
from inspector.service.flow.service_times import ServiceTimes
from inspector.service.flow.worker import DeviceWorker
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.base import build_frame
from inspector.testing.simulated_device import Answer, SimulatedDevice, SimulatedLine
from inspector.types import Frame, PixelFormat, Verdict

Pixels = np.ndarray[Any, Any]

_CAMERA = "top"
_DEADLINE_MS = 60_000
_BEGIN_S = 0.010
"""Of the host, for one frame of 12 megapixels, where time is simulated."""


def run_line(
    detector: Detector, pixels: Sequence[Pixels], *, period_s: float, simulated: SimulatedDevice | None
) -> list[Answer]:
    """A frame each `period_s`; the answers in their order. `simulated`: the detector's device, where it is none."""
    ledger = Ledger({_CAMERA: _DEADLINE_MS})
    if simulated is not None:
        frames = [_build_frame(number, one) for number, one in enumerate(pixels)]
        line = SimulatedLine(simulated, ledger, frames, period_s=period_s, begin_s=_BEGIN_S)
        return line.run(_build_worker(detector, line.buffer, ledger, line.submit))
    return _run_in_real_time(detector, pixels, period_s, ledger)


def _run_in_real_time(detector: Detector, pixels: Sequence[Pixels], period_s: float, ledger: Ledger) -> list[Answer]:
    answers: list[Answer] = []

    def submit(outcome: Outcome) -> None:
        frame = outcome.ticket.frame
        latency_ms = (time.monotonic_ns() - frame.received_monotonic_ns) / 1e6
        answers.append(Answer(frame.frame_id, outcome.verdict, latency_ms))
        ledger.close(outcome.ticket, outcome.verdict, outcome.reason)

    buffer = FrameBuffer(1 << 34, WhenFull.BLOCK)
    worker = _build_worker(detector, buffer, ledger, submit)
    worker.start()
    started = time.monotonic()
    for number, one in enumerate(pixels):
        time.sleep(max(0.0, started + number * period_s - time.monotonic()))
        buffer.put(ledger.accept(_build_frame(number, one)))
    worker.stop()
    worker.join(_DEADLINE_MS / 1e3)
    if worker.failure is not None:
        raise worker.failure
    return answers


def _build_worker(detector: Detector, buffer: FrameBuffer, ledger: Ledger, submit: Any) -> DeviceWorker:
    judges = Judges()
    judges.switch({_CAMERA: Judge(detector, Path("recipe"), "")})
    metrics = Metrics(CollectorRegistry(), {_CAMERA: _DEADLINE_MS})
    return DeviceWorker(
        buffer,
        ledger,
        judges,
        submit,
        device=Device(str(detector.engine.device), detector.engine.device),
        abandoned=threading.Event(),
        service_times=ServiceTimes(),
        health=Health(),
        metrics=metrics,
    )


def _build_frame(number: int, pixels: Pixels) -> Frame:
    return build_frame(_CAMERA, f"f{number}", pixels, PixelFormat.RGB8)


def make_pair(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Two frames that a network scores differently: a dim one, and the same with a white square."""
    dim = pixels // 2
    marked = dim.copy()
    marked[20:60, 20:60] = 255
    return dim, marked


def check_verdicts(answers: Sequence[Answer], expected: Sequence[Verdict]) -> None:
    """See that each frame has its own verdict.

    Raises:
        RuntimeError: one has not.
    """
    found = [answer.verdict for answer in answers]
    wrong = [number for number, pair in enumerate(zip(found, expected, strict=False)) if pair[0] is not pair[1]]
    if len(found) != len(expected) or wrong:
        raise RuntimeError(f"{len(expected)} frames must have their verdicts, got {len(found)}, wrong: {wrong[:10]}")
