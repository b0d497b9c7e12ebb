"""Prometheus metrics that are counted along the flow. Base units, labels from closed sets."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from inspector import __version__
from inspector.service.telemetry.catalogue import BY_NAME, CAMERAS, PARTS, PREFIX, Values
from inspector.service.telemetry.recent_scores import RecentScores
from inspector.types import PART_PREFIX, Frame, Result, Verdict

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BUCKETS_SCORE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)


class Metrics:
    """All metrics of a station that are counted, in a registry that is passed in; `catalogue` says what each means."""

    def __init__(self, registry: CollectorRegistry, deadlines_ms: Mapping[str, int]) -> None:
        """Register them; `deadlines_ms` of each camera and part, as `Station.deadlines_ms` names them."""
        cameras = {name: ms for name, ms in deadlines_ms.items() if not name.startswith(PART_PREFIX)}
        windows_ms = {name.removeprefix(PART_PREFIX): deadlines_ms[name] for name in deadlines_ms.keys() - cameras}
        names = {CAMERAS: tuple(cameras), PARTS: tuple(windows_ms)}

        def counter(name: str) -> Counter:
            return _build(Counter, name, registry, names)

        def gauge(name: str) -> Gauge:
            return _build(Gauge, name, registry, names)

        def histogram(name: str, buckets: Iterable[float]) -> Histogram:
            return _build(Histogram, name, registry, names, buckets=tuple(buckets))

        self.stage = histogram("stage_duration_seconds", _list_edges(cameras))
        self.part_duration = histogram("part_duration_seconds", _list_edges(windows_ms))
        self.score = histogram("score", _BUCKETS_SCORE)
        self._recent_scores = RecentScores()
        registry.register(self._recent_scores)
        self.consecutive_rejects = gauge("consecutive_rejects")
        self.tiles = counter("tiles_total")
        self.warnings = counter("warnings_total")
        self.abandoned = counter("frames_abandoned_total")
        self.frames_unidentified = counter("frames_unidentified_total")
        self.messages_refused = counter("messages_refused_total")
        self.handshakes_refused = counter("handshakes_refused_total")
        self.oldest_key = gauge("oldest_key_timestamp_seconds")
        self.oldest_key.set(float("nan"))
        self.source_up = gauge("source_up")
        self.frames_missing = counter("frames_missing_total")
        self.camera_offline = gauge("camera_offline")
        self.source_reconnects = counter("source_reconnects_total")
        self.last_frame_timestamp = gauge("last_frame_timestamp_seconds")
        self.overlays_dropped = counter("overlays_dropped_total")
        self.evidence_bytes = gauge("evidence_bytes")
        self.evidence_suspended = gauge("evidence_suspended")
        self.evidence_written = counter("evidence_written_total")
        self.evidence_dropped = counter("evidence_dropped_total")
        self.results_lagging = counter("results_lagging_total")
        self.results_late = counter("results_late_total")
        self.journal_errors = counter("journal_errors_total")
        self.journal_lost = counter("journal_lost_total")
        self.journal_backlog = gauge("journal_backlog")
        self.journal_commit = histogram("journal_commit_seconds", _BUCKETS_S)
        self.recipe_switches = counter("recipe_switches_total")
        self.http_requests_refused = counter("http_requests_refused_total")
        self.certificate_expiry = gauge("certificate_expiry_timestamp_seconds")
        self.log_messages = counter("log_messages_total")
        self.reloads = counter("reloads_total")
        ProcessCollector(registry=registry)  # resident memory, open descriptors, CPU, start time
        Info(f"{PREFIX}build", BY_NAME["build_info"].text, registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )

    def last_frame(self, frame: Frame) -> None:
        """Note the arrival of a frame."""
        self.last_frame_timestamp.labels(frame.camera).set(frame.received_utc_ns / 1e9)

    def published(self, result: Result) -> None:
        """Note a result on its way out; of a part its time alone: stages and scores are its views'."""
        if result.camera.startswith(PART_PREFIX):
            part = result.camera.removeprefix(PART_PREFIX)
            self.part_duration.labels(part).observe(result.latency_ms["total"] / 1000)
            return
        for stage, milliseconds in result.latency_ms.items():
            self.stage.labels(result.camera, stage).observe(milliseconds / 1000)
        if result.score is not None and result.threshold:
            share = result.score / result.threshold
            self.score.labels(result.camera).observe(share)
            self._recent_scores.note(result.camera, result.recipe_sha256, share)
        if result.warn:
            self.warnings.labels(result.camera).inc()
        if result.verdict is Verdict.FAIL:
            self.consecutive_rejects.labels(result.camera).inc()
        elif result.verdict is Verdict.PASS:
            self.consecutive_rejects.labels(result.camera).set(0)


_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)


def _list_edges(limits_ms: Mapping[str, int]) -> list[float]:
    """Of buckets: one at each limit too, so that "in time" can be read off exactly."""
    return sorted({*_BUCKETS_S, *(ms / 1000 for ms in limits_ms.values())})


def _build(
    kind: type[_Kind], name: str, registry: CollectorRegistry, names: Mapping[Values, Values], **options: Any
) -> _Kind:
    """The metric of a row, with a series for whatever its closed sets can be."""
    row = BY_NAME[name]
    made = kind(PREFIX + name.removesuffix("_total"), row.text, tuple(row.labels), registry=registry, **options)
    values = [names.get(each, each) for each in row.labels.values()]
    for labels in itertools.product(*values) if values else ():
        made.labels(*labels)
    return made
