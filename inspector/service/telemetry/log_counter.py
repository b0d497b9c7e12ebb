"""Counts what is logged, so that a station that warns is seen where nobody reads its log."""

from __future__ import annotations

import logging

from inspector.service.telemetry.metrics import Metrics


class LogCounter(logging.Handler):
    """Counts warnings and errors, from `start` to `stop`; a critical line counts as an error."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(logging.WARNING)
        self._warnings = metrics.log_messages.labels("warning")
        self._errors = metrics.log_messages.labels("error")

    def start(self) -> None:
        """Count what all threads and libraries log from now on."""
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """Stop counting."""
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one log record."""
        (self._errors if record.levelno >= logging.ERROR else self._warnings).inc()
