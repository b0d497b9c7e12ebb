"""The overlay thread: draws what the publisher hands it, off the verdict path; gives way when it cannot keep up."""

from __future__ import annotations

import logging
import queue

from inspector.config import Overlays, Station
from inspector.service.flow.ledger import Outcome
from inspector.service.orders.live import Live
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.sinks.overlays import OverlaysSocket, render_overlay
from inspector.types import Result, Verdict

_WAITING = 4
"""Frames that may wait to be drawn; each holds its pixels."""


class Overlayer(Part):
    """Renders and publishes overlays, and live pictures where somebody asked for them."""

    is_vital = False

    def __init__(
        self, socket: OverlaysSocket, config: Overlays, *, live: Live, health: Health, metrics: Metrics
    ) -> None:
        super().__init__("overlays", health=health)
        self._live = live
        self._socket = socket
        self.config = config
        self._metrics = metrics
        self._waiting: queue.Queue[tuple[Outcome, Result]] = queue.Queue(_WAITING)

    def offer(self, outcome: Outcome, result: Result) -> None:
        """Draw this one, if wanted and if there is room; never waits."""
        wanted = self.config.frames == "all" or (self.config.frames == "fail" and result.verdict is Verdict.FAIL)
        if not wanted or outcome.ticket.frame.pixels is None:
            return
        try:
            self._waiting.put_nowait((outcome, result))
        except queue.Full:
            self._metrics.overlays_dropped.labels(result.camera).inc()

    def reconfigure(self, station: Station) -> None:
        self._live.reconfigure(station)
        self.config = station.overlays

    @property
    def is_done(self) -> bool:
        """Whether, asked to stop, it has drawn all that waited."""
        return self._stop_asked.is_set() and self._waiting.empty()

    def step(self) -> None:
        """Draw one. A picture that fails costs a picture, never the flow."""
        try:
            self._show_live()
            outcome, result = self._waiting.get(timeout=self._live.choose_wait_s())
        except queue.Empty:
            return
        try:
            self._draw(outcome, result)
        except Exception:  # noqa: BLE001 (logged with its traceback, once a period)
            message = f"camera {result.camera}, frame {result.frame_id}: overlay failed"
            self._log.log(logging.ERROR, "overlay", message, exc_info=True, camera=result.camera)
            self._metrics.overlays_dropped.labels(result.camera).inc()

    def _show_live(self) -> None:
        try:
            picture = self._live.take_due()
            if picture is not None:
                self._socket.publish_live(picture.camera, picture.message, picture.jpeg)
        except Exception:  # noqa: BLE001 (logged with its traceback, once a period)
            self._log.log(logging.ERROR, "live", "live picture failed", exc_info=True)

    def _draw(self, outcome: Outcome, result: Result) -> None:
        frame, judgement = outcome.ticket.frame, outcome.judgement
        if frame.pixels is None:
            return
        picture = render_overlay(
            frame.pixels,
            frame.pixel_format,
            judgement.fetch_map(self.config.width) if judgement else None,
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
