"""The daemon: the one place that wires everything. startup → main loop → shutdown."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import torch
import zmq
from prometheus_client import CollectorRegistry

from inspector.config import RECIPE_FILE, Station
from inspector.detector import Detector, choose_device
from inspector.errors import ConfigError, JournalError, RecipeError
from inspector.model.checkpoint import compute_sha256
from inspector.service.frame_buffer import FrameBuffer
from inspector.service.health import Health, State
from inspector.service.http import HttpThread
from inspector.service.ingest import IngestThread
from inspector.service.ledger import Ledger
from inspector.service.metrics import FlowCollector, Metrics
from inspector.service.notifier import Notifier
from inspector.service.overlayer import Overlayer
from inspector.service.publisher import Identity, Publisher
from inspector.service.requests import RequestsThread
from inspector.service.worker import DeviceWorker
from inspector.sinks.journal import Journal
from inspector.sinks.overlays import OverlaysSocket
from inspector.sinks.results import ResultsSocket
from inspector.sources.build import build_sources
from inspector.sources.zmq import ZmqSource

logger = logging.getLogger(__name__)

_LOOP_S = 0.2


class Daemon:
    """One station, from start to stop. Built, then `run` once in the main thread."""

    def __init__(self, station: Station, *, notifier: Notifier | None = None) -> None:
        self._station = station
        self._notifier = notifier or Notifier()
        self._stop_asked = threading.Event()
        self._signal: int | None = None

    def run(self) -> int:
        """Serve until a signal, a drain request or a fault; the exit status: 0, or 1 after a fault.

        Raises:
            ConfigError: a recipe, socket, port or journal that cannot be used; nothing was accepted.
        """
        self._startup()
        try:
            self._main_loop()
        finally:
            self._shutdown()
        return 1 if self.health.state is State.FAULT else 0

    def ask_to_stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Drain and end; a second signal ends at once."""
        del frame
        if signum and self._signal is not None:
            os._exit(128 + signum)
        self._signal = signum or self._signal
        self._stop_asked.set()

    # ------------------------------------------------------------ startup

    def _startup(self) -> None:
        station = self._station
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.ask_to_stop)
        deadlines_ms = {name: camera.deadline_ms for name, camera in station.cameras.items()}
        self.health = Health()
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, deadlines_ms)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._http = HttpThread(station.http.host, station.http.port, self._registry, self.health)
        self._http.start()
        try:
            self._build(deadlines_ms)
        except BaseException:
            self._http.stop()
            self._context.destroy(linger=0)
            raise
        self.health.enter(State.READY)  # before the threads: the first frame makes it RUNNING
        for thread in self._flow:
            thread.start()
        self._notifier.notify("READY=1\nSTATUS=ready")
        logger.info("station %s ready, metrics on port %d", station.station, self._http.port)

    def _build(self, deadlines_ms: dict[str, int]) -> None:
        station, health, metrics = self._station, self.health, self._metrics
        self._ledger = ledger = Ledger(deadlines_ms)
        self._buffer = FrameBuffer(station.buffer.max_bytes, station.buffer.when_full)
        results = ResultsSocket(self._context, station.sockets.results)
        overlays = OverlaysSocket(self._context, station.sockets.overlays)
        # A folder of its own: two stations on one PC may share the default state_dir, never a journal.
        journal_path = station.state_dir / station.station / "journal.sqlite"
        self._journal = _open_journal(journal_path)
        self._sinks = (results, overlays, self._journal)
        sources = build_sources(station, self._context)
        for source in sources:
            if isinstance(source, ZmqSource):
                source.connect()  # a port in use is found before READY, not in a thread
        self._overlayer = Overlayer(overlays, station.overlays, health=health, metrics=metrics)
        detectors = load_detectors(station, station.state_dir / "engines")  # shared by all stations of a machine
        for camera, detector in detectors.items():
            _describe(metrics, camera, detector)
        self._publisher = publisher = Publisher(
            ledger,
            self._journal,
            results,
            _identity(station, detectors, deadlines_ms),
            draw=self._overlayer.offer,
            queue_depth=self._buffer.__len__,
            health=health,
            metrics=metrics,
        )
        self._worker = DeviceWorker(self._buffer, ledger, detectors, publisher.submit, health=health, metrics=metrics)
        self._ingest = [
            IngestThread(source, self._buffer, ledger, publisher.submit, judged=detectors.keys(), health=health,
                         metrics=metrics)
            for source in sources
        ]  # fmt: skip
        self._requests = RequestsThread(
            self._context,
            station.sockets.requests,
            cameras=tuple(station.cameras),
            journal_path=journal_path,
            status=publisher.build_status,
            drain=self.ask_to_stop,
            health=health,
        )
        self._registry.register(
            FlowCollector(
                ledger,
                buffer_bytes=lambda: self._buffer.nbytes,
                device_memory_bytes=_device_memory_bytes,
                state=lambda: health.state,
            )
        )
        # Those downstream start first, so that nothing is handed to a thread that is not there.
        self._flow: list[threading.Thread] = [
            self._overlayer,
            publisher,
            self._worker,
            self._requests,
            *self._ingest,
        ]

    # ------------------------------------------------------------ main loop

    def _main_loop(self) -> None:
        while not self._stop_asked.wait(_LOOP_S):
            self._check_threads()
            if self.health.tick():
                self._notifier.notify("WATCHDOG=1")
            if self.health.state is State.FAULT:
                logger.error("fault: %s", self.health.last_error)
                return

    def _check_threads(self) -> None:
        for thread in self._flow:
            finished = isinstance(thread, IngestThread) and thread.failure is None
            if not thread.is_alive() and not finished:
                failure = getattr(thread, "failure", None)
                self.health.fault(thread.name, f"thread died: {failure}")

    # ------------------------------------------------------------ shutdown

    def _shutdown(self) -> None:
        """Sources first, then with the flow, so that all that was accepted is answered; one shared deadline."""
        self.health.enter(State.STOPPING)
        self._notifier.notify("STOPPING=1")
        deadline = time.monotonic() + self._station.stop_timeout_s
        for thread in self._ingest:
            thread.stop()
        _join(self._ingest, deadline)
        self._buffer.close()
        self._worker.stop()
        # A second is kept back for the answers to what could not be judged any more.
        _join([self._worker], deadline - 1.0)
        self._worker.abandon()
        self._publisher.stop()
        _join([self._publisher], deadline)
        self._overlayer.stop()
        self._requests.stop()
        _join([self._overlayer, self._requests, self._worker], deadline)
        self._http.stop()
        for sink in self._sinks:
            sink.close()
        alive = [thread.name for thread in self._flow if thread.is_alive()]
        if alive:
            logger.error("threads still alive at the end of the stop deadline: %s", ", ".join(alive))
            logging.shutdown()
            os._exit(1)
        self._context.term()
        logger.info("stopped; %d frames unanswered", sum(self._ledger.account().in_flight.values()))


