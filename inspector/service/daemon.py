"""The daemon: the one place that wires everything. startup → main loop → shutdown."""

from __future__ import annotations

import faulthandler
import logging
import os
import pwd
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import zmq
from prometheus_client import CollectorRegistry

from inspector import __version__, logs
from inspector.access import load_access
from inspector.config import Station, load_station
from inspector.detector import choose_device
from inspector.errors import ConfigError, JournalError
from inspector.service.audit import STATION_FILE, Audit
from inspector.service.authenticator import Authenticator
from inspector.service.clock import read_clock
from inspector.service.collectors import FlowCollector, MachineCollector, RecipeCollector, StationCollector
from inspector.service.disk import read_disk
from inspector.service.evidence import EvidenceThread
from inspector.service.frame_buffer import FrameBuffer
from inspector.service.gpu import GpuReader
from inspector.service.health import Health, State
from inspector.service.http import HttpThread
from inspector.service.http_access import load_http_access
from inspector.service.ingest import IngestThread
from inspector.service.judges import Judge, Judges, load_judge, load_judges
from inspector.service.ledger import Ledger, error_outcome
from inspector.service.lock import StationLock
from inspector.service.log_counter import LogCounter
from inspector.service.metrics import Metrics
from inspector.service.notifier import Notifier, StatusLine
from inspector.service.overlayer import Overlayer
from inspector.service.publisher import Identity, Publisher
from inspector.service.recorder import Recorder
from inspector.service.requests import RequestsThread
from inspector.service.sampler import Sampler
from inspector.service.starts import Starts
from inspector.service.switcher import Switcher
from inspector.service.worker import DeviceWorker, ServiceTimes
from inspector.sinks.evidence import EvidenceStore
from inspector.sinks.journal import Journal
from inspector.sinks.journal_events import Kind
from inspector.sinks.overlays import OverlaysSocket
from inspector.sinks.results import ResultsSocket
from inspector.sockets import raise_descriptor_limit
from inspector.sources.build import build_sources
from inspector.sources.zmq import ZmqSource
from inspector.types import Reason

logger = logging.getLogger(__name__)

_LOOP_S = 0.2
_SETTLE_S = 0.5
"""How long subscribers have to come back after a restart before what was left open is answered."""
_RECIPE_S = 300
"""How long loading a recipe may take before systemd gives the start up."""


