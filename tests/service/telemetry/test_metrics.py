"""What Prometheus reads: every documented name, no series too many, and what is counted along the flow."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from math import prod
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inspector import __version__
from inspector.config import SOCKETS
from inspector.errors import UnidentifiedFrameError
from inspector.service.control.starts import AFTER
from inspector.service.flow.judges import Judge
from inspector.service.flow.ledger import Ledger, Ticket
from inspector.service.telemetry.catalogue import BY_NAME, ROWS
from inspector.service.telemetry.health import State
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.wire import FrameDecoder
from inspector.types import Frame, Reason, Result, Verdict

Accept = Callable[..., Ticket]
MakeResult = Callable[..., Result]
Value = Callable[..., float | None]
Whole = Any  # conftest's

STAGES = ("capture", "queue", "preprocess", "infer", "decide", "journal", "publish", "total")


def read_documented() -> dict[str, set[str]]:
    """Names of the catalogue, each with its labels."""
    return {row.name: set(row.labels) for row in ROWS}


def exposed(registry: CollectorRegistry) -> set[str]:
    """Names of the metrics a scrape has, without prefix, samples or none."""
    text = generate_latest(registry).decode()
    return {
        name for name in re.findall(r"^# TYPE inspector_(\S+)", text, re.MULTILINE) if not name.endswith("_created")
    }


def test_documented_names_are_those_exposed_when_scraped(registry: CollectorRegistry, whole: Whole) -> None:
    documented = read_documented()
    assert len(documented) >= 50
    assert set(documented) == exposed(registry)


def test_documented_labels_are_those_there_when_everything_happened(
    registry: CollectorRegistry, whole: Whole, metrics: Metrics, ledger: Ledger, accept: Accept, make_frame: Any,
    make_result: MakeResult, make_judge: Callable[..., Judge],
) -> None:  # fmt: skip
    whole.judges.switch({"top": make_judge(good_scores=(0.4, 0.7))})
    ledger.close(accept("x"), Verdict.PASS, Reason.OK)
    ledger.deadlines_ms["part/body"] = 60_000
    ledger.close(accept("p1", "part/body"), Verdict.ERROR, Reason.VIEW_MISSING)
    metrics.last_frame(make_frame("x"))
    for _ in range(20):
        metrics.published(make_result(latency_ms={"total": 1.0}))
    metrics.published(make_result(camera="part/body", latency_ms={"total": 1.0}))
    metrics.certificate_expiry.labels("http").set(1)
    metrics.tiles.labels("cuda:0").inc()
    labels: dict[str, set[str]] = {}
    for family in registry.collect():
        name = family.name.removeprefix("inspector_") + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for sample in family.samples:
            labels.setdefault(name, set()).update(set(sample.labels) - {"le"})
    ours = {name: found for name, found in labels.items() if not name.startswith("process_")}
    assert ours == read_documented()


def test_closed_sets_are_those_of_the_code() -> None:
    assert set(BY_NAME["stage_duration_seconds"].labels["stage"]) == set(STAGES)
    assert BY_NAME["state"].labels["inspector_state"] == tuple(State)
    assert BY_NAME["starts_total"].labels["after"] == AFTER
    assert set(BY_NAME["results_total"].labels["verdict"]) == set(Verdict)


# ---------------------------------------------------------------- how many series


def test_series_are_bounded_by_cameras_and_closed_sets_when_what_comes_is_hostile(
    registry: CollectorRegistry, whole: Whole, metrics: Metrics, ledger: Ledger, make_frame: Callable[..., Frame],
    make_result: MakeResult, make_judge: Callable[..., Judge],
) -> None:  # fmt: skip
    decoder = FrameDecoder(whole.station.cameras, 1000)
    hostile = ['"}\n', "\\", "é" * 200, "\0", "", "__name__", "top"]
    for number in range(3000):
        text = f"{hostile[number % len(hostile)]}{number}"
        camera = ("top", "side")[number % 2]
        reason = list(Reason)[number % len(Reason)]
        verdict = {Reason.OK: Verdict.PASS, Reason.DEFECT: Verdict.FAIL}.get(reason, Verdict.ERROR)
        frame = make_frame(text, camera, part_id=text, trigger_id=text)
        ledger.close(ledger.accept(frame), verdict, reason)
        metrics.last_frame(frame)
        metrics.published(
            make_result(
                camera=camera,
                frame_id=text,
                part_id=text,
                trigger_id=text,
                message=text,
                verdict=verdict,
                reason=reason,
                score=float(number),
                recipe_sha256=text,
                latency_ms=dict.fromkeys(STAGES, 1.0),
            )
        )
        with pytest.raises(UnidentifiedFrameError) as refused:
            decoder.decode([json.dumps({"camera": text, "frame_id": text}).encode(), b""])
        metrics.frames_unidentified.labels(refused.value.cause).inc()
        whole.judges.switch({camera: make_judge(recipe_id=f"lens{number}", good_scores=(0.4, 0.7))})
    samples = [sample for family in registry.collect() for sample in family.samples]
    ours = [sample for sample in samples if sample.name.startswith("inspector_")]
    closed = {
        "camera": {"top", "side"},
        "stage": set(STAGES),
        "verdict": set(Verdict),
        "reason": {reason.name for reason in Reason},
        "cause": {cause for row in ROWS for cause in row.labels.get("cause", ())},
        "socket": {*SOCKETS, "http"},
        "level": {"warning", "error"},
        "outcome": {"switched", "applied", "refused"},
        "inspector_state": set(State),
        "after": set(AFTER),
        "quantile": {"0.5", "0.95"},
        "directory": {"state"},
        "gpu": {"0"},
        "device": {"cuda:0", "cuda:1"},
        "station": {"press-3"},
    }
    for sample in ours:
        if sample.name not in {"inspector_recipe_info", "inspector_build_info"}:
            assert all(value in closed[name] for name, value in sample.labels.items() if name != "le"), sample
    assert len(ours) <= count_allowed(cameras=2, edges=17)


def count_allowed(*, cameras: int, edges: int) -> int:
    """The most series there can be: per camera its histograms (edges, infinity, sum, count, created) and the rest."""
    stages, score, per_reason = len(STAGES) * (edges + 4), 16 + 4, len(Reason)
    per_camera = stages + score + per_reason + 40
    names = ("handshakes_refused_total", "messages_refused_total", "http_requests_refused_total")
    refusals = sum(prod(map(len, BY_NAME[name].labels.values())) for name in names)
    return cameras * per_camera + 2 * refusals + 100  # each with its time of creation


# ---------------------------------------------------------------- what is counted


def test_cameras_are_there_at_zero_when_nothing_came(whole: Whole, value: Value) -> None:
    for camera in ("top", "side"):
        for name in (
            "frames_received_total",
            "frames_in_flight",
            "consecutive_rejects",
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
    for name in ("evidence_bytes", "results_lagging_total", "journal_errors_total"):
        assert value(name) == 0, name


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


def test_part_is_counted_by_its_time_alone_when_published(make_result: MakeResult) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, {"top": 1000, "part/body": 700, "part/door": 2000})
    for total_ms in (699.0, 700.0, 701.0):
        metrics.published(
            make_result(camera="part/body", latency_ms={"journal": 1.0, "total": total_ms}, verdict=Verdict.FAIL)
        )

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"inspector_{name}", labels)

    edges = ("0.5", "0.7", "1.0")
    assert [read("part_duration_seconds_bucket", part="body", le=edge) for edge in edges] == [0, 2, 3]
    assert read("part_duration_seconds_sum", part="body") == pytest.approx(2.1)
    assert read("part_duration_seconds_count", part="door") == 0  # there before its first
    for name in ("consecutive_rejects", "score_count"):
        assert read(name, camera="part/body") is None, name
    assert read("stage_duration_seconds_count", camera="part/body", stage="total") is None
    assert read("consecutive_rejects", camera="top") == 0
    metrics.published(make_result(latency_ms={"total": 1.0}))
    assert read("stage_duration_seconds_bucket", camera="top", stage="total", le="0.7") is None  # no camera's deadline


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


def test_rejects_in_a_row_are_ended_by_a_pass_and_not_by_an_error(
    metrics: Metrics, make_result: MakeResult, value: Value
) -> None:
    shown = []
    for verdict in (Verdict.FAIL, Verdict.FAIL, Verdict.ERROR, Verdict.FAIL, Verdict.PASS, Verdict.FAIL):
        metrics.published(make_result(verdict=verdict))
        shown.append(value("consecutive_rejects", camera="top"))
    assert shown == [1, 2, 2, 3, 0, 1]
    assert value("consecutive_rejects", camera="side") == 0


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
    other.journal_errors.inc(5)
    assert value("journal_errors_total") == 0