def load_detectors(station: Station, cache: Path) -> dict[str, Detector]:
    """A warm detector for each camera that has a recipe; cameras with the same folder share one.

    Args:
        station: whose cameras, device and tile batch.
        cache: where compiled networks are kept.

    Raises:
        RecipeError: a recipe that cannot be used.
    """
    device = choose_device(station.device)
    by_folder: dict[Path, Detector] = {}
    detectors: dict[str, Detector] = {}
    for name, camera in station.cameras.items():
        if camera.recipe is None:
            continue
        folder = camera.recipe.resolve()
        if folder not in by_folder:
            try:
                by_folder[folder] = _load_detector(folder, device, station.tile_batch, cache)
            except RecipeError as error:
                raise RecipeError(f"cameras.{name}.recipe: {error}", field=("cameras", name, "recipe")) from error
        detectors[name] = by_folder[folder]
    return detectors


def _load_detector(folder: Path, device: torch.device, tile_batch: int | None, cache: Path) -> Detector:
    detector = Detector.load(folder, device=device, tile_batch=tile_batch, cache=cache)
    if detector.recipe.threshold is None:
        raise RecipeError(f"{folder / RECIPE_FILE}: threshold: required to judge frames; run inspector calibrate")
    detector.warm_up()
    return detector


def _open_journal(path: Path) -> Journal:
    try:
        return Journal(path)
    except JournalError as error:
        message = f"state_dir: must be a folder this process can write: {error}"
        raise ConfigError(message, field=("state_dir",)) from error


def _identity(station: Station, detectors: Mapping[str, Detector], deadlines_ms: Mapping[str, int]) -> Identity:
    recipes = {}
    for camera, detector in detectors.items():
        folder = station.cameras[camera].recipe
        assert folder is not None  # noqa: S101 (a detector was loaded from it)
        recipes[camera] = {
            "recipe_id": detector.recipe.recipe_id,
            "recipe_sha256": compute_sha256(folder / RECIPE_FILE),
            "model_sha256": detector.recipe.weights_sha256,
        }
    thresholds = {name: d.recipe.threshold.value for name, d in detectors.items() if d.recipe.threshold}
    return Identity(station.station, uuid.uuid4().hex, deadlines_ms, recipes, thresholds)


def _describe(metrics: Metrics, camera: str, detector: Detector) -> None:
    recipe = detector.recipe
    if recipe.threshold is not None:
        metrics.threshold.labels(camera).set(recipe.threshold.value)
    metrics.recipe.labels(camera).info(
        {
            "recipe_id": recipe.recipe_id,
            "backbone": recipe.backbone,
            "model_sha256": recipe.weights_sha256[:12],
            "precision": detector.engine.precision.value,
            "engine": detector.engine.name,
        }
    )


def _device_memory_bytes() -> int:
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0


def _join(threads: Sequence[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
