"""The overlay thread: draws what the publisher hands it, off the verdict path; gives way when it cannot keep up."""

from __future__ import annotations

import logging
import queue
import threading

from inspector.config import Overlays
from inspector.service.flow.ledger import Outcome
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.rate_limit import RateLimitedLog
from inspector.sinks.overlays import OverlaysSocket, render_overlay
from inspector.types import Result, Verdict

logger = logging.getLogger(__name__)

_WAITING = 4
"""Frames that may wait to be drawn; each holds its pixels."""


class Overlayer(threading.Thread):
    """Renders and publishes overlays."""

    def __init__(self, socket: OverlaysSocket, config: Overlays, *, health: Health, metrics: Metrics) -> None:
        super().__init__(name="overlays", daemon=True)
        self._socket = socket
        self.config = config
        self._health = health
        self._metrics = metrics
        self._waiting: queue.Queue[tuple[Outcome, Result]] = queue.Queue(_WAITING)
        self._stop_asked = threading.Event()
        self._log = RateLimitedLog(logger)

    def offer(self, outcome: Outcome, result: Result) -> None:
        """Draw this one, if wanted and if there is room; never waits."""
        wanted = self.config.frames == "all" or (self.config.frames == "fail" and result.verdict is Verdict.FAIL)
        if not wanted or outcome.ticket.frame.pixels is None:
            return
        try:
            self._waiting.put_nowait((outcome, result))
        except queue.Full:
            self._metrics.overlays_dropped.labels(result.camera).inc()

    def stop(self) -> None:
        """Ask it to end once all that waits is drawn; the caller joins."""
        self._stop_asked.set()

    def run(self) -> None:
        """Until asked to stop. A picture that fails costs a picture, never the flow."""
        while not (self._stop_asked.is_set() and self._waiting.empty()):
            self._health.beat(self.name, vital=False)
            self._log.flush_due()
            try:
                outcome, result = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self._draw(outcome, result)
            except Exception:  # noqa: BLE001 (logged with its traceback, once a period)
                message = f"camera {result.camera}, frame {result.frame_id}: overlay failed"
                self._log.log(logging.ERROR, "overlay", message, exc_info=True, camera=result.camera)
                self._metrics.overlays_dropped.labels(result.camera).inc()
        self._log.flush()
        self._health.forget(self.name)

    def _draw(self, outcome: Outcome, result: Result) -> None:
        frame, judgement = outcome.ticket.frame, outcome.judgement
        if frame.pixels is None:
            return
        picture = render_overlay(
            frame.pixels,
            frame.pixel_format,
            judgement.anomaly_map if judgement else None,
            describe_result(result),
            result.threshold,
            result.regions,
            result.verdict,
            self.config.width,
        )
        self._socket.publish(result.camera, result.to_wire(), picture, self.config.quality)


def describe_result(result: Result) -> str:
    """The banner's text: camera, frame, score against threshold, a warning or the reason, and that it is simulated."""
    judged = "" if result.score is None else f"score {result.score:.4g} / {result.threshold:.4g}"
    if result.verdict is Verdict.ERROR:
        judged = f"{result.reason.name} {judged}".strip()
    if result.warn:
        judged = f"WARN {judged}"
    if result.simulated:
        judged = f"SIMULATED {judged}".strip()
    part = f" part {result.part_id}" if result.part_id else ""
    return f"{judged}  {result.camera} {result.frame_id}{part}  {len(result.regions)} region(s)"
