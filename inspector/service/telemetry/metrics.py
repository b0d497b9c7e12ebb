"""Prometheus metrics that are counted along the flow. Base units, labels from closed sets."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from inspector import __version__
from inspector.config import SOCKETS
from inspector.service.telemetry.recent_scores import RecentScores
from inspector.types import Frame, Result, Verdict

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
UNIDENTIFIED_CAUSES = ("parts", "header", "camera")
MESSAGE_CAUSES = ("parts", "rate", "permission")
HTTP_CAUSES = ("full", "timeout", "handshake", "size", "request", "method", "authentication", "throttled")
HANDSHAKE_CAUSES = ("unknown", "revoked", "role", "mechanism", "cryptography", "protocol", "incomplete")


class Metrics:
    """All metrics of a station, in a registry that is passed in."""

    def __init__(self, registry: CollectorRegistry, deadlines_ms: Mapping[str, int]) -> None:
        # A bucket edge at each deadline, so that "in time" can be read off exactly.
        buckets = sorted({*_BUCKETS_S, *(ms / 1000 for ms in deadlines_ms.values())})
        self.stage = Histogram(
            "inspector_stage_duration_seconds",
            "Time a frame spent in a stage.",
            ["camera", "stage"],
            buckets=buckets,
            registry=registry,
        )
        self.score = Histogram(
            "inspector_score",
            "Frame scores, as a share of the recipe's threshold: above 1 is a reject.",
            ["camera"],
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0),
            registry=registry,
        )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"inspector_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"inspector_{name}", text, labels, registry=registry)

        self.consecutive_rejects = gauge(
            "consecutive_rejects", "FAILs in a row: a PASS ends them, an ERROR does not.", "camera"
        )
        self._recent_scores = RecentScores()
        registry.register(self._recent_scores)
        self.tiles = counter("tiles", "Tiles judged.")
        self.warnings = counter("warnings", "Frames that passed with a score in the recipe's warn band.", "camera")
        self.abandoned = counter("frames_abandoned", "Frames given up while being judged: answered before.", "camera")
        self.frames_unidentified = counter(
            "frames_unidentified", "Messages refused that no camera of this station could be found for.", "cause"
        )
        self.messages_refused = counter(
            "messages_refused", "Messages not looked at: too fast, too many parts, key not for that.", "socket", "cause"
        )
        self.handshakes_refused = counter("handshakes_refused", "Connections not let in.", "socket", "cause")
        self.oldest_key = gauge("oldest_key_timestamp_seconds", "When the oldest key let in was made; NaN: none.")
        self.oldest_key.set(float("nan"))
        self.source_up = gauge("source_up", "1 while the camera's source is connected.", "camera")
        self.source_reconnects = counter("source_reconnects", "Times the source was lost or not there.", "camera")
        self.last_frame_timestamp = gauge(
            "last_frame_timestamp_seconds", "Wall clock time the last frame was received.", "camera"
        )
        self.overlays_dropped = counter("overlays_dropped", "Overlays given up: the renderer was busy.", "camera")
        self.evidence_bytes = gauge("evidence_bytes", "Bytes of the images and results kept as evidence.")
        self.evidence_suspended = gauge("evidence_suspended", "1 while too little of the disk is free to keep any.")
        self.evidence_written = counter("evidence_written", "Results kept as evidence.", "camera")
        self.evidence_dropped = counter("evidence_dropped", "Results wanted as evidence, but given up.", "camera")
        self.results_lagging = counter("results_lagging", "Times a subscriber lagged and began to lose messages.")
        self.results_late = counter("results_late", "Judged after the frame had been answered: discarded.", "camera")
        self.journal_errors = counter("journal_errors", "Failed writes to the journal.")
        self.journal_lost = counter("journal_lost", "Published results that never came on record: the disk took none.")
        self.journal_backlog = gauge("journal_backlog", "Published results that wait to come on record.")
        self.journal_commit = Histogram(
            "inspector_journal_commit_seconds", "Time of a durable commit.", buckets=_BUCKETS_S, registry=registry
        )
        self.recipe_switches = counter(
            "recipe_switches", "Recipes put in place at run time, or refused.", "camera", "outcome"
        )
        self.http_requests_refused = counter("http_requests_refused", "HTTP clients refused or given up.", "cause")
        self.certificate_expiry = gauge(
            "certificate_expiry_timestamp_seconds", "When the first certificate of a TLS socket expires.", "socket"
        )
        self.log_messages = counter("log_messages", "Lines logged; repeats held back are not counted.", "level")
        self.reloads = counter("reloads", "Station files read again and applied, or refused.", "outcome")
        ProcessCollector(registry=registry)  # resident memory, open descriptors, CPU, start time
        Info("inspector_build", "Versions.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        for camera in deadlines_ms:
            for labelled in (
                self.abandoned,
                self.consecutive_rejects,
                self.evidence_dropped,
                self.evidence_written,
                self.overlays_dropped,
                self.results_late,
                self.source_reconnects,
                self.source_up,
                self.warnings,
            ):
                labelled.labels(camera)
            for outcome in ("switched", "refused"):
                self.recipe_switches.labels(camera, outcome)
        for level in ("warning", "error"):
            self.log_messages.labels(level)
        for outcome in ("applied", "refused"):
            self.reloads.labels(outcome)
        for cause in UNIDENTIFIED_CAUSES:
            self.frames_unidentified.labels(cause)
        for socket in SOCKETS:
            for cause in HANDSHAKE_CAUSES:
                self.handshakes_refused.labels(socket, cause)
        for socket in ("frames", "imagezmq", "requests"):
            for cause in MESSAGE_CAUSES:
                self.messages_refused.labels(socket, cause)
        for cause in HTTP_CAUSES:
            self.http_requests_refused.labels(cause)

    def last_frame(self, frame: Frame) -> None:
        """Note a frame's arrival."""
        self.last_frame_timestamp.labels(frame.camera).set(frame.received_utc_ns / 1e9)

    def published(self, result: Result) -> None:
        """Note a result on its way out."""
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
