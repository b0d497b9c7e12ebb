"""Warnings and errors are counted, by whomever they are logged."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry

from inspector.service.telemetry.log_counter import LogCounter
from inspector.service.telemetry.metrics import Metrics


def test_lines_are_counted_by_level_from_start_to_stop(metrics: Metrics, registry: CollectorRegistry) -> None:
    def counted() -> tuple[float | None, float | None]:
        warnings, errors = (
            registry.get_sample_value("inspector_log_messages_total", {"level": level})
            for level in ("warning", "error")
        )
        return warnings, errors

    assert counted() == (0, 0)
    counter, logger = LogCounter(metrics), logging.getLogger("timm.models")
    logger.error("before")
    counter.start()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "line")
    assert counted() == (2, 2)
    counter.stop()
    logger.error("after")
    assert counted() == (2, 2)
