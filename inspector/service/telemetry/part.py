"""A part of the station: a thread that takes one step after the other, and whose stall or death is seen."""

from __future__ import annotations

import logging
import threading

from inspector.config import Station
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.rate_limit import RateLimitedLog


class Part(threading.Thread):
    """The skeleton; a part says what a step is.

    Attributes:
        is_vital: a stall is a FAULT; else the station is DEGRADED, and no more.
        failure: what it died of.
    """

    is_vital = True

    def __init__(self, name: str, *, health: Health, log_period_s: float = 5.0) -> None:
        """At most one log line of each kind is written per `log_period_s`."""
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self._health = health
        self._stop_asked = threading.Event()
        self._logger = logging.getLogger(type(self).__module__)
        self._log = RateLimitedLog(self._logger, log_period_s)

    # ------------------------------------------------------------ from other threads

    def stop(self) -> None:
        """Ask it to end; the caller joins."""
        self._stop_asked.set()

    def reconfigure(self, station: Station) -> None:
        """Put a changed station file into force; must not fail."""

    @property
    def is_done(self) -> bool:
        """Whether no step is left to take; asked before each."""
        return self._stop_asked.is_set()

    # ------------------------------------------------------------ its own thread

    def run(self) -> None:
        """Work until done; an unexpected exception is logged, stored in `failure` and ends the thread."""
        try:
            self.work()
        except BaseException as error:
            self._logger.exception("thread %s died", self.name)
            self.failure = error
            self.die(error)
        finally:
            self._log.flush()
            self.release()

    def work(self) -> None:
        """Run all steps of the thread until it is done."""
        while not self.is_done:
            self.beat()
            self._log.flush_due()
            self.step()

    def beat(self) -> None:
        """Tell that it goes on: a step may take as long as `stall_after_s` allows."""
        self._health.beat(self.name, vital=self.is_vital)

    def step(self) -> None:
        """Do what there is to do, or wait for it for a fraction of a second."""
        raise NotImplementedError

    def die(self, error: BaseException) -> None:
        """Tell of its death: a FAULT, since only a restart brings it back."""
        self._health.fault(self.name, str(error))

    def release(self) -> None:
        """Let go of what it alone uses, however it ended, and be missed no more."""
        self._health.forget(self.name)