class Daemon:
    """One station, from start to stop. Built, then `run` once in the main thread."""

    def __init__(self, station: Station, path: Path, *, notifier: Notifier | None = None) -> None:
        """Make it; `path` is the station's file, for when it is to be read again."""
        self._station = station
        self._path = path.resolve()
        self._notifier = notifier or Notifier()
        self._stop_asked = threading.Event()
        self._reload_asked = self._is_reloading = False
        self._refused_reload: str | None = None
        self._dump_asked = False
        self._signal: int | None = None
        self._drained_by: str | None = None
        self._status_line = StatusLine()
        self._loader = _Loader(station, self._tell_progress)

    def run(self) -> int:
        """Serve until a signal, a drain request or a fault; the exit status: 0, or 1 after a fault.

        Raises:
            ConfigError: a recipe, socket, port or journal that cannot be used; no frame was judged.
        """
        # What OpenCV has against a frame stands in the frame's verdict, and is logged once a period.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        faulthandler.enable()  # the watchdog's SIGABRT, or a crash, leaves the stack of every thread behind
        self._startup()
        try:
            if self._load():
                self._main_loop()
        finally:
            self._shutdown()
        status = 1 if self.health.state is State.FAULT else 0
        if any(thread.is_alive() for thread in (self._loader, self._switcher, *self._samplers)):
            # What loads a recipe or asks a driver cannot be stopped, and the interpreter would wait for it or crash.
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
            self._audit.note(Kind.DRAIN, "asked", who)
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
        raise_descriptor_limit()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.ask_to_stop)
        signal.signal(signal.SIGHUP, self.ask_to_reload)
        signal.signal(signal.SIGUSR1, self.ask_for_ring)
        deadlines_ms = {name: camera.deadline_ms for name, camera in station.cameras.items()}
        self.health = Health(station.stall_after_s)
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, deadlines_ms)
        self._log_counter = LogCounter(self._metrics)
        self._log_counter.start()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._http = HttpThread(station.http, registry=self._registry, health=self.health, metrics=self._metrics)
        self._http.start()
        try:
            self._build(deadlines_ms)
        except BaseException:
            self._log_counter.stop()
            self._http.stop()
            self._context.destroy(linger=0)
            raise
        self._starts.begin()
        for thread in (*self._flow, self._switcher, *self._samplers):
            thread.start()

    def _build(self, deadlines_ms: dict[str, int]) -> None:
        station, health, metrics = self._station, self.health, self._metrics
        self._buffer = FrameBuffer(station.buffer.max_bytes, station.buffer.when_full)
        self._judges = Judges()
        access = load_access(station, lambda socket, cause: metrics.messages_refused.labels(socket, cause).inc())
        self._guards: list[Authenticator] = []
        if access.allow_list is not None:  # before any socket that it guards
            self._guards = [Authenticator(self._context, access.allow_list, health=health, metrics=metrics)]
        results = ResultsSocket(self._context, station.sockets.results, access.secret_key)
        overlays = OverlaysSocket(self._context, station.sockets.overlays, access.secret_key)
        # A folder of its own: two stations on one PC may share the default state_dir, never a journal.
        folder = station.state_dir / station.station
        self._lock = StationLock(folder)
        journal = _open_journal(folder / "journal.sqlite")
        sources = build_sources(station, self._context, self._judges.find_frame_hw, access)
        for source in sources:
            if isinstance(source, ZmqSource):
                source.connect()  # a port in use is found before READY, not in a thread
        self._left_open = journal.open_frames()
        first_number = 1 + max((record.number for record in self._left_open), default=0)
        self._ledger = ledger = Ledger(deadlines_ms, first_number)
        self._recorder = Recorder(journal, station.journal, health=health, metrics=metrics)
        identity = Identity(station.station, uuid.uuid4().hex)
        self._judged_before = journal.last_judged()
        self._audit = Audit(identity.boot_id, self._recorder.note)
        self._audit.note(Kind.START, "started", f"user {_find_user()}", version=__version__)
        self._overlayer = Overlayer(overlays, station.overlays, health=health, metrics=metrics)
        self._store = EvidenceStore(folder / "evidence", station.evidence)
        self._evidence = EvidenceThread(self._store, station.evidence, health=health, metrics=metrics)
        self._switcher = switcher = Switcher(
            station,
            self._judges,
            folder=self._path.parent,
            read=self._read_again,
            load=lambda folder: load_judge(
                folder, choose_device(station.device), station.tile_batch, _find_cache(station)
            ),
            apply=self._apply,
            audit=self._audit,
            health=health,
            metrics=metrics,
        )
        service_times = ServiceTimes()
        self._publisher = publisher = Publisher(
            ledger,
            self._recorder,
            results,
            identity,
            self._judges,
            last_seqs=journal.last_seqs(),
            last_results=journal.last_results(),
            forget=self._buffer.discard,
            taps=(service_times.offer, self._overlayer.offer, self._evidence.offer),
            queue_depth=self._buffer.__len__,
            more_status=switcher.describe,
            health=health,
            metrics=metrics,
        )
        self._worker = DeviceWorker(
            self._buffer,
            ledger,
            self._judges,
            publisher.submit,
            service_times=service_times,
            health=health,
            metrics=metrics,
        )
        self._ingest = [
            IngestThread(
                source,
                self._buffer,
                ledger,
                self._recorder,
                publisher.submit,
                judges=self._judges,
                max_ages_ms={name: camera.max_age_ms for name, camera in station.cameras.items()},
                health=health,
                metrics=metrics,
            )
            for source in sources
        ]
        self._requests = RequestsThread(
            self._context,
            station.sockets.requests,
            cameras=tuple(station.cameras),
            journal_path=folder / "journal.sqlite",
            status=publisher.build_status,
            drain=self.ask_to_drain,
            recipe=switcher.answer,
            gate=access.build_gate("requests"),
            secret_key=access.secret_key,
            health=health,
        )
        self._starts = Starts(folder / "starts.json")
        disk = Sampler("disk", lambda: read_disk(folder), health=health)
        gpu = Sampler("gpu", GpuReader(choose_device(station.device)).read, health=health)
        self._samplers = (disk, gpu)
        for collector in (
            FlowCollector(ledger, self._buffer, lambda: health.state),
            StationCollector(lambda: self._station, lambda: self._starts.counts),
            RecipeCollector(self._judges),
            MachineCollector(disk=disk.latest, gpu=gpu.latest, clock=read_clock),
        ):
            self._registry.register(collector)
        # Those downstream start first, so that nothing is handed to a thread that is not there.
        self._flow: list[threading.Thread] = [
            *self._guards,
            self._recorder,
            self._evidence,
            self._overlayer,
            publisher,
            self._worker,
            self._requests,
            # Who sends while recipes are loaded is told NOT_READY at once; cameras and files are read from READY on.
            *(thread for thread, source in zip(self._ingest, sources, strict=True) if isinstance(source, ZmqSource)),
        ]
        self._sinks = ((results, publisher), (overlays, self._overlayer), (journal, self._recorder))

    def _read_again(self) -> Station:
        """The station file as it is now; also certificate and password, whose paths stay while their files change."""
        station = load_station(self._path)
        self._new_access = load_http_access(station.http)
        return station

    def _apply(self, station: Station) -> None:
        """Put a changed station file into force, its recipes aside; metrics keep the bucket edges they began with."""
        self._station = station
        self._http.use(self._new_access)
        self._ledger.deadlines_ms = {name: camera.deadline_ms for name, camera in station.cameras.items()}
        for thread in self._ingest:
            thread.max_ages_ms = {name: camera.max_age_ms for name, camera in station.cameras.items()}
        self._buffer.limit(station.buffer.max_bytes, station.buffer.when_full)
        self._overlayer.config = station.overlays
        self._evidence.config = self._store.config = station.evidence
        self._recorder.config = station.journal
        set_up_logs(station)

    def _load(self) -> bool:
        """Load the recipes, beside a flow that answers already; False where a stop or a fault came first."""
        loader = self._loader
        loader.start()
        settled = time.monotonic() + _SETTLE_S
        while (loader.is_alive() or self._left_open) and not self._is_stopping and self._watch():
            time.sleep(0.05)
            if time.monotonic() >= settled:
                self._answer_left_open()
        if self._is_stopping or self.health.state is State.FAULT:
            return False
        if loader.failure is not None:
            raise loader.failure
        self._audit.note_loaded(self._judged_before, loader.judges)
        self._judges.switch(loader.judges)
        self.health.enter(State.READY, "all recipes are loaded")
        for thread in self._ingest:
            if thread.ident is None:
                thread.start()
        self._notifier.notify("READY=1", status="READY")
        logger.info("station %s ready, metrics on port %d", self._station.station, self._http.port)
        return True

    def _tell_progress(self, done: int, count: int) -> None:
        status = f"STARTING: {done} of {count} recipes loaded"
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={_RECIPE_S * 1_000_000}", status=status)

    def _answer_left_open(self) -> None:
        """Close what an earlier run accepted and did not answer."""
        for record in self._left_open:
            ticket = self._ledger.adopt(record)
            message = "the station was restarted before this frame was judged"
            self._publisher.submit(error_outcome(ticket, Reason.RESTART, message))
        self._left_open = []

    # ------------------------------------------------------------ main loop

    def _main_loop(self) -> None:
        while not self._is_stopping and self._watch():
            if self._reload_asked:
                self._reload_asked = False
                self._is_reloading = True
                self._notifier.notify("RELOADING=1", status="reading the station file again")
                self._switcher.reload()
            elif self._is_reloading:
                self._end_reload(self._switcher.describe()["last_reload"])
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
        self._check_threads()
        account = self._ledger.account()
        if not account.balances:
            self.health.fault("account", f"frames received are not those answered and open: {account}")
        if self.health.tick():
            if self.health.state is not State.STARTING:  # systemd counts from READY on
                past = {"last error": self.health.last_error, "reload refused": self._refused_reload}
                status = self._status_line.build(self.health.live()[1], account.received, past)
                self._notifier.notify("WATCHDOG=1", status=status)
        elif stalled := self.health.stalled():
            faulthandler.dump_traceback(all_threads=True)
            self.health.fault(stalled[0], f"no progress for {self._station.stall_after_s} s")
        if self.health.state is State.FAULT:
            logs.dump_ring()
            return False
        return True

    def _check_threads(self) -> None:
        for thread in (self._http, *self._flow, self._switcher, *self._ingest):
            failure = getattr(thread, "failure", None)
            finished = isinstance(thread, IngestThread) and failure is None
            if thread.ident is not None and not thread.is_alive() and not finished:
                self.health.fault(thread.name, f"thread died: {failure}")

    # ------------------------------------------------------------ shutdown

    def _shutdown(self) -> None:
        """Sources first, then with the flow, so that all that was accepted is answered; one shared deadline."""
        self.health.enter(State.STOPPING, signal.Signals(self._signal).name if self._signal else "asked to")
        fault = self.health.last_error if self.health.state is State.FAULT else None
        self._notifier.notify("STOPPING=1", status=f"FAULT: {fault}" if fault else "STOPPING")
        deadline = time.monotonic() + self._station.stop_timeout_s
        for sampler in self._samplers:
            sampler.stop()
        self._switcher.stop()
        for thread in self._ingest:
            thread.stop()
        # A camera that is just being opened cannot be asked to stop: those that have frames waiting come first.
        _join(self._ingest, deadline - 0.7 * self._station.stop_timeout_s)
        self._buffer.close()
        self._worker.stop()
        # A second is kept back for the answers to what could not be judged any more. After a fault nothing it computes
        # can be trusted, if it computes at all.
        _join([self._worker], time.monotonic() + 0.2 if self.health.state is State.FAULT else deadline - 1.0)
        self._worker.abandon()
        waits_s = 0.0 if self._recorder.failure else deadline - time.monotonic() - 0.3
        self._publisher.stop(within_s=max(0.2, waits_s))
        _join([self._publisher], deadline)
        self._note_stop()
        self._recorder.stop()
        if self._recorder.failure is not None:
            self._recorder.write_rest()
        self._overlayer.stop()
        self._evidence.stop()
        self._requests.stop()
        for guard in self._guards:
            guard.stop()
        _join([*self._flow, *self._ingest], deadline - 0.5)
        self._evidence.abandon()  # images give way to the end of the stop
        _join([*self._flow, *self._ingest], deadline)
        _join([self._switcher, *self._samplers], time.monotonic() + 0.2)  # they end at once, or not for a long time
        self._http.stop()
        for sink, owner in self._sinks:
            if not owner.is_alive():
                sink.close()
        for guard in self._guards:
            if not guard.is_alive():
                guard.close()
        self._starts.end("fault" if self.health.state is State.FAULT else "stop")
        self._log_counter.stop()
        logger.info("stopped; %d frames unanswered", sum(self._ledger.account().in_flight.values()))
        alive = [thread.name for thread in (*self._flow, *self._ingest) if thread.is_alive()]
        if alive:
            logger.error("threads still alive at the end of the stop deadline: %s", ", ".join(sorted(set(alive))))
            logging.shutdown()
            time.sleep(0.2)  # the last verdicts leave through libzmq's own thread
            os._exit(1)
        self._context.term()

    def _note_stop(self) -> None:
        if self.health.state is State.FAULT:
            self._audit.note(Kind.STOP, "fault", "station", reason=self.health.last_error)
        elif self._signal is not None:
            self._audit.note(Kind.STOP, "stopped", f"signal {signal.Signals(self._signal).name}")
        elif self._drained_by is not None:
            self._audit.note(Kind.STOP, "stopped", self._drained_by)
        else:
            self._audit.note(Kind.STOP, "refused", STATION_FILE, reason=str(self._loader.failure))


def set_up_logs(station: Station) -> None:
    """Log as the station file says."""
    config = station.logging
    logs.set_up(format=config.format, level=config.level, ring=config.ring, station=station.station)


class _Loader(threading.Thread):
    """Loads the recipes; a stop need not wait for it."""

    def __init__(self, station: Station, progress: Callable[[int, int], None]) -> None:
        super().__init__(name="loader", daemon=True)
        self._station = station
        self._progress = progress
        self.judges: dict[str, Judge] = {}
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self.judges = load_judges(self._station, _find_cache(self._station), self._progress)
        except Exception as error:  # noqa: BLE001 (raised again in the main thread)
            self.failure = error


def _find_cache(station: Station) -> Path:
    return station.state_dir / "engines"  # compiled networks are shared by all stations of a machine


def _open_journal(path: Path) -> Journal:
    try:
        return Journal(path)
    except JournalError as error:
        message = f"state_dir: must be a folder this process can write: {error}"
        raise ConfigError(message, field=("state_dir",)) from error


def _find_user() -> str:
    """Who this process runs as: a name where there is one."""
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def _join(threads: Sequence[threading.Thread], deadline: float) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
