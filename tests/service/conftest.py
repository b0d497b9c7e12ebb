"""What the tests of the service share: a ledger, health and metrics of two cameras, and makers of what flows."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Camera, GoodScores, Station, Threshold, WhenFull
from inspector.detection.decision import Decision
from inspector.detection.run import Judgement
from inspector.engine.base import Precision
from inspector.service.collectors import (
    FlowCollector,
    MachineCollector,
    RecipeCollector,
    SourceCollector,
    StationCollector,
)
from inspector.service.control.starts import AFTER
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Ticket
from inspector.service.orders.offline import FILE, Offline
from inspector.service.orders.parts import Group, Parts, build_part_frame
from inspector.service.telemetry.clock import Clock
from inspector.service.telemetry.disk import DiskUsage
from inspector.service.telemetry.gpu import GpuSample
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.base import build_frame
from inspector.sources.report import CameraReport, Ptp
from inspector.types import Fallback, Frame, PixelFormat, Reason, Region, Result, Verdict

DEADLINES_MS = {"top": 60_000, "side": 60_000}
JOIN_S = 10.0


@pytest.fixture
def ledger() -> Ledger:
    """Cameras `top` and `side`, a minute for each frame."""
    return Ledger(DEADLINES_MS)


@pytest.fixture
def groups() -> list[Group]:
    """The parts of the station: none."""
    return []


@pytest.fixture
def parts(ledger: Ledger, groups: list[Group]) -> Parts:
    """What the views of each part decide together; tickets of parts are the ledger's."""
    return Parts(groups, lambda group, view: ledger.accept(build_part_frame(group, view)).number)


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def bring() -> Callable[[Health, State], None]:
    """Bring a station that is starting to a state, on the way that a daemon takes."""

    def bring(health: Health, state: State) -> None:
        if state is State.DEGRADED:
            health.enter(State.READY)
            health.report("source top", "cable out")
        else:
            for each in {State.STARTING: (), State.RUNNING: (State.READY, State.RUNNING)}.get(state, (state,)):
                assert health.enter(each)
        assert health.state is state

    return bring


@pytest.fixture
def running(health: Health, bring: Callable[[Health, State], None]) -> Health:
    """`health`, of a station that runs."""
    bring(health, State.RUNNING)
    return health


@pytest.fixture
def beats(health: Health, monkeypatch: pytest.MonkeyPatch) -> queue.Queue[str]:
    """What threads tell `health` of themselves, in order: their name for a beat, `forget` and it for an end."""
    beats: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(health, "beat", lambda name, within_s=0.0, vital=True: beats.put(name))
    monkeypatch.setattr(health, "forget", lambda name: beats.put(f"forget {name}"))
    return beats


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, DEADLINES_MS)


@pytest.fixture
def noted() -> list[tuple[Any, ...]]:
    """What `offline` puts on record: kind, outcome, who, camera, details."""
    return []


@pytest.fixture
def offline(tmp_path: Path, metrics: Metrics, noted: list[tuple[Any, ...]]) -> Offline:
    """No camera is offline."""
    return Offline(
        {name: Camera(deadline_ms=deadline) for name, deadline in DEADLINES_MS.items()},
        tmp_path / FILE,
        note=lambda *words, **details: noted.append((*words, details)),
        metrics=metrics,
    )


@pytest.fixture
def make_station() -> Callable[..., Station]:
    """Station `press-3` of cameras `top` and `side`, with what else a file may say."""

    def make(**changes: Any) -> Station:
        cameras = {"top": {"deadline_ms": 60_000, "expected_fps": 2.5}, "side": {"deadline_ms": 60_000}}
        return Station.model_validate({"schema": 1, "station": "press-3", "cameras": cameras} | changes)

    return make


@pytest.fixture
def whole(
    registry: CollectorRegistry, metrics: Metrics, ledger: Ledger, make_station: Callable[..., Station]
) -> SimpleNamespace:
    """What a station is like at the next scrape; all its collectors are registered, as the daemon does it."""
    whole = SimpleNamespace(
        buffer=FrameBuffer(1000, WhenFull.DROP_OLDEST),
        state=State.STARTING,
        station=make_station(),
        starts=dict.fromkeys(AFTER, 0) | {"first": 1},
        judges=Judges(),
        disk=DiskUsage(5, 10),
        gpus={"cuda:0": GpuSample("0", 1, 0.5, 2, 3, 60, 70.5)},
        clock=Clock(synchronised=True, error_s=0.002),
        reports={"top": CameraReport(is_connected=True, triggers_missed=0, ptp=Ptp("Slave", 40))},
    )
    for collector in (
        FlowCollector(ledger, whole.buffer, lambda: whole.state),
        StationCollector(lambda: whole.station, lambda: whole.starts, {"cuda:0": ["top"], "cuda:1": ["side"]}),
        RecipeCollector(whole.judges),
        SourceCollector(lambda: whole.reports),
        MachineCollector(disk=lambda: whole.disk, gpus=lambda: whole.gpus, clock=lambda: whole.clock),
    ):
        registry.register(collector)
    return whole


