"""The daemon: signals, loading, main loop and end of one station, which assembly.py builds.

More than 300 lines: a station's life, from start to end, is read in one piece.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import zmq
from prometheus_client import CollectorRegistry

from inspector import logs
from inspector.config import Station, load_station
from inspector.engine.build_cuda import forgive_attempts
from inspector.journal.events import Kind
from inspector.security.sockets import raise_descriptor_limit
from inspector.service.assembly import Assembly
from inspector.service.collectors import (
    FlowCollector,
    MachineCollector,
    RecipeCollector,
    SourceCollector,
    StationCollector,
)
from inspector.service.control.audit import STATION_FILE
from inspector.service.control.end_guard import EndGuard
from inspector.service.control.loader import Loader
from inspector.service.control.lock import StationLock
from inspector.service.control.notifier import Notifier, StatusLine
from inspector.service.control.starts import Starts
from inspector.service.http.access import load_http_access
from inspector.service.http.server import HttpThread
from inspector.service.missing_devices import find_missing, report_missing
from inspector.service.orders.signals import OFFLINE, ONLINE, OfflineSignals
from inspector.service.telemetry.clock import read_clock
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.log_counter import LogCounter
from inspector.service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_LOOP_S = 0.2
_SETTLE_S = 0.5
"""How long subscribers have to come back after a restart before what was left open is answered."""
_END_S = 3.0
"""How long the process may take to end once the time for the stop is over; see `EndGuard`."""
_RECIPE_S = 300
"""How long loading a recipe may take before systemd gives the start up."""


class Daemon:
    """One station, from start to stop. Built, then `run` once in the main thread of a process that ends with it."""

    def __init__(self, station: Station, path: Path) -> None:
        """`path` is the station file, which a reload reads again."""
        self._missing = find_missing(station)
        self._station = station = station.without(self._missing)
        self._path = path.resolve()
        self._notifier = Notifier()
        self._stop_asked = threading.Event()
        self._reload_asked = self._is_reloading = False
        self._refused_reload: str | None = None
        self._dump_asked = False
        self._offline_signals = OfflineSignals()
        self._signal: int | None = None
        self._drained_by: str | None = None
        self._status_line = StatusLine()
        self._loader = Loader(station, self._tell_progress)

    def run(self) -> int:
        """Serve until a signal, a drain request or a fault; the exit status: 0, or 1 after a fault.

        Raises:
            ConfigError: what it needs cannot be used, or another process runs the station; no frame was judged.
        """
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a verdict says it, and our log
        faulthandler.enable()  # the watchdog's SIGABRT, or a crash, leaves the stack of every thread behind
        self._startup()
        try:
            if self._load():
                self._main_loop()
        finally:
            self._shutdown()
        status = 1 if self.health.state is State.FAULT else 0
        if self._loader.is_alive() or self._parts.is_asking_outside:
            # What loads a recipe, or asks a driver or a share, cannot be stopped: the interpreter would wait or crash.
            logging.shutdown()
            os._exit(status)
        return status

    def ask_to_stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Drain and end; a second signal ends at once."""
        del frame
        if signum and self._signal is not None:
            os._exit(128 + signum)
        # A signal's handler takes no lock: the thread it runs in may hold it.
        if signum:
            self._signal = signum
        else:
            self._stop_asked.set()

    def ask_to_drain(self, who: str) -> None:
        """Drain and end, as somebody asked for."""
        if self._drained_by is None:
            self._drained_by = who
            self._parts.audit.note(Kind.DRAIN, "asked", who)
        self.ask_to_stop()

    def ask_to_reload(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Read the station file again, once the station is ready; nothing while it stops."""
        del signum, frame
        self._reload_asked = True

    def ask_for_ring(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Write the last debug lines to stderr, once the station is ready."""
        del signum, frame
        self._dump_asked = True

    @property
    def _is_stopping(self) -> bool:
        return self._signal is not None or self._stop_asked.is_set()

    # ------------------------------------------------------------ startup

    def _startup(self) -> None:
        station = self._station
        StationLock(station.folder)  # before any socket: libzmq takes an ipc endpoint from whoever has it
        raise_descriptor_limit()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.ask_to_stop)
        signal.signal(signal.SIGHUP, self.ask_to_reload)
        signal.signal(signal.SIGUSR1, self.ask_for_ring)
        signal.signal(OFFLINE, self._offline_signals.note)
        signal.signal(ONLINE, self._offline_signals.note)
        self.health = Health(station.stall_after_s)
        report_missing(self._missing, self.health)
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, station.deadlines_ms)
        self._log_counter = LogCounter(self._metrics)
        self._log_counter.start()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._http = HttpThread(station.http, registry=self._registry, health=self.health, metrics=self._metrics)
        self._http.start()
        try:
            self._parts = Assembly(
                station,
                self._path,
                self._context,
                read_again=self._read_again,
                apply=self._apply,
                drain=self.ask_to_drain,
                health=self.health,
                metrics=self._metrics,
            )
            self._starts = Starts(station.folder / "starts.json")
            self._register_collectors()
        except BaseException:
            self._log_counter.stop()
            self._http.stop()
            self._context.destroy(linger=0)
            raise
        self._http.describe(self._parts.status.build)
        self._starts.begin()
        self._parts.start()

    def _register_collectors(self) -> None:
        parts, health = self._parts, self.health
        for collector in (
            FlowCollector(parts.ledger, parts.buffer, lambda: health.state),
            StationCollector(lambda: self._station, lambda: self._starts.counts, parts.devices),
            RecipeCollector(parts.judges),
            SourceCollector(parts.list_reports),
            MachineCollector(disk=parts.disk.latest, gpus=parts.gpus.latest, clock=read_clock),
        ):
            self._registry.register(collector)

    def _read_again(self) -> Station:
        """The station file as it is now; also certificate and password, whose paths stay while their files change."""
        station = load_station(self._path).without(self._missing)
        self._new_access = load_http_access(station.http)
        return station

    def _apply(self, station: Station) -> None:
        self._station = station
        self._http.use(self._new_access)
        self._parts.apply(station)
        set_up_logs(station)

    def _load(self) -> bool:
        """Load the recipes, beside a flow that answers already; False where a stop or a fault came first."""
        loader, parts = self._loader, self._parts
        loader.start()
        settled = time.monotonic() + _SETTLE_S
        while (loader.is_alive() or parts.ledger.left_open) and not self._is_stopping and self._watch():
            time.sleep(0.05)
            if time.monotonic() >= settled:
                parts.answer_left_open()
        if self._is_stopping or self.health.state is State.FAULT:
            return False
        if loader.failure is not None:
            raise loader.failure
        judges = loader.take()
        parts.audit.note_loaded(parts.judged_before, judges)
        parts.judges.switch(judges)
        self.health.enter(State.READY, "all recipes are loaded")
        parts.start_sources()
        self._notifier.notify("READY=1", status="READY")
        logger.info("station %s ready, metrics on port %d", self._station.station, self._http.port)
        return True

    def _tell_progress(self, done: int, count: int) -> None:
        status = f"STARTING: {done} of {count} recipes loaded"
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={_RECIPE_S * 1_000_000}", status=status)

    # ------------------------------------------------------------ main loop

    def _main_loop(self) -> None:
        while not self._is_stopping and self._watch():
            if self._reload_asked:
                self._reload_asked = False
                self._is_reloading = True
                self._notifier.notify("RELOADING=1", status="reading the station file again")
                self._parts.switcher.reload()
            elif self._is_reloading:
                self._end_reload(self._parts.switcher.describe()["last_reload"])
            if self._dump_asked:
                self._dump_asked = False
                logs.dump_ring()
            time.sleep(_LOOP_S)

    def _end_reload(self, change: Mapping[str, Any]) -> None:
        if change["state"] == "preparing":
            return
        self._is_reloading = False
        self._refused_reload = change["error"]
        self._notifier.notify("READY=1")

    def _watch(self) -> bool:
        """Look after the threads and the account, feed the watchdog; False at a fault."""
        self._offline_signals.obey(self._parts.offline.answer_offline, self._parts.offline.answer_online)
        self._parts.check()
        if not self._http.is_alive():
            self.health.fault(self._http.name, "thread died")
        if self.health.tick():
            if self.health.state is not State.STARTING:  # systemd counts from READY on
                past = {"last error": self.health.last_error, "reload refused": self._refused_reload}
                status = self._status_line.build(self.health.live()[1], self._parts.ledger.account().received, past)
                self._notifier.notify("WATCHDOG=1", status=status)
        elif stalled := self.health.stalled():
            faulthandler.dump_traceback(all_threads=True)
            self.health.fault(stalled[0], f"no progress for {self._station.stall_after_s} s")
        if self.health.state is State.FAULT:
            logs.dump_ring()
            return False
        return True

    # ------------------------------------------------------------ shutdown

    def _shutdown(self) -> None:
        """Answer all that was accepted and end; see `Assembly.stop`."""
        self.health.enter(State.STOPPING, signal.Signals(self._signal).name if self._signal else "on request")
        status = f"FAULT: {self.health.last_error}" if self.health.state is State.FAULT else "STOPPING"
        self._notifier.notify("STOPPING=1", status=status)
        parts, timeout_s = self._parts, self._station.stop_timeout_s
        EndGuard(timeout_s + _END_S).start()
        alive = parts.stop(time.monotonic() + timeout_s, timeout_s=timeout_s, note=self._note_stop)
        self._http.stop()
        if self.health.state is not State.FAULT:
            forgive_attempts()
        self._starts.end("fault" if self.health.state is State.FAULT else "stop")
        self._log_counter.stop()
        logger.info("stopped; %d frames unanswered", sum(parts.ledger.account().in_flight.values()))
        if alive:
            logger.error("threads still running at the stop deadline: %s", ", ".join(alive))
            logging.shutdown()
            time.sleep(0.2)  # the last verdicts leave through libzmq's own thread
            os._exit(1)
        # No thread uses a socket any more: what one that died left open must not hold up the end.
        self._context.destroy()

    def _note_stop(self) -> None:
        if self.health.state is State.FAULT:
            self._parts.audit.note(Kind.STOP, "fault", "station", reason=self.health.last_error)
        elif self._signal is not None:
            self._parts.audit.note(Kind.STOP, "stopped", f"signal {signal.Signals(self._signal).name}")
        elif self._drained_by is not None:
            self._parts.audit.note(Kind.STOP, "stopped", self._drained_by)
        elif self._loader.failure is not None:
            self._parts.audit.note(Kind.STOP, "refused", STATION_FILE, reason=str(self._loader.failure))
        else:  # nobody asked for it: an exception that nobody foresaw is on its way out
            self._parts.audit.note(Kind.STOP, "fault", "station", reason=repr(sys.exception()))


def set_up_logs(station: Station) -> None:
    """Set up logging with the format and level of the station file."""
    config = station.logging
    logs.set_up(format=config.format, level=config.level, ring=config.ring, station=station.station)
