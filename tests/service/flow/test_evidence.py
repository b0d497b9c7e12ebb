"""Evidence is kept off the verdict path: given up rather than waited for, and its trouble is told and forgotten."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

import inspector.service.flow.evidence as module
from inspector.codec import decode_image
from inspector.config import Evidence
from inspector.detection.run import Judgement
from inspector.errors import EvidenceError
from inspector.service.flow.evidence import EvidenceThread
from inspector.service.flow.ledger import Outcome, Ticket
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.sinks.evidence import EvidenceStore
from inspector.types import PixelFormat, Reason, Result, Verdict

Accept = Callable[..., Ticket]
End = Callable[[Any], None]
Launch = Callable[[Any], Any]
Make = Callable[..., EvidenceThread]
Offer = Callable[..., None]

WAIT_S = 10.0
REASONS = {Verdict.PASS: Reason.OK, Verdict.FAIL: Reason.DEFECT, Verdict.ERROR: Reason.OVERLOAD}


class RecordingStore:
    """A store that keeps names in memory; saving waits at `gate`; `troubles` are raised, once each where a frame's."""

    def __init__(self) -> None:
        self.saved: queue.Queue[str] = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.troubles: dict[str, BaseException] = {}
        self.full: EvidenceError | None = None
        self.nbytes = 0
        self.is_suspended = False

    def check(self) -> None:
        if self.full is not None:
            raise self.full

    def save(self, pixels: np.ndarray | None, pixel_format: PixelFormat, result: Result) -> None:
        self.check()
        if result.frame_id in self.troubles:
            raise self.troubles[result.frame_id]
        self.saved.put(result.frame_id)
        assert self.gate.wait(WAIT_S)
        self.nbytes += 100

    def names(self) -> list[str]:
        """Frames saved and not yet looked at."""
        return [self.saved.get_nowait() for _ in range(self.saved.qsize())]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def make(store: RecordingStore, running: Health, metrics: Metrics) -> Make:
    """A thread over `store` that is not started yet, at a station that runs."""
    return lambda **config: EvidenceThread(store, Evidence(**config), health=running, metrics=metrics)


@pytest.fixture
def offer(accept: Accept, make_judgement: Callable[..., Judgement], make_result: Callable[..., Result]) -> Offer:
    """Offer a published result of a frame of 10 bytes, unless told otherwise."""

    def offer(
        thread: EvidenceThread, name: str, verdict: Verdict = Verdict.FAIL, camera: str = "top", *,
        warn: bool = False, reason: Reason | None = None, **details: Any,
    ) -> None:  # fmt: skip
        outcome = Outcome(accept(name, camera, **details), verdict, REASONS[verdict], judgement=make_judgement())
        changes = {
            "frame_id": name,
            "camera": camera,
            "verdict": verdict,
            "reason": reason or REASONS[verdict],
            "warn": warn,
        }
        thread.offer(outcome, make_result(**changes))

    return offer


@pytest.fixture
def counted(registry: CollectorRegistry) -> Callable[..., tuple[float | None, float | None]]:
    """How many were written and dropped of a camera."""

    def counted(camera: str = "top") -> tuple[float | None, float | None]:
        written, dropped = (
            registry.get_sample_value(f"inspector_evidence_{name}_total", {"camera": camera})
            for name in ("written", "dropped")
        )
        return written, dropped

    return counted


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


# ---------------------------------------------------------------- what is wanted


def test_every_fail_and_error_is_kept_and_no_pass_when_none_is_asked_for(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore
) -> None:
    thread = make(pass_every=0)
    for number in range(5):
        for verdict in Verdict:
            offer(thread, f"{verdict.value}{number}", verdict)
    offer(thread, "warned", Verdict.PASS, warn=True)
    end(launch(thread))
    assert store.names() == [f"{verdict}{n}" for n in range(5) for verdict in ("FAIL", "ERROR")] + ["warned"]


def test_frame_of_a_camera_that_people_took_offline_is_not_kept(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore
) -> None:
    thread = make(pass_every=1)
    offer(thread, "offline", Verdict.ERROR, reason=Reason.OFFLINE)
    offer(thread, "error", Verdict.ERROR)
    end(launch(thread))
    assert store.names() == ["error"]


def test_first_pass_and_then_each_nth_is_kept_of_each_camera_when_sampled(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore
) -> None:
    thread = make(pass_every=3)
    for number in range(8):
        offer(thread, f"top{number}", Verdict.PASS)
        if number % 2:
            offer(thread, f"side{number}", Verdict.PASS, "side")
            offer(thread, f"warned{number}", Verdict.PASS, warn=True)  # kept anyway: it does not count
    end(launch(thread))
    assert [name for name in store.names() if "warned" not in name] == ["top0", "side1", "top3", "top6", "side7"]