@pytest.fixture
def value(registry: CollectorRegistry) -> Callable[..., float | None]:
    """One sample as a scrape shows it; None where there is none."""
    return lambda name, **labels: registry.get_sample_value(f"inspector_{name}", labels)


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    """A frame of 10 bytes, received `age_s` ago."""

    def make(frame_id: str, camera: str = "top", *, age_s: float = 0.0, size: int = 10, **details: Any) -> Frame:
        pixels = None if details.get("error") else np.zeros((1, size), np.uint8)
        received = time.monotonic_ns() - int(age_s * 1e9)
        return build_frame(camera, frame_id, pixels, PixelFormat.MONO8, received_monotonic_ns=received, **details)

    return make


@pytest.fixture
def accept(ledger: Ledger, make_frame: Callable[..., Frame]) -> Callable[..., Ticket]:
    """A frame that the ledger accepted: `make_frame`'s arguments."""
    return lambda frame_id, *args, **details: ledger.accept(make_frame(frame_id, *args, **details))


@pytest.fixture
def make_judgement() -> Callable[..., Judgement]:
    """What a detector with a threshold of 1, and a warn band from 0.9, says of a frame with this score."""

    def make(score: float = 0.5, tiles: int = 6) -> Judgement:
        regions = (Region((1, 2, 3, 4), score, 4),) if score > 1 else ()
        verdict, reason = (Verdict.FAIL, Reason.DEFECT) if score > 1 else (Verdict.PASS, Reason.OK)
        anomaly_map = np.full((4, 8), score, np.float32)
        decision = Decision(verdict, reason, score, regions, warn=0.9 < score <= 1)
        return Judgement(decision, lambda _: anomaly_map, tiles, {"infer": 7.0})

    return make


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A PASS of camera `top` unless told otherwise."""

    def make(seq: int = 1, **changes: Any) -> Result:
        plain: dict[str, Any] = {
            "station": "press-3",
            "boot_id": "boot",
            "seq": seq,
            "camera": "top",
            "frame_id": f"f{seq}",
            "part_id": None,
            "trigger_id": None,
            "verdict": Verdict.PASS,
            "reason": Reason.OK,
            "score": 0.5,
            "threshold": 1.0,
            "regions": (),
            "captured_utc_ns": 0,
            "received_utc_ns": 1,
            "published_utc_ns": 2,
            "deadline_ms": 60_000,
        }
        return Result(**plain | changes)

    return make


@pytest.fixture
def make_judge() -> Callable[..., Judge]:
    """A judge of recipe `lens` with a threshold of 1, over any detector."""

    def make(
        detector: Any = None,
        recipe_id: str = "lens",
        *,
        threshold: float = 1.0,
        good_scores: tuple[float, float] | None = None,
    ) -> Judge:
        good = good_scores and GoodScores(median=good_scores[0], p95=good_scores[1])
        recipe = SimpleNamespace(
            recipe_id=recipe_id,
            backbone="resnet18",
            weights_sha256="bb",
            threshold=Threshold(value=threshold, method="manual", good_scores=good),
        )
        engine = SimpleNamespace(precision=Precision.FP32, name="fake", fallback=Fallback.NONE)
        detector = detector or SimpleNamespace(engine=engine, expectation=None)
        detector.recipe = recipe
        return Judge(detector, Path("recipes") / recipe_id, "aa")

    return make


@pytest.fixture
def end() -> Callable[..., None]:
    """Ask a thread to stop, and see it end."""

    def end(thread: Any) -> None:
        thread.stop()
        thread.join(JOIN_S)
        assert not thread.is_alive(), f"{thread.name} did not end"

    return end


@pytest.fixture
def launch(end: Callable[..., None]) -> Iterator[Callable[[Any], Any]]:
    """Start a thread; it is ended with the test at the latest."""
    launched: list[Any] = []

    def launch(thread: Any) -> Any:
        thread.start()
        launched.append(thread)
        return thread

    yield launch
    for thread in launched:
        end(thread)
