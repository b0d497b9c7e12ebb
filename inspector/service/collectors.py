"""What is read off the station at scrape time instead of being counted along the flow. Nothing here waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from inspector.config import Station
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Account, Ledger
from inspector.service.telemetry.catalogue import BY_NAME, PREFIX
from inspector.service.telemetry.clock import Clock
from inspector.service.telemetry.disk import DiskUsage
from inspector.service.telemetry.gpu import GpuSample
from inspector.service.telemetry.health import State
from inspector.sources.report import CameraReport
from inspector.types import PART_PREFIX, Reason, Verdict


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
        """One consistent account: received = results + in flight, triggers and parts = results + open."""
        account = self._ledger.account()
        cameras = {name: name for name in account.received if not name.startswith(PART_PREFIX)}
        parts = {name: name.removeprefix(PART_PREFIX) for name in account.received if name.startswith(PART_PREFIX)}
        frames = _counter("frames_received_total"), _counter("results_total"), _gauge("frames_in_flight")
        yield from _fill(frames, account, cameras)
        wholes = _counter("parts_total"), _counter("part_results_total"), _gauge("parts_open")
        yield from _fill(wholes, account, parts)
        yield from _collect_triggers(account, cameras)
        state = _gauge("state")
        now = self._state()
        for each in State:
            state.add_metric([each.value], each is now)
        yield state
        yield _sample("threads", threading.active_count())
        yield _sample("buffer_bytes", self._buffer.nbytes)
        yield _sample("buffer_frames", len(self._buffer))
        yield _sample("buffer_max_bytes", self._buffer.max_bytes)


_Families = tuple[CounterMetricFamily, CounterMetricFamily, GaugeMetricFamily]


def _fill(families: _Families, account: Account, labels: Mapping[str, str]) -> _Families:
    """What came, was answered and is open; `labels` are those in the account, and what they are called."""
    received, results, open_ = families
    for name, label in labels.items():
        received.add_metric([label], account.received[name])
        open_.add_metric([label], account.in_flight[name])
    for (name, verdict, reason), count in (_no_results(account.received) | account.results).items():
        if name in labels:
            results.add_metric([labels[name], verdict.value, reason.name], count)
    return families


def _collect_triggers(account: Account, cameras: Iterable[str]) -> Iterable[Metric]:
    triggers, open_, results = _counter("triggers_total"), _gauge("triggers_open"), _counter("trigger_results_total")
    for camera in cameras:
        triggers.add_metric([camera], account.triggers.get(camera, 0))
        open_.add_metric([camera], account.triggers_open.get(camera, 0))
        for verdict in Verdict:
            results.add_metric([camera, verdict.value], account.trigger_results.get((camera, verdict), 0))
    return triggers, open_, results


class StationCollector(Collector):
    """What the station file says now, which device judges which camera, and how often the station was started."""

    def __init__(
        self,
        station: Callable[[], Station],
        starts: Callable[[], Mapping[str, int]],
        devices: Mapping[str, Sequence[str]],
    ) -> None:
        """`devices`: the cameras of each, by its name."""
        self._station = station
        self._starts = starts
        self._devices = devices

    def collect(self) -> Iterable[Metric]:
        """As it is in force: a reload shows at the next scrape."""
        station = self._station()
        yield InfoMetricFamily(f"{PREFIX}station", BY_NAME["station_info"].text, {"station": station.station})
        deadline = _gauge("deadline_seconds")
        expected = _gauge("expected_frames_per_second")
        for name, camera in station.cameras.items():
            deadline.add_metric([name], camera.deadline_ms / 1000)
            if camera.expected_fps is not None:
                expected.add_metric([name], camera.expected_fps)
        placed = _gauge("camera_device")
        for device, cameras in self._devices.items():
            for name in cameras:
                placed.add_metric([name, device], 1)
        starts = _counter("starts_total")
        for after, count in self._starts().items():
            starts.add_metric([after], count)
        yield from (deadline, expected, placed, starts)
        yield _sample("evidence_max_bytes", station.evidence.max_bytes)


class RecipeCollector(Collector):
    """By which recipe each camera is judged; nothing of one that was switched is left."""

    def __init__(self, judges: Judges) -> None:
        self._judges = judges

    def collect(self) -> Iterable[Metric]:
        """Of the cameras that have a recipe."""
        threshold = _gauge("threshold")
        info = InfoMetricFamily(f"{PREFIX}recipe", BY_NAME["recipe_info"].text, labels=["camera"])
        # A summary without count and sum: Prometheus keeps the label `quantile` for this type.
        calibration = Metric(f"{PREFIX}calibration_score", BY_NAME["calibration_score"].text, "summary")
        for camera, judge in self._judges:
            recipe, engine = judge.detector.recipe, judge.detector.engine
            threshold.add_metric([camera], judge.threshold)
            about = {
                "recipe_id": recipe.recipe_id,
                "backbone": recipe.backbone,
                "model_sha256": recipe.weights_sha256[:12],
                "precision": engine.precision.value,
                "engine": engine.name,
                "fallback": engine.fallback.value,
                "threshold_set_by": judge.threshold_set_by,
            }
            info.add_metric([camera], about)
            good = recipe.threshold.good_scores if recipe.threshold else None
            for quantile, score in (("0.5", good.median), ("0.95", good.p95)) if good else ():
                labels = {"camera": camera, "quantile": quantile}
                calibration.add_sample(calibration.name, labels, score / judge.threshold)
        yield from (threshold, info, calibration)


class SourceCollector(Collector):
    """What cameras are asked for: absent of one that is not."""

    def __init__(self, reports: Callable[[], Mapping[str, CameraReport]]) -> None:
        self._reports = reports

    def collect(self) -> Iterable[Metric]:
        """As each source last found its camera."""
        missed, locked = _counter("triggers_missed_total"), _gauge("camera_ptp_locked")
        for camera, report in self._reports().items():
            if report.triggers_missed is not None:
                missed.add_metric([camera], report.triggers_missed)
            if report.ptp is not None:
                locked.add_metric([camera], report.ptp.is_locked)
        yield from (missed, locked)


class MachineCollector(Collector):
    """The PC: its disk, GPUs and clock. What is not known, or was not heard of for a while, is absent."""

    def __init__(
        self,
        *,
        disk: Callable[[], DiskUsage | None],
        gpus: Callable[[], Mapping[str, GpuSample] | None],
        clock: Callable[[], Clock | None],
    ) -> None:
        self._disk = disk
        self._gpus = gpus
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """The last samples; the clock is asked now, which takes a microsecond."""
        disk, gpus, clock = self._disk(), self._gpus() or {}, self._clock()
        yield _sample("disk_free_bytes", disk.free_bytes if disk else None, "state")
        yield _sample("disk_size_bytes", disk.size_bytes if disk else None, "state")
        yield _list_samples("device_memory_bytes", {device: gpu.reserved_bytes for device, gpu in gpus.items()})
        each = gpus.values()
        yield _list_samples("gpu_utilisation_ratio", {gpu.index: gpu.utilisation_ratio for gpu in each})
        yield _list_samples("gpu_memory_used_bytes", {gpu.index: gpu.memory_used_bytes for gpu in each})
        yield _list_samples("gpu_memory_total_bytes", {gpu.index: gpu.memory_total_bytes for gpu in each})
        yield _list_samples("gpu_temperature_celsius", {gpu.index: gpu.temperature_celsius for gpu in each})
        yield _list_samples("gpu_power_watts", {gpu.index: gpu.power_watts for gpu in each})
        yield _sample("clock_synchronised", clock.synchronised if clock else None)
        yield _sample("clock_error_seconds", clock.error_s if clock else None)


def _counter(name: str) -> CounterMetricFamily:
    row = BY_NAME[name]
    return CounterMetricFamily(PREFIX + name, row.text, labels=list(row.labels))


def _gauge(name: str) -> GaugeMetricFamily:
    row = BY_NAME[name]
    return GaugeMetricFamily(PREFIX + name, row.text, labels=list(row.labels))


def _list_samples(name: str, values: Mapping[str, float | None]) -> Metric:
    """Samples by the one label; none of a value that is not known."""
    family = _gauge(name)
    for label, value in values.items():
        if value is not None:
            family.add_metric([label], value)
    return family


def _sample(name: str, value: float | None, *labels: str) -> Metric:
    """One sample, or none where the value is not known."""
    family = _gauge(name)
    if value is not None:
        family.add_metric(labels, value)
    return family
