"""All that one station is made of: built, started and stopped in the order that leaves no accepted frame unanswered.

More than 300 lines: the order of starts and stops is one, and is read in one piece.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from inspector import __version__
from inspector.config import Camera, Station
from inspector.device import choose_devices
from inspector.journal.events import Kind
from inspector.security.farewell import FAREWELL_S
from inspector.security.gate import load_access
from inspector.service.control.audit import Audit
from inspector.service.control.authenticator import Authenticator
from inspector.service.control.refuser import Refuser
from inspector.service.control.requests import RequestsThread
from inspector.service.control.switcher import Switcher
from inspector.service.decoder import build_decoders
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.evidence import EvidenceThread
from inspector.service.flow.ingest import DRAIN_S, IngestThread
from inspector.service.flow.judges import Judges, load_judge_aside
from inspector.service.flow.ledger import Ledger, Ticket, error_outcome
from inspector.service.flow.overlayer import Overlayer
from inspector.service.flow.past import JournalMemory, open_journal, remember_parts, remember_triggers
from inspector.service.flow.publisher import Publisher
from inspector.service.flow.recorder import Recorder
from inspector.service.flow.service_times import ServiceTimes
from inspector.service.flow.status import Identity, StatusBoard, describe_parts, describe_sources
from inspector.service.flow.worker import DeviceWorker
from inspector.service.orders.arrivals import Attached
from inspector.service.orders.deciding import Group
from inspector.service.orders.firing import OfflinePictures
from inspector.service.orders.live import Live
from inspector.service.orders.offline import FILE, Offline
from inspector.service.orders.parts import Parts, build_part_frame
from inspector.service.orders.snapshots import Snapshots
from inspector.service.orders.triggers import Triggers
from inspector.service.telemetry.disk import read_disk
from inspector.service.telemetry.gpu import build_gpu_readers
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.service.telemetry.part import Part
from inspector.service.telemetry.sampler import Sampler
from inspector.sinks.evidence import EvidenceStore
from inspector.sinks.overlays import OverlaysSocket
from inspector.sinks.results import ResultsSocket
from inspector.sources.registry import assemble_lines, build_receiver, build_sources
from inspector.sources.report import CameraReport
from inspector.types import Frame, Reason

logger = logging.getLogger(__name__)


class Assembly:
    """The parts of a running station and the threads they live in. Used from the main thread.

    Attributes:
        judges: who judges which camera; empty until recipes are loaded.
        buffer: frames that wait for the device.
        ledger: the account of every frame.
        offline: which cameras are offline.
        audit: what the journal is told beside frames.
        switcher: reloads and switches of recipes.
        disk: latest figures of the disk under `state_dir`.
        gpus: latest figures of each device, by its name.
        judged_before: the recipe that judged last, by camera, in an earlier run.
    """

    def __init__(
        self,
        station: Station,
        path: Path,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        read_again: Callable[[], Station],
        apply: Callable[[Station], None],
        drain: Callable[[str], None],
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Build all parts, bind all sockets, start nothing.

        Args:
            station: what to build.
            path: the station's file, by which recipes are found.
            context: for the sockets.
            read_again: gives the station file as it is now, at a reload.
            apply: puts a changed station file into force.
            drain: ends the station, for the one who is named.
            health: told of life and faults.
            metrics: to count in.

        Raises:
            ConfigError: a socket, key or journal that cannot be used.
        """
        self._health = health
        folder = station.folder
        self.buffer = FrameBuffer(station.buffer.max_bytes, station.buffer.when_full, station.places)
        self.judges = Judges()
        access = load_access(
            station.security,
            station.sockets.max_rate,
            lambda socket, cause: metrics.messages_refused.labels(socket, cause).inc(),
        )
        self._guards: list[Authenticator] = []
        if access.allow_list is not None:  # before any socket that it guards
            self._guards = [Authenticator(context, access.allow_list, health=health, metrics=metrics)]
        results = ResultsSocket(context, station.sockets.results, access.secret_key)
        overlays = OverlaysSocket(context, station.sockets.overlays, access.secret_key)
        identity = Identity(station.station, uuid.uuid4().hex)
        journal, past = open_journal(folder / "journal.sqlite", identity.boot_id, health=health, metrics=metrics)
        decoding, self._decoders = build_decoders(station.buffer.max_bytes, health)
        receiver = build_receiver(
            station.cameras, station.sockets, context, self.judges.find_frame_hw, access, decoding
        )
        self.ledger = ledger = Ledger(station.deadlines_ms, past.left_open)
        self._recorder = Recorder(journal, station.journal, health=health, metrics=metrics)
        self.judged_before = past.judged
        self.audit = Audit(identity.boot_id, self._recorder.note)
        self.audit.note(Kind.START, "started", f"user {_find_user()}", version=__version__)
        self.offline = offline = Offline(station.cameras, folder / FILE, note=self.audit.note, metrics=metrics)
        self._parts = parts = self._build_parts(station)
        self._pictures = OfflinePictures(station.cameras, offline, self._fire, station=station.station)
        snapshots = Snapshots(station.cameras, self._pictures.ask)
        live = Live(station.cameras, snapshots, station=station.station, note=self.audit.note)
        self._overlayer = Overlayer(overlays, station.overlays, live=live, health=health, metrics=metrics)
        self._store = EvidenceStore(folder / "evidence", station.evidence)
        self._evidence = EvidenceThread(self._store, station.evidence, health=health, metrics=metrics)
        self.switcher = Switcher(
            station,
            self.judges,
            folder=path.parent,
            read=read_again,
            load=lambda folder, place: load_judge_aside(
                folder, choose_devices(station.devices)[place], station.tile_batch, station.engine_cache
            ),
            apply=apply,
            audit=self.audit,
            health=health,
            metrics=metrics,
        )
        service_times = ServiceTimes()
        self._fetched = build_sources(station.cameras, JournalMemory(past.taken, self._recorder.note_file))
        self.status = status = StatusBoard(
            identity,
            station.deadlines_ms,
            last_seqs=past.seqs,
            last_results=past.results,
            queue_depth=self.buffer.__len__,
            more=lambda: (
                self.switcher.describe()
                | offline.describe()
                | describe_sources(self.list_reports())
                | describe_parts(station.parts)
                | {"devices": self.devices}
            ),
            health=health,
        )
        self._publisher = publisher = Publisher(
            ledger,
            self._recorder,
            results,
            identity,
            self.judges,
            last_seqs=past.seqs,
            forget=self.buffer.discard,
            taps=(service_times.offer, self._overlayer.offer, self._evidence.offer),
            status=status,
            offline=offline,
            parts=parts,
            health=health,
            metrics=metrics,
        )
        self._triggers = triggers = Triggers(
            station.cameras,
            ledger,
            station=station.station,
            offline=offline,
            open_ticket=self._open_trigger,
            attach=self._attach_trigger,
            fire=self._fire,
            is_connected=lambda camera: any(thread.serves(camera) for thread in self._ingest),
        )
        remember_triggers(triggers, station.cameras, folder / "journal.sqlite", past.left_open)
        self._workers = self._build_workers(station, publisher, service_times, health=health, metrics=metrics)
        listening = [] if receiver is None else [assemble_lines(receiver, station.cameras)]
        self._ingest = [
            IngestThread(
                source,
                self.buffer,
                ledger,
                self._recorder,
                publisher.submit,
                judges=self.judges,
                cameras=station.cameras,
                offline=offline,
                snapshots=snapshots,
                triggers=triggers,
                parts=parts,
                health=health,
                metrics=metrics,
            )
            for source in (*listening, *self._fetched)
        ]
        self._requests = RequestsThread(
            context,
            station.sockets.requests,
            cameras=tuple(station.deadlines_ms),
            journal_path=folder / "journal.sqlite",
            status=status.build,
            drain=drain,
            orders={
                "recipe": self.switcher.answer,
                "offline": offline.answer_offline,
                "online": offline.answer_online,
                "snapshot": snapshots.answer,
                "live": live.answer,
                "trigger": triggers.answer_trigger,
                "announce": triggers.answer_announce,
            },
            gate=access.build_gate("requests"),
            secret_key=access.secret_key,
            health=health,
        )
        self.disk = Sampler("disk", lambda: read_disk(folder), health=health)
        self.gpus = Sampler("gpu", build_gpu_readers(choose_devices(station.devices)), health=health)
        # Those downstream start first, so that nothing is handed to a thread that is not there.
        self._flow: list[Part] = [
            *self._guards,
            self._recorder,
            self._evidence,
            self._overlayer,
            publisher,
            *self._workers,
            self._requests,
            *(self._decoders if listening else []),
            # Who sends while recipes are loaded is told NOT_READY at once; cameras and files are read from READY on.
            *self._ingest[: len(listening)],
        ]
        self._sinks = ((results, publisher), (overlays, self._overlayer), (journal, self._recorder))
        self._refuser = Refuser()
        self._bindings = [results.binding, overlays.binding, self._requests.binding]
        if receiver is not None:
            receiver.leave = self._refuser.adopt
            # A port in use is found before READY, not in a thread; last, since a REQ sender that found us and is not
            # answered waits for ever.
            receiver.connect()
            self._bindings += receiver.bindings
        _tell_of_any_age(station.cameras)

    def _build_workers(
        self, station: Station, publisher: Publisher, service_times: ServiceTimes, *, health: Health, metrics: Metrics
    ) -> list[DeviceWorker]:
        abandoned = threading.Event()
        return [
            DeviceWorker(
                self.buffer,
                self.ledger,
                self.judges,
                publisher.submit,
                device=device,
                place=place,
                abandoned=abandoned,
                service_times=service_times,
                health=health,
                metrics=metrics,
            )
            for place, device in enumerate(choose_devices(station.devices))
        ]

    @property
    def devices(self) -> dict[str, list[str]]:
        """The cameras of each device, by its name."""
        places = self.buffer.places
        return {
            worker.device.name: [camera for camera, place in places.items() if place == worker.place]
            for worker in self._workers
        }

    def _build_parts(self, station: Station) -> Parts:
        groups = [Group(name, part.cameras, part.by) for name, part in station.parts.items()]
        parts = Parts(groups, self._open_part, is_offline=self.offline.is_offline)
        remember_parts(parts, station.parts, station.folder / "journal.sqlite", list(self.ledger.left_open.values()))
        return parts

    def _open_trigger(self, frame: Frame, timeout_ms: int) -> tuple[int, threading.Event]:
        recorded = threading.Event()
        return self.ledger.await_frame(frame, timeout_ms, lambda ticket: self._admit(ticket, recorded)).number, recorded

    def _admit(self, ticket: Ticket, recorded: threading.Event) -> None:
        refusal = self._parts.admit_trigger(ticket.number, ticket.frame, awaits_frame=ticket.awaits_frame)
        if refusal is not None:
            raise ValueError(refusal.why)  # the trigger is owed no verdict
        self._recorder.open(ticket, recorded)

    def _open_part(self, group: Group, view: Frame) -> int:
        return self.ledger.accept(build_part_frame(group, view), self._recorder.open).number

    def _fire(self, camera: str, message: Mapping[str, Any], until_ns: int) -> None:
        self._publisher.notify(f"trigger/{camera}", message)
        for thread in self._ingest:
            thread.fire(camera, message["trigger_id"], until_ns)

    def _attach_trigger(self, number: int, trigger_id: str, part_id: str | None) -> Attached | None:
        recorded = threading.Event()
        ticket = self.ledger.attach(number, trigger_id, part_id, lambda ticket: self._admit(ticket, recorded))
        return None if ticket is None else Attached(recorded, lambda: self._wait_for_device(ticket))

    def _wait_for_device(self, ticket: Ticket) -> None:
        for dropped in self.buffer.put(ticket, may_block=False) or ():
            self._publisher.submit(error_outcome(dropped, Reason.OVERLOAD, "dropped: the frame buffer is full"))

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """Start all but cameras and files."""
        for thread in (*self._flow, self.switcher, self.disk, self.gpus):
            thread.start()

    def start_sources(self) -> None:
        """Start cameras and files too: recipes are loaded."""
        for thread in self._ingest:
            if thread.ident is None:
                thread.start()

    def answer_left_open(self) -> None:
        """Close what an earlier run accepted and did not answer."""
        for record in list(self.ledger.left_open.values()):
            ticket = self.ledger.adopt(record)
            message = "the station was restarted before this frame was judged"
            self._publisher.submit(error_outcome(ticket, Reason.RESTART, message))

    # ------------------------------------------------------------ while it runs

    def list_reports(self) -> dict[str, CameraReport]:
        """What each source that knows of its camera says of it, by camera."""
        return {source.name: found for source in self._fetched if (found := source.report()) is not None}

    def _list_parts(self) -> Iterator[Part]:
        """All whose death is a fault, once."""
        yield from dict.fromkeys((*self._flow, self.switcher, *self._ingest))

    def apply(self, station: Station) -> None:
        """Put a changed station file into force, its recipes aside; metrics keep the bucket edges they began with."""
        _tell_of_any_age(station.cameras)
        self.ledger.deadlines_ms = station.deadlines_ms
        self.buffer.limit(station.buffer.max_bytes, station.buffer.when_full)
        self.offline.reconfigure(station)
        self._triggers.reconfigure(station)
        self._pictures.reconfigure(station)
        for part in self._list_parts():
            part.reconfigure(station)

    def check(self) -> None:
        """Report a thread that died, a socket nobody can reach, an account that does not balance, as faults."""
        for part in self._list_parts():
            ended = part.ident is not None and not part.is_alive()
            if ended and (part.failure is not None or not part.is_done):
                self._health.fault(part.name, f"thread died: {part.failure}")
        for binding in self._bindings:
            loss = binding.find_loss()
            if loss is not None:  # a new start binds it anew, or says who has it
                self._health.fault(binding.field, loss)
        account = self.ledger.account()
        if not account.balances:
            self._health.fault("account", f"frames received do not equal frames answered plus frames open: {account}")

    # ------------------------------------------------------------ stop

    def stop(self, deadline: float, *, timeout_s: float, note: Callable[[], None]) -> list[str]:
        """Stop sources first, then with the flow, so that all that was accepted is answered; one shared deadline.

        Args:
            deadline: on the monotonic clock.
            timeout_s: the whole time there was until `deadline`.
            note: writes down why the station stops, once all verdicts are out and before the journal closes.

        Returns:
            Names of the threads that did not end. Their sockets and files stay open: only the process's end closes
            them. Of all others everything is closed.
        """
        for sampler in (self.disk, self.gpus):
            sampler.stop()
        self.switcher.stop()
        self._triggers.close()  # what is opened later would find no publisher
        for thread in self._ingest:  # less than they are waited for: the publisher answers what they drain
            thread.stop(within_s=min(DRAIN_S, 0.2 * timeout_s))
        self._refuser.start()
        # A camera that is just being opened cannot be asked to stop: those that have frames waiting come first.
        _join(self._ingest, deadline - 0.7 * timeout_s)
        for decoder in self._decoders:
            decoder.stop()
        self.buffer.close()
        for worker in self._workers:
            worker.stop()
        # A second is kept back for the answers to what could not be judged any more. After a fault nothing it computes
        # can be trusted, if it computes at all.
        _join(self._workers, time.monotonic() + 0.2 if self._health.state is State.FAULT else deadline - 1.0)
        for worker in self._workers:
            worker.abandon()
        waits_s = 0.0 if self._recorder.failure else deadline - time.monotonic() - 0.3
        self._publisher.stop(within_s=max(0.2, waits_s))
        _join([self._publisher], deadline)
        note()
        self._recorder.stop()
        if self._recorder.failure is not None:
            self._recorder.write_rest()
        self._overlayer.stop()
        self._evidence.stop()
        self._requests.stop()
        self._refuser.stop()
        for guard in self._guards:
            guard.stop()
        threads = [*self._flow, *self._ingest, self._refuser]
        _join(threads, deadline - 0.5)
        self._evidence.abandon()  # images give way to the end of the stop
        _join(threads, deadline)
        # Whatever took all the time, who waits for an answer gets one: these end by themselves.
        _join([self._requests, self._refuser], time.monotonic() + FAREWELL_S)
        _join([self.switcher, self.disk, self.gpus], time.monotonic() + 0.2)  # at once, or not for a long time
        # Looked at once: one that ends from here on counts as alive, or what it leaves open would never be closed.
        alive = [thread for thread in threads if thread.is_alive()]
        self._close(alive)
        return sorted(thread.name for thread in alive)

    def _close(self, alive: Sequence[threading.Thread]) -> None:
        """Close what no thread uses any more."""
        for sink, owner in self._sinks:
            if owner not in alive:
                sink.close()
        for guard in self._guards:
            if guard not in alive:
                guard.close()
        for binding in self._bindings:
            binding.remove()

    @property
    def is_asking_outside(self) -> bool:
        """Whether a thread still loads a recipe, or asks a driver, device or share: it cannot be stopped."""
        threads = (self.switcher, self.disk, self.gpus)
        return any(thread.is_alive() for thread in threads) or any(thread.is_asking_outside for thread in self._ingest)


def _tell_of_any_age(cameras: Mapping[str, Camera]) -> None:
    for name, camera in cameras.items():
        if camera.max_age_ms is None:
            message = "camera %s: max_age_ms is null: a frame is judged no matter how long it was delayed on the way"
            logger.warning(message, name, extra={"camera": name})


def _find_user() -> str:
    """Who this process runs as: a name where there is one."""
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def _join(threads: Sequence[threading.Thread], deadline: float) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
