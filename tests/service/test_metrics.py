"""What Prometheus reads: every documented name, and an account that balances at every scrape."""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inspector import __version__
from inspector.service.health import State
from inspector.service.ledger import Ledger, Ticket
from inspector.service.metrics import FlowCollector, Metrics
from inspector.types import Frame, Reason, Result, Verdict

Accept = Callable[..., Ticket]
MakeResult = Callable[..., Result]
Value = Callable[..., float | None]

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def flow(registry: CollectorRegistry, ledger: Ledger) -> SimpleNamespace:
    """What the flow is like at the next scrape; its collector is registered."""
    flow = SimpleNamespace(buffer_bytes=0, device_memory_bytes=0, state=State.STARTING)
    registry.register(
        FlowCollector(
            ledger,
            buffer_bytes=lambda: flow.buffer_bytes,
            device_memory_bytes=lambda: flow.device_memory_bytes,
            state=lambda: flow.state,
        )
    )
    return flow


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """One sample as a scrape shows it; None where there is none."""
    return lambda name, **labels: registry.get_sample_value(f"inspector_{name}", labels)


def read_documented() -> dict[str, set[str]]:
    """Names of the README's paragraph, without prefix, and the labels it writes behind them."""
    (paragraph,) = re.findall(r"Prefix `inspector_`: (.*?)\n\n", README.read_text(encoding="utf-8"), re.DOTALL)
    found = re.findall(r"`([a-z_]+)(?:\{([a-z_,]+)\})?`", paragraph)
    return {name: set(labels.split(",")) - {""} for name, labels in found}


def exposed(registry: CollectorRegistry) -> set[str]:
    """Names of the metrics a scrape has, without prefix, samples or none."""
    text = generate_latest(registry).decode()
    return {
        name for name in re.findall(r"^# TYPE inspector_(\S+)", text, re.MULTILINE) if not name.endswith("_created")
    }


def test_documented_names_are_those_exposed_when_scraped(
    registry: CollectorRegistry, metrics: Metrics, flow: SimpleNamespace
) -> None:
    documented = read_documented()
    assert len(documented) >= 20
    assert set(documented) == exposed(registry)


def test_documented_labels_are_there_when_something_happened(
    registry: CollectorRegistry, metrics: Metrics, flow: SimpleNamespace, ledger: Ledger, accept: Accept,
    make_result: MakeResult,
) -> None:  # fmt: skip
    ledger.close(accept("x"), Verdict.PASS, Reason.OK)
    metrics.published(make_result(latency_ms={"total": 1.0}))
    labels: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels.setdefault(sample.name.removeprefix("inspector_"), set()).update(sample.labels)
    for name, wanted in read_documented().items():
        if wanted:
            assert wanted <= (labels.get(name) or labels[f"{name}_count"]), name


# ---------------------------------------------------------------- the account


def test_account_balances_for_each_camera_when_scraped(
    flow: SimpleNamespace, ledger: Ledger, accept: Accept, value: Value
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


def test_cameras_are_there_at_zero_when_nothing_came(metrics: Metrics, flow: SimpleNamespace, value: Value) -> None:
    for camera in ("top", "side"):
        for name in (
            "frames_received_total",
            "frames_in_flight",
            "frames_abandoned_total",
            "evidence_dropped_total",
            "evidence_written_total",
            "overlays_dropped_total",
            "source_reconnects_total",
            "source_up",
            "warnings_total",
        ):
            assert value(name, camera=camera) == 0, name
    for cause in ("parts", "header", "camera"):
        assert value("frames_unidentified_total", cause=cause) == 0
    for name in ("tiles_total", "evidence_bytes", "results_lagging_total", "journal_errors_total"):
        assert value(name) == 0, name


def test_account_balances_at_every_scrape_when_frames_flow(
    registry: CollectorRegistry, flow: SimpleNamespace, ledger: Ledger, make_frame: Callable[..., Frame]
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


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize("state", list(State))
def test_state_is_one_for_the_state_the_station_is_in(flow: SimpleNamespace, value: Value, state: State) -> None:
    flow.state = state
    values = {each: value("state", inspector_state=each.value) for each in State}
    assert values == {each: float(each is state) for each in State}


def test_memory_is_read_off_the_flow_when_scraped(flow: SimpleNamespace, value: Value) -> None:
    flow.buffer_bytes, flow.device_memory_bytes = 12, 34
    assert (value("buffer_bytes"), value("device_memory_bytes")) == (12, 34)
    flow.buffer_bytes, flow.device_memory_bytes = 0, 35
    assert (value("buffer_bytes"), value("device_memory_bytes")) == (0, 35)


def test_stages_are_counted_in_seconds_when_published(metrics: Metrics, make_result: MakeResult, value: Value) -> None:
    metrics.published(make_result(latency_ms={"queue": 3.0, "total": 250.0}))
    metrics.published(make_result(latency_ms={"queue": 5.0}))
    assert value("stage_duration_seconds_sum", camera="top", stage="queue") == pytest.approx(0.008)
    assert value("stage_duration_seconds_count", camera="top", stage="queue") == 2
    assert value("stage_duration_seconds_sum", camera="top", stage="total") == 0.25
    assert value("stage_duration_seconds_sum", camera="side", stage="queue") is None


def test_share_in_time_can_be_read_off_when_buckets_have_an_edge_at_each_deadline(make_result: MakeResult) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"top": 1234, "side": 40})
    for total_ms in (1233.0, 1234.0, 1235.0):
        metrics.published(make_result(latency_ms={"total": total_ms}))

    def within(edge: str) -> float | None:
        labels = {"camera": "top", "stage": "total", "le": edge}
        return registry.get_sample_value("inspector_stage_duration_seconds_bucket", labels)

    assert (within("1.0"), within("1.234"), within("2.5")) == (0, 2, 3)
    assert within("0.04") == 0


def test_score_is_a_share_of_the_threshold_when_published(
    metrics: Metrics, make_result: MakeResult, value: Value
) -> None:
    for score in (3.0, 4.0, 4.1):
        metrics.published(make_result(score=score, threshold=4.0))
    metrics.published(make_result(score=None))
    metrics.published(make_result(score=None, threshold=None))
    assert value("score_bucket", camera="top", le="1.0") == 2
    assert value("score_count", camera="top") == 3
    assert value("score_sum", camera="top") == pytest.approx(11.1 / 4)


def test_warnings_are_counted_when_published(metrics: Metrics, make_result: MakeResult, value: Value) -> None:
    for warn in (True, False, True):
        metrics.published(make_result(warn=warn))
    metrics.published(make_result(warn=True, camera="side"))
    assert (value("warnings_total", camera="top"), value("warnings_total", camera="side")) == (2, 1)


def test_last_frame_is_in_seconds_of_wall_clock_when_received(
    metrics: Metrics, make_frame: Callable[..., Frame], value: Value
) -> None:
    metrics.last_frame(make_frame("f1", "side", received_utc_ns=1_700_000_000_250_000_000))
    assert value("last_frame_timestamp_seconds", camera="side") == pytest.approx(1_700_000_000.25, rel=0, abs=1e-6)
    assert value("last_frame_timestamp_seconds", camera="top") is None


def test_versions_are_those_that_run_when_scraped(metrics: Metrics, value: Value) -> None:
    assert value("build_info", version=__version__, python=platform.python_version()) == 1


def test_two_stations_keep_their_metrics_apart_when_each_has_a_registry(metrics: Metrics, value: Value) -> None:
    other = Metrics(CollectorRegistry(), {"top": 1000})
    other.tiles.inc(5)
    assert value("tiles_total") == 0
