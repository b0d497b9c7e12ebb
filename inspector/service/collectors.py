"""What is read off the station at scrape time instead of being counted along the flow. Nothing here waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from inspector.config import Station
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger
from inspector.service.telemetry.clock import Clock
from inspector.service.telemetry.disk import DiskUsage
from inspector.service.telemetry.gpu import GpuSample
from inspector.service.telemetry.health import State
from inspector.types import Reason, Verdict


def _no_results(cameras: Iterable[str]) -> dict[tuple[str, Verdict, Reason], int]:
    """Zero for all there can be: a rate misses the first of what was not there before."""
    verdicts = {Reason.OK: Verdict.PASS, Reason.DEFECT: Verdict.FAIL}
    return {(camera, verdicts.get(reason, Verdict.ERROR), reason): 0 for camera in cameras for reason in Reason}


class FlowCollector(Collector):
    """Frames: how many came, were answered, are under way, and wait."""

    def __init__(self, ledger: Ledger, buffer: FrameBuffer, state: Callable[[], State]) -> None:
        self._ledger = ledger
        self._buffer = buffer
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """One consistent account: received = results + in flight, at every scrape."""
        account = self._ledger.account()
        received = CounterMetricFamily("inspector_frames_received", "Frames accepted.", labels=["camera"])
        for camera, count in account.received.items():
            received.add_metric([camera], count)
        results = CounterMetricFamily(
            "inspector_results", "Verdicts published.", labels=["camera", "verdict", "reason"]
        )
        for (camera, verdict, reason), count in (_no_results(account.received) | account.results).items():
            results.add_metric([camera, verdict.value, reason.name], count)
        in_flight = GaugeMetricFamily("inspector_frames_in_flight", "Frames owed a verdict.", labels=["camera"])
        for camera, count in account.in_flight.items():
            in_flight.add_metric([camera], count)
        state = GaugeMetricFamily("inspector_state", "1 for the state the station is in.", labels=["inspector_state"])
        now = self._state()
        for each in State:
            state.add_metric([each.value], each is now)
        yield from (received, results, in_flight, state)
        yield _gauge("threads", "Threads of the process.", threading.active_count())
        yield _gauge("buffer_bytes", "Bytes of frames waiting for the device.", self._buffer.nbytes)
        yield _gauge("buffer_frames", "Frames waiting for the device.", len(self._buffer))
        yield _gauge("buffer_max_bytes", "Bytes of frames that may wait.", self._buffer.max_bytes)


class StationCollector(Collector):
    """What the station file says now, and how often the station was started."""

    def __init__(self, station: Callable[[], Station], starts: Callable[[], Mapping[str, int]]) -> None:
        self._station = station
        self._starts = starts

    def collect(self) -> Iterable[Metric]:
        """As it is in force: a reload shows at the next scrape."""
        station = self._station()
        yield InfoMetricFamily("inspector_station", "Which station this is.", {"station": station.station})
        deadline = GaugeMetricFamily(
            "inspector_deadline_seconds", "Time a frame has for its verdict.", labels=["camera"]
        )
        expected = GaugeMetricFamily(
            "inspector_expected_frames_per_second", "What the station file says the line sends.", labels=["camera"]
        )
        for name, camera in station.cameras.items():
            deadline.add_metric([name], camera.deadline_ms / 1000)
            if camera.expected_fps is not None:
                expected.add_metric([name], camera.expected_fps)
        starts = CounterMetricFamily(
            "inspector_starts", "Starts of the station, by how the run before ended.", labels=["after"]
        )
        for after, count in self._starts().items():
            starts.add_metric([after], count)
        yield from (deadline, expected, starts)
        yield _gauge("evidence_max_bytes", "Bytes of evidence that are kept at most.", station.evidence.max_bytes)


class RecipeCollector(Collector):
    """By which recipe each camera is judged; nothing of one that was switched is left."""

    def __init__(self, judges: Judges) -> None:
        self._judges = judges

    def collect(self) -> Iterable[Metric]:
        """Of the cameras that have a recipe."""
        threshold = GaugeMetricFamily("inspector_threshold", "The recipe's threshold.", labels=["camera"])
        info = InfoMetricFamily("inspector_recipe", "The recipe of a camera.", labels=["camera"])
        # A summary without count and sum: Prometheus keeps the label `quantile` for this type.
        calibration = Metric(
            "inspector_calibration_score",
            "What the good frames scored that the threshold was set from, as a share of it.",
            "summary",
        )
        for camera, judge in self._judges:
            recipe, engine = judge.detector.recipe, judge.detector.engine
            threshold.add_metric([camera], judge.threshold)
            about = {
                "recipe_id": recipe.recipe_id,
                "backbone": recipe.backbone,
                "model_sha256": recipe.weights_sha256[:12],
                "precision": engine.precision.value,
                "engine": engine.name,
                "threshold_set_by": judge.threshold_set_by,
            }
            info.add_metric([camera], about)
            good = recipe.threshold.good_scores if recipe.threshold else None
            for quantile, score in (("0.5", good.median), ("0.95", good.p95)) if good else ():
                labels = {"camera": camera, "quantile": quantile}
                calibration.add_sample(calibration.name, labels, score / judge.threshold)
        yield from (threshold, info, calibration)


class MachineCollector(Collector):
    """The PC: its disk, GPU and clock. What is not known, or was not heard of for a while, is absent."""

    def __init__(
        self,
        *,
        disk: Callable[[], DiskUsage | None],
        gpu: Callable[[], GpuSample | None],
        clock: Callable[[], Clock | None],
    ) -> None:
        self._disk = disk
        self._gpu = gpu
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """The last samples; the clock is asked now, which takes a microsecond."""
        disk, gpu, clock = self._disk(), self._gpu() or GpuSample(), self._clock()
        state = {"directory": "state"}
        yield _gauge("disk_free_bytes", "Room left on the disk of state_dir.", disk.free_bytes if disk else None, state)
        yield _gauge("disk_size_bytes", "Size of the disk of state_dir.", disk.size_bytes if disk else None, state)
        yield _gauge("device_memory_bytes", "Memory the network holds on the device.", gpu.reserved_bytes)
        index = {"gpu": gpu.index}
        yield _gauge("gpu_utilisation_ratio", "Share of time the GPU was busy.", gpu.utilisation_ratio, index)
        yield _gauge("gpu_memory_used_bytes", "Memory in use, by all programs.", gpu.memory_used_bytes, index)
        yield _gauge("gpu_memory_total_bytes", "Memory of the GPU.", gpu.memory_total_bytes, index)
        yield _gauge("gpu_temperature_celsius", "Temperature of the GPU.", gpu.temperature_celsius, index)
        yield _gauge("gpu_power_watts", "Power the GPU draws.", gpu.power_watts, index)
        yield _gauge(
            "clock_synchronised", "1 while the clock follows a reference.", clock.synchronised if clock else None
        )
        yield _gauge("clock_error_seconds", "How far off the clock is at most.", clock.error_s if clock else None)


def _gauge(name: str, text: str, value: float | None, labels: Mapping[str, str] | None = None) -> Metric:
    """One sample, or none where the value is not known."""
    labels = labels or {}
    family = GaugeMetricFamily(f"inspector_{name}", text, labels=list(labels))
    if value is not None:
        family.add_metric(list(labels.values()), value)
    return family