def test_publisher_goes_on_when_a_reload_ends_the_sampling_while_a_pass_is_looked_at(
    make: Make, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = make()
    configs = itertools.chain([Evidence(pass_every=1)] * 2, itertools.repeat(Evidence(pass_every=0)))
    monkeypatch.setattr(EvidenceThread, "config", property(lambda _: next(configs)), raising=False)
    offer(thread, "f1", Verdict.PASS)


def test_nothing_is_kept_nor_is_the_disk_looked_at_when_none_is_wanted(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore, health: Health, counted: Any
) -> None:
    store.full = EvidenceError("full")
    thread = make(frames="none")
    for verdict in Verdict:
        offer(thread, verdict.value, verdict)
    end(launch(thread))
    assert (store.names(), health.last_error, counted()) == ([], None, (0, 0))


def test_files_hold_the_frame_and_its_result_when_written(
    offer: Offer, launch: Launch, end: End, health: Health, metrics: Metrics, registry: CollectorRegistry,
    tmp_path: Path, counted: Any,
) -> None:  # fmt: skip
    config = Evidence(min_free=0)
    thread = EvidenceThread(EvidenceStore(tmp_path, config), config, health=health, metrics=metrics)
    offer(thread, "bad", Verdict.ERROR, error="truncated")
    offer(thread, "good", size=12)
    end(launch(thread))
    results = {json.loads(path.read_text())["frame_id"]: path for path in tmp_path.rglob("*.json")}
    assert set(results) == {"bad", "good"}
    (image,) = tmp_path.rglob("*.png")
    assert image == results["good"].with_suffix(".png")
    assert decode_image(image.read_bytes())[0].shape == (1, 12)
    assert counted() == (2, 0)
    total = sum(path.stat().st_size for path in (image, *results.values()))
    assert registry.get_sample_value("inspector_evidence_bytes") == total


def test_suspension_is_shown_until_the_disk_has_room_again(
    offer: Offer, launch: Launch, health: Health, metrics: Metrics, registry: CollectorRegistry, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_CHECK_PERIOD_S", 0.05)
    config = Evidence(min_free=2**62)
    store = EvidenceStore(tmp_path, config)
    launch(EvidenceThread(store, config, health=health, metrics=metrics))
    wait_until(lambda: registry.get_sample_value("inspector_evidence_suspended") == 1)
    store.config = Evidence(min_free=0)
    wait_until(lambda: registry.get_sample_value("inspector_evidence_suspended") == 0)


# ---------------------------------------------------------------- bounds


def hang(thread: EvidenceThread, offer: Offer, store: RecordingStore, **details: Any) -> None:
    """Offer a frame that the writer hangs in."""
    store.gate.clear()
    offer(thread, "hangs", **details)
    assert store.saved.get(timeout=WAIT_S) == "hangs"


def test_offers_never_wait_and_drops_are_counted_when_the_writer_hangs(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore, counted: Any
) -> None:
    thread = launch(make(buffer=45))
    hang(thread, offer, store)  # its 10 bytes are still held
    started = time.monotonic()
    for number in range(100):
        offer(thread, f"f{number}")
    offer(thread, "small", size=5)
    offer(thread, "no pixels", Verdict.ERROR, "side", error="truncated")
    offer(thread, "other", Verdict.FAIL, "side")
    assert time.monotonic() - started < 5
    assert (counted("top"), counted("side")) == ((0, 97), (0, 1))
    store.gate.set()
    end(thread)
    assert store.names() == ["f0", "f1", "f2", "small", "no pixels"]
    assert (counted("top"), counted("side")) == ((5, 97), (1, 1))


def test_buffer_is_free_again_when_frames_were_written_or_failed(
    make: Make, offer: Offer, launch: Launch, store: RecordingStore, counted: Any
) -> None:
    store.troubles = {f"f{number}": EvidenceError("no") for number in range(5)}
    thread = launch(make(buffer=10))
    for number in range(10):
        offer(thread, f"f{number}")
        wait_until(lambda: thread._waiting_bytes == 0)
    assert counted() == (5, 5)


def test_frame_is_dropped_when_it_is_larger_than_the_buffer(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore, counted: Any
) -> None:
    thread = make(buffer=10)
    offer(thread, "large", size=11)
    offer(thread, "fits", size=10)
    end(launch(thread))
    assert store.names() == ["fits"]
    assert counted() == (1, 1)


def test_results_without_pixels_are_bounded_when_the_writer_hangs(
    make: Make, offer: Offer, launch: Launch, end: End, store: RecordingStore, counted: Any
) -> None:
    thread = launch(make())
    hang(thread, offer, store)
    for number in range(1010):
        offer(thread, f"bad{number}", Verdict.ERROR, error="truncated")
    assert counted() == (0, 10)
    store.gate.set()
    end(thread)
    assert len(store.names()) == 1000


def test_anomaly_map_is_let_go_when_its_frame_waits(make: Make, offer: Offer) -> None:
    thread = make()
    offer(thread, "waits")
    frame, result = thread._waiting.get()
    assert (frame.frame_id, result.frame_id) == ("waits", "waits")


# ---------------------------------------------------------------- trouble


def test_an_image_that_fails_costs_an_image_and_is_told_until_the_next_success(
    make: Make, offer: Offer, launch: Launch, store: RecordingStore, health: Health, counted: Any,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_CHECK_PERIOD_S", 60.0)
    store.troubles = {"f1": EvidenceError("No space left"), "f2": ValueError("a fault of ours")}
    thread = launch(make())
    offer(thread, "f0")
    wait_until(lambda: counted() == (1, 0))
    assert health.state is State.RUNNING
    offer(thread, "f1")
    wait_until(lambda: health.state is State.DEGRADED)
    offer(thread, "f2")
    wait_until(lambda: health.last_error == "evidence: frame f2: a fault of ours")
    assert health.ready() == (True, "DEGRADED: evidence: frame f2: a fault of ours")
    offer(thread, "f3")
    wait_until(lambda: health.state is State.RUNNING)
    assert store.names() == ["f0", "f3"]
    assert counted() == (2, 2)
    assert [record.getMessage() for record in caplog.records if record.name.endswith(".evidence")] == [
        "evidence not stored: frame f1: No space left"
    ]


def test_station_recovers_by_itself_when_the_disk_has_room_again_and_no_frame_comes(
    make: Make, offer: Offer, launch: Launch, store: RecordingStore, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECK_PERIOD_S", 0.1)
    thread = launch(make())
    store.full = EvidenceError("evidence.min_free: full")
    offer(thread, "lost")
    wait_until(lambda: health.state is State.DEGRADED)
    time.sleep(0.5)
    assert health.ready() == (True, "DEGRADED: evidence: evidence.min_free: full")
    store.full = None
    wait_until(lambda: health.state is State.RUNNING)
    assert store.names() == []


def test_trouble_is_told_before_the_first_frame_when_the_disk_is_full_at_the_start(
    make: Make, launch: Launch, store: RecordingStore, health: Health
) -> None:
    store.full = EvidenceError("evidence.min_free: full")
    launch(make())
    wait_until(lambda: health.state is State.DEGRADED)


def test_death_is_a_fault_that_names_its_cause_when_it_happens(
    make: Make, offer: Offer, store: RecordingStore, health: Health, beats: queue.Queue[str], counted: Any
) -> None:
    store.troubles = {"f0": SystemExit("killed from within")}
    thread = make()
    for name in ("f0", "f1"):
        offer(thread, name)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert isinstance(thread.failure, SystemExit)
    assert health.state is State.FAULT
    assert health.last_error == "evidence: killed from within"
    assert beats.queue[-1] == "forget evidence"
    assert counted() == (0, 1)  # what waited behind it is counted


# ---------------------------------------------------------------- beats and the end


def test_thread_beats_while_idle_and_is_forgotten_when_it_ended(
    make: Make, launch: Launch, end: End, beats: queue.Queue[str]
) -> None:
    thread = launch(make())
    assert [beats.get(timeout=WAIT_S) for _ in range(2)] == ["evidence"] * 2
    end(thread)
    assert beats.queue[-1] == "forget evidence"
    assert thread.failure is None


def test_what_waits_is_given_up_and_counted_when_abandoned(
    make: Make, offer: Offer, launch: Launch, store: RecordingStore, counted: Any
) -> None:
    thread = launch(make())
    hang(thread, offer, store)
    for number in range(3):
        offer(thread, f"f{number}")
    thread.stop()
    thread.join(0.3)
    assert thread.is_alive()
    thread.abandon()
    store.gate.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert store.names() == []
    assert counted() == (1, 3)
    assert thread.failure is None
