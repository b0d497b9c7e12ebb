"""What is read off the station at each scrape: an account that balances, the station's settings, recipes, the PC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.service.collectors import FlowCollector, SourceCollector
from inspector.service.flow.judges import Judge
from inspector.service.flow.ledger import Ledger, Ticket
from inspector.service.telemetry.clock import Clock
from inspector.service.telemetry.disk import DiskUsage
from inspector.service.telemetry.gpu import GpuSample
from inspector.service.telemetry.health import State
from inspector.sources.report import CameraReport, Ptp
from inspector.types import Frame, Reason, Verdict

Accept = Callable[..., Ticket]
Value = Callable[..., float | None]
Whole = Any  # conftest's


# ---------------------------------------------------------------- the account


def test_account_balances_for_each_camera_when_scraped(
    whole: Whole, ledger: Ledger, accept: Accept, value: Value
) -> None:
    for verdict, reason in ((Verdict.PASS, Reason.OK), (Verdict.PASS, Reason.OK), (Verdict.ERROR, Reason.DEADLINE)):
        ledger.close(accept("x", "top"), verdict, reason)
    accept("open", "top")
    accept("open", "side")
    assert value("frames_received_total", camera="top") == 4
    assert value("results_total", camera="top", verdict="PASS", reason="OK") == 2
    assert value("results_total", camera="top", verdict="ERROR", reason="DEADLINE") == 1
    assert value("frames_in_flight", camera="top") == 1
    assert value("frames_received_total", camera="side") == 1
    assert value("frames_in_flight", camera="side") == 1


def test_parts_are_counted_beside_frames_and_balance(whole: Whole, make_frame: Callable[..., Frame]) -> None:
    ledger = Ledger({"top": 1000, "part/body": 1000, "part/door": 1000})
    own = CollectorRegistry()
    own.register(FlowCollector(ledger, whole.buffer, lambda: State.READY))
    first = ledger.accept(make_frame("p1", "part/body"))
    ledger.accept(make_frame("p2", "part/body"))
    ledger.accept(make_frame("f1", "top"))
    ledger.close(first, Verdict.ERROR, Reason.VIEW_MISSING)

    def read(name: str, **labels: str) -> float | None:
        return own.get_sample_value(f"inspector_{name}", labels)

    assert [read("parts_total", part=part) for part in ("body", "door")] == [2, 0]
    assert [read("parts_open", part=part) for part in ("body", "door")] == [1, 0]
    assert read("part_results_total", part="body", verdict="ERROR", reason="VIEW_MISSING") == 1
    assert read("part_results_total", part="door", verdict="PASS", reason="OK") == 0
    assert read("frames_received_total", camera="top") == 1
    for name in ("frames_received_total", "frames_in_flight", "triggers_total"):
        assert read(name, camera="part/body") is None, name
    assert read("results_total", camera="part/body", verdict="ERROR", reason="VIEW_MISSING") is None


def test_account_balances_at_every_scrape_when_frames_flow(
    registry: CollectorRegistry, whole: Whole, ledger: Ledger, make_frame: Callable[..., Frame]
) -> None:
    def run(camera: str, verdict: Verdict, reason: Reason) -> None:
        for number in range(1000):
            ticket = ledger.accept(make_frame(f"f{number}", camera))
            if number % 10:
                ledger.close(ticket, verdict, reason)

    threads = [
        threading.Thread(target=run, args=args)
        for args in (("top", Verdict.PASS, Reason.OK), ("side", Verdict.ERROR, Reason.OVERLOAD))
    ]
    for thread in threads:
        thread.start()
    scrapes = []
    while any(thread.is_alive() for thread in threads):
        scrapes.append(read_account(registry))
    for thread in threads:
        thread.join(10)
    scrapes.append(read_account(registry))
    for account in scrapes:
        for camera in ("top", "side"):
            received, answered, in_flight = account[camera]
            assert received == answered + in_flight
    assert scrapes[-1] == {"top": [1000, 900, 100], "side": [1000, 900, 100]}


def read_account(registry: CollectorRegistry) -> dict[str, list[float]]:
    """Of each camera: received, answered, in flight."""
    columns = {"inspector_frames_received_total": 0, "inspector_results_total": 1, "inspector_frames_in_flight": 2}
    account = {"top": [0.0] * 3, "side": [0.0] * 3}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in columns:
                account[sample.labels["camera"]][columns[sample.name]] += sample.value
    return account


# ---------------------------------------------------------------- the rest of the flow


def test_results_are_there_at_zero_for_every_reason_when_nothing_came(whole: Whole, value: Value) -> None:
    verdicts = {Reason.OK: "PASS", Reason.DEFECT: "FAIL"}
    for reason in Reason:
        labels = {"verdict": verdicts.get(reason, "ERROR"), "reason": reason.name}
        assert value("results_total", camera="side", **labels) == 0, reason


@pytest.mark.parametrize("state", list(State))
def test_state_is_one_for_the_state_the_station_is_in(whole: Whole, value: Value, state: State) -> None:
    whole.state = state
    values = {each: value("state", inspector_state=each.value) for each in State}
    assert values == {each: float(each is state) for each in State}


def test_buffer_is_read_off_the_flow_when_scraped(whole: Whole, accept: Accept, value: Value) -> None:
    assert (value("buffer_frames"), value("buffer_bytes"), value("buffer_max_bytes")) == (0, 0, 1000)
    for camera in ("top", "side", "top"):
        whole.buffer.put(accept("x", camera))
    assert (value("buffer_frames"), value("buffer_bytes")) == (3, 30)


def test_scrape_waits_for_nobody_when_the_flow_holds_the_buffer(whole: Whole, registry: CollectorRegistry) -> None:
    scraping = threading.Thread(target=lambda: list(registry.collect()))
    with whole.buffer._changed:
        scraping.start()
        scraping.join(5)
        assert not scraping.is_alive()


# ---------------------------------------------------------------- the station


def test_settings_are_those_of_the_station_file_when_it_was_read_again(
    whole: Whole, value: Value, make_station: Callable[..., Any]
) -> None:
    assert value("station_info", station="press-3") == 1
    assert (value("deadline_seconds", camera="top"), value("deadline_seconds", camera="side")) == (60, 60)
    assert value("expected_frames_per_second", camera="top") == 2.5
    assert value("expected_frames_per_second", camera="side") is None
    assert value("evidence_max_bytes") == 20 * 1024**3
    whole.station = make_station(
        cameras={"top": {"deadline_ms": 250}, "side": {"expected_fps": 0.1}}, evidence={"max_bytes": "1MiB"}
    )
    assert (value("deadline_seconds", camera="top"), value("deadline_seconds", camera="side")) == (0.25, 2)
    assert value("expected_frames_per_second", camera="top") is None
    assert value("expected_frames_per_second", camera="side") == 0.1
    assert value("evidence_max_bytes") == 1024**2


def test_starts_are_there_at_zero_when_none_was_of_that_kind(whole: Whole, value: Value) -> None:
    assert value("starts_total", after="first") == 1
    assert [value("starts_total", after=after) for after in ("stop", "fault", "kill")] == [0, 0, 0]


# ---------------------------------------------------------------- recipes


def test_calibration_is_a_share_of_the_threshold_when_the_recipe_has_one(
    whole: Whole, value: Value, make_judge: Callable[..., Judge]
) -> None:
    whole.judges.switch({"top": make_judge(threshold=4.0, good_scores=(1.0, 3.0)), "side": make_judge()})
    assert value("threshold", camera="top") == 4
    assert value("calibration_score", camera="top", quantile="0.5") == 0.25
    assert value("calibration_score", camera="top", quantile="0.95") == 0.75
    assert value("calibration_score", camera="side", quantile="0.5") is None


def test_nothing_of_the_old_recipe_is_left_when_it_was_switched(
    whole: Whole, registry: CollectorRegistry, value: Value, make_judge: Callable[..., Judge]
) -> None:
    whole.judges.switch({"top": make_judge(recipe_id="old", good_scores=(0.4, 0.7))})
    whole.judges.switch({"top": make_judge(recipe_id="new", threshold=7.0)})
    samples = [sample for family in registry.collect() for sample in family.samples]
    (about,) = [sample.labels for sample in samples if sample.name == "inspector_recipe_info"]
    assert (about["recipe_id"], about["threshold_set_by"], about["fallback"]) == ("new", "hand", "none")
    assert [s.value for s in samples if s.name == "inspector_threshold"] == [7]
    assert [s for s in samples if s.name == "inspector_calibration_score"] == []


# ---------------------------------------------------------------- the PC

NAMES = (
    "disk_free_bytes",
    "disk_size_bytes",
    "device_memory_bytes",
    "gpu_utilisation_ratio",
    "gpu_memory_used_bytes",
    "gpu_memory_total_bytes",
    "gpu_temperature_celsius",
    "gpu_power_watts",
    "clock_synchronised",
    "clock_error_seconds",
)


def read(registry: CollectorRegistry) -> dict[str, tuple[dict[str, str], float]]:
    """Labels and value of each of `NAMES` that is there."""
    samples = {s.name.removeprefix("inspector_"): (s.labels, s.value) for f in registry.collect() for s in f.samples}
    return {name: samples[name] for name in NAMES if name in samples}


def test_machine_is_shown_when_it_is_known(whole: Whole, registry: CollectorRegistry) -> None:
    whole.disk = DiskUsage(5, 10)
    whole.gpus = {"cuda:0": GpuSample("0", 1, 0.5, 2, 3, 60, 70.5)}
    whole.clock = Clock(synchronised=False, error_s=0.002)
    state, device, gpu = {"directory": "state"}, {"device": "cuda:0"}, {"gpu": "0"}
    values = [
        (state, 5),
        (state, 10),
        (device, 1),
        (gpu, 0.5),
        (gpu, 2),
        (gpu, 3),
        (gpu, 60),
        (gpu, 70.5),
    ]
    assert read(registry) == dict(zip(NAMES, [*values, ({}, 0), ({}, 0.002)], strict=True))


def test_machine_is_absent_when_nothing_is_known(whole: Whole, registry: CollectorRegistry) -> None:
    whole.disk = whole.gpus = whole.clock = None
    assert read(registry) == {}
    whole.gpus = {"cpu": GpuSample(reserved_bytes=0)}
    assert read(registry) == {"device_memory_bytes": ({"device": "cpu"}, 0)}


def test_each_gpu_has_its_own_figures_when_there_are_several(whole: Whole, value: Value) -> None:
    whole.gpus = {"cuda:0": GpuSample("0", 1, 0.5, 2), "cuda:1": GpuSample("1", 10, None, 20)}
    assert [value("device_memory_bytes", device=name) for name in whole.gpus] == [1, 10]
    assert [value("gpu_memory_used_bytes", gpu=index) for index in "01"] == [2, 20]
    assert [value("gpu_utilisation_ratio", gpu=index) for index in "01"] == [0.5, None]


def test_device_of_each_camera_is_told(whole: Whole, value: Value) -> None:
    assert value("camera_device", camera="top", device="cuda:0") == 1
    assert value("camera_device", camera="side", device="cuda:1") == 1
    assert value("camera_device", camera="top", device="cuda:1") is None


def test_clock_is_the_kernels_when_read() -> None:
    from inspector.service.telemetry.clock import read_clock

    clock = read_clock()
    assert clock is None or 0 <= clock.error_s <= 16.5


def test_disk_is_that_of_the_folder_when_read(tmp_path: Path) -> None:
    from inspector.service.telemetry.disk import read_disk

    usage = read_disk(tmp_path)
    assert 0 < usage.free_bytes <= usage.size_bytes


def test_missed_triggers_and_ptp_are_there_only_of_cameras_that_are_asked() -> None:
    reports = {
        "top": CameraReport(is_connected=True, triggers_missed=3, ptp=Ptp("Slave", None)),
        "side": CameraReport(is_connected=True, ptp=Ptp("Listening", None)),
        "end": CameraReport(is_connected=True),
    }
    registry = CollectorRegistry()
    registry.register(SourceCollector(lambda: reports))
    samples = {(s.name, s.labels["camera"]): s.value for f in registry.collect() for s in f.samples}
    assert samples == {
        ("inspector_triggers_missed_total", "top"): 3,
        ("inspector_camera_ptp_locked", "top"): 1,
        ("inspector_camera_ptp_locked", "side"): 0,
    }
