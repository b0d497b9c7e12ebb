"""The device worker: each way a detector ends becomes one outcome, and a poisoned device ends the thread."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from inspector.config import WhenFull
from inspector.detector import Judgement
from inspector.errors import (
    DeviceFaultError,
    DeviceOutOfMemoryError,
    FrameMismatchError,
    NotFiniteError,
    RecipeError,
)
from inspector.service.frame_buffer import FrameBuffer
from inspector.service.health import Health, State
from inspector.service.ledger import Ledger, Outcome, Ticket
from inspector.service.metrics import Metrics
from inspector.service.worker import DeviceWorker
from inspector.types import PixelFormat, Reason, Verdict

Accept = Callable[..., Ticket]
Launch = Callable[[Any], Any]
MakeJudgement = Callable[..., Judgement]

WAIT_S = 10.0


class ScriptedRun:
    """A frame of two batches, unless told otherwise."""

    def __init__(self, frame: np.ndarray, step: Any, batches: int) -> None:
        self.frame = frame
        self.step = step
        self.left = batches
        self.is_awaited = False

    @property
    def is_done(self) -> bool:
        return self.left == 0

    @property
    def is_ready(self) -> bool:
        return self.is_done and not self.is_awaited


class ScriptedDetector:
    """Gives or raises what each step of the script says; a step that can be called is called after the first batch."""

    def __init__(self, script: list[Any], judgement: Judgement, **engine: Any) -> None:
        self.engine = SimpleNamespace(**{"frames_in_flight": 1, "pays_for_full_batch": False} | engine)
        self.seen: list[tuple[np.ndarray, PixelFormat]] = []
        self.batches: list[int] = []
        self.finished: list[int] = []
        self.batches_per_frame = 2
        self.is_slow = False  # results are there only once they are waited for
        self._script = iter(script)
        self._judgement = judgement

    def begin(self, pixels: np.ndarray, pixel_format: PixelFormat) -> ScriptedRun:
        self.seen.append((pixels, pixel_format))
        step = next(self._script, self._judgement)
        if isinstance(step, DeviceOutOfMemoryError) and "begin" in str(step):
            raise step
        run = ScriptedRun(pixels, step, self.batches_per_frame)
        run.is_awaited = self.is_slow
        return run

    def advance(self, runs: list[ScriptedRun]) -> None:
        self.batches.append(len(runs))
        if isinstance(runs[0].step, BaseException):
            raise runs[0].step
        for run in runs:
            run.left -= 1
        if callable(runs[0].step):
            runs[0].step()
            runs[0].step = self._judgement

    def finish(self, run: ScriptedRun) -> Judgement:
        assert run.is_done
        self.finished.append(len(self.batches))
        return run.step


class Bench:
    """A worker, the buffer it empties and the outcomes it submits."""

    def __init__(self, ledger: Ledger, health: Health, metrics: Metrics, judgement: Judgement) -> None:
        self.buffer = FrameBuffer(1000, WhenFull.BLOCK)
        self.outcomes: list[Outcome] = []
        self._parts = {"health": health, "metrics": metrics}
        self._ledger = ledger
        self._judgement = judgement

    def build(self, *script: Any, **detectors: Any) -> DeviceWorker:
        """With a detector of camera `top` that follows the script, or with those given."""
        self.detector = ScriptedDetector(list(script), self._judgement)
        detectors = detectors or {"top": self.detector}
        return DeviceWorker(self.buffer, self._ledger, detectors, self.outcomes.append, **self._parts)

    def drain(self, worker: DeviceWorker) -> DeviceWorker:
        """Run it until the buffer is empty."""
        self.buffer.close()
        worker.stop()
        worker.start()
        worker.join(WAIT_S)
        assert not worker.is_alive()
        return worker

    def answers(self) -> list[tuple[str, Verdict, Reason, str | None]]:
        return [(o.ticket.frame.frame_id, o.verdict, o.reason, o.message) for o in self.outcomes]


@pytest.fixture
def bench(ledger: Ledger, health: Health, metrics: Metrics, make_judgement: MakeJudgement) -> Bench:
    health.enter(State.RUNNING)
    return Bench(ledger, health, metrics, make_judgement())


def abandoned(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("inspector_frames_abandoned_total", {"camera": "top"})


# ---------------------------------------------------------------- judged


@pytest.mark.parametrize(
    ("score", "verdict", "reason"), [(0.5, Verdict.PASS, Reason.OK), (2.0, Verdict.FAIL, Reason.DEFECT)]
)
def test_outcome_is_the_detectors_when_judged(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, registry: CollectorRegistry,
    score: float, verdict: Verdict, reason: Reason,
) -> None:  # fmt: skip
    judgement = make_judgement(score, tiles=6)
    ticket = accept("f1", age_s=30.0, decode_ms=20_000.0)
    bench.buffer.put(ticket)
    worker = bench.drain(bench.build(judgement))
    (outcome,) = bench.outcomes
    assert outcome.ticket is ticket
    assert (outcome.verdict, outcome.reason, outcome.message) == (verdict, reason, None)
    assert outcome.judgement is judgement
    assert set(outcome.latency_ms) == {"capture", "queue", "infer"}
    assert (outcome.latency_ms["capture"], outcome.latency_ms["infer"]) == (20_000.0, 7.0)
    assert 10_000.0 <= outcome.latency_ms["queue"] < 20_000.0  # decoding is not waiting
    ((pixels, pixel_format),) = bench.detector.seen
    assert pixels is ticket.frame.pixels
    assert pixel_format is PixelFormat.MONO8
    assert registry.get_sample_value("inspector_tiles_total") == 6
    assert worker.failure is None


def test_cameras_are_judged_by_their_own_detectors_when_they_take_turns(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    good, bad = make_judgement(0.5), make_judgement(2.0)
    for name, camera in (("t1", "top"), ("t2", "top"), ("s1", "side")):
        bench.buffer.put(accept(name, camera))
    detectors: Mapping[str, ScriptedDetector] = {"top": ScriptedDetector([], good), "side": ScriptedDetector([], bad)}
    bench.drain(bench.build(**detectors))
    assert [answer[:2] for answer in bench.answers()] == [
        ("t1", Verdict.PASS), ("s1", Verdict.FAIL), ("t2", Verdict.PASS),
    ]  # fmt: skip


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FrameMismatchError("another size"), Reason.FRAME_MISMATCH),
        (NotFiniteError("3 values are not"), Reason.NOT_FINITE),
        (DeviceOutOfMemoryError("at half the batch"), Reason.OUT_OF_MEMORY),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
def test_error_becomes_its_reason_and_the_worker_goes_on_when_one_frame_cannot_be_judged(
    bench: Bench, accept: Accept, health: Health, registry: CollectorRegistry, error: Exception, reason: Reason
) -> None:
    bench.buffer.put(accept("bad"))
    bench.buffer.put(accept("good"))
    worker = bench.drain(bench.build(error))
    assert bench.answers() == [
        ("bad", Verdict.ERROR, reason, str(error)),
        ("good", Verdict.PASS, Reason.OK, None),
    ]
    assert bench.outcomes[0].judgement is None
    assert registry.get_sample_value("inspector_tiles_total") == 6
    assert health.ready() == (True, "RUNNING")
    assert worker.failure is None


def test_frame_is_answered_and_the_thread_ends_in_fault_when_the_device_fails(
    bench: Bench, accept: Accept, health: Health, beats: queue.Queue[str], launch: Launch
) -> None:
    error = DeviceFaultError("device: CUDA error: an illegal memory access")
    bench.buffer.put(accept("f1"))
    bench.buffer.put(accept("f2"))
    worker = launch(bench.build(error))
    worker.join(WAIT_S)  # by itself: nobody asked
    assert not worker.is_alive()
    assert bench.answers() == [("f1", Verdict.ERROR, Reason.INFERENCE_FAULT, f"DeviceFaultError: {error}")]
    assert worker.failure is error
    assert health.live() == (False, f"FAULT: device: {error}")
    assert beats.queue[-1] == "forget device"
    assert len(bench.buffer) == 1  # nothing is judged on a poisoned device


@pytest.mark.parametrize(
    "error", [DeviceFaultError("CUDA"), RecipeError("no threshold"), RuntimeError("bug"), MemoryError("host")], ids=repr
)
def test_frame_is_answered_and_the_thread_ends_in_fault_when_a_detector_fails_as_none_may(
    bench: Bench, accept: Accept, health: Health, launch: Launch, error: Exception
) -> None:
    bench.buffer.put(accept("f1"))
    worker = launch(bench.build(error))
    worker.join(WAIT_S)
    assert not worker.is_alive()
    assert bench.answers() == [("f1", Verdict.ERROR, Reason.INFERENCE_FAULT, f"{type(error).__name__}: {error}")]
    assert worker.failure is error
    assert health.live() == (False, f"FAULT: device: {error}")


# ---------------------------------------------------------------- answered meanwhile


def test_frame_is_never_judged_when_it_was_answered_while_it_waited(
    bench: Bench, accept: Accept, ledger: Ledger, registry: CollectorRegistry
) -> None:
    answered = accept("answered")
    for ticket in (answered, accept("next")):
        bench.buffer.put(ticket)
    ledger.close(answered, Verdict.ERROR, Reason.DEADLINE)
    bench.drain(bench.build())
    assert [answer[0] for answer in bench.answers()] == ["next"]
    assert len(bench.detector.seen) == 1
    assert abandoned(registry) == 0


def test_frame_is_abandoned_between_batches_when_it_was_answered_meanwhile(
    bench: Bench, accept: Accept, ledger: Ledger, registry: CollectorRegistry, health: Health
) -> None:
    slow = accept("slow")
    for ticket in (slow, accept("next")):
        bench.buffer.put(ticket)
    worker = bench.drain(bench.build(lambda: ledger.close(slow, Verdict.ERROR, Reason.DEADLINE)))
    assert bench.answers() == [("next", Verdict.PASS, Reason.OK, None)]
    assert abandoned(registry) == 1
    assert registry.get_sample_value("inspector_tiles_total") == 6
    assert (health.ready(), worker.failure) == ((True, "RUNNING"), None)


# ---------------------------------------------------------------- several frames under way


def test_frames_share_batches_and_end_in_their_order_when_a_full_batch_costs_as_much(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    detector = ScriptedDetector([], make_judgement(), frames_in_flight=3, pays_for_full_batch=True)
    detector.is_slow = True
    for number in range(5):
        bench.buffer.put(accept(f"f{number}"))
    bench.drain(bench.build(top=detector))
    assert [answer[0] for answer in bench.answers()] == [f"f{number}" for number in range(5)]
    # The first does not wait for the second to be brought in; then batches are shared, while there is room for more.
    assert detector.batches[:3] == [1, 2, 2]


def test_batches_are_not_shared_when_a_small_one_is_cheap(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    detector = ScriptedDetector([], make_judgement(), frames_in_flight=2)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=detector))
    assert detector.batches == [1] * 4


def test_batches_are_not_shared_between_recipes(bench: Bench, accept: Accept, make_judgement: MakeJudgement) -> None:
    engine = {"frames_in_flight": 2, "pays_for_full_batch": True}
    detectors = {name: ScriptedDetector([], make_judgement(), **engine) for name in ("top", "side")}
    for name in detectors:
        bench.buffer.put(accept(name, name))
    bench.drain(bench.build(**detectors))
    assert [detector.batches for detector in detectors.values()] == [[1, 1], [1, 1]]
    assert len(bench.outcomes) == 2


def test_result_is_fetched_as_soon_as_it_is_there_when_others_are_under_way(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    detector = ScriptedDetector([], make_judgement(), frames_in_flight=2)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=detector))
    assert detector.finished == [2, 4]  # batches before each: f1 does not wait for f2's


def test_next_frame_is_computed_before_a_result_is_waited_for(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    detector = ScriptedDetector([], make_judgement(), frames_in_flight=2)
    detector.is_slow = True
    for name in ("f1", "f2", "f3"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=detector))
    assert detector.finished == [4, 6, 6]


def test_frame_waits_for_room_when_memory_runs_out_beside_another(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    good = make_judgement()
    detector = ScriptedDetector([good, DeviceOutOfMemoryError("at begin")], good, frames_in_flight=2)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=detector))
    assert [(answer[0], answer[2]) for answer in bench.answers()] == [("f1", Reason.OK), ("f2", Reason.OK)]
    assert len(detector.seen) == 3


def test_frame_is_refused_when_memory_runs_out_with_nothing_beside_it(bench: Bench, accept: Accept) -> None:
    bench.buffer.put(accept("f1"))
    bench.drain(bench.build(DeviceOutOfMemoryError("at begin")))
    assert [answer[2] for answer in bench.answers()] == [Reason.OUT_OF_MEMORY]


def test_all_under_way_are_answered_when_the_device_fails(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, launch: Launch
) -> None:
    judgement = make_judgement()
    detector = ScriptedDetector([judgement, DeviceFaultError("CUDA")], judgement, frames_in_flight=2)
    detector.is_slow = True
    for name in ("f1", "f2", "f3"):
        bench.buffer.put(accept(name))
    worker = launch(bench.build(top=detector))
    worker.join(WAIT_S)
    assert [(answer[0], answer[2]) for answer in bench.answers()] == [
        ("f1", Reason.INFERENCE_FAULT), ("f2", Reason.INFERENCE_FAULT),
    ]  # fmt: skip
    assert len(bench.buffer) == 1


def test_the_others_are_judged_when_one_under_way_runs_out_of_memory(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    engine = {"frames_in_flight": 2, "pays_for_full_batch": True}
    detector = ScriptedDetector([DeviceOutOfMemoryError("full")], make_judgement(), **engine)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=detector))
    assert [(answer[0], answer[2]) for answer in bench.answers()] == [
        ("f1", Reason.OUT_OF_MEMORY), ("f2", Reason.OK),
    ]  # fmt: skip


# ---------------------------------------------------------------- stop


def test_all_that_waits_is_judged_when_asked_to_stop(bench: Bench, accept: Accept) -> None:
    for number in range(20):
        bench.buffer.put(accept(f"f{number}"))
    bench.drain(bench.build())
    assert bench.answers() == [(f"f{number}", Verdict.PASS, Reason.OK, None) for number in range(20)]


def test_worker_ends_at_the_next_batch_when_told_to_abandon(
    bench: Bench, accept: Accept, ledger: Ledger, registry: CollectorRegistry
) -> None:
    for name in ("f1", "f2", "f3"):
        bench.buffer.put(accept(name))
    worker = bench.build()
    detector = bench.detector
    detector._script = iter([detector._judgement, worker.abandon])
    bench.drain(worker)
    assert [answer[0] for answer in bench.answers()] == ["f1"]
    assert [ticket.frame.frame_id for ticket in ledger.open_tickets()] == ["f1", "f2", "f3"]  # f1: publisher's turn
    assert len(bench.buffer) == 1
    assert abandoned(registry) == 1
    assert worker.failure is None


def test_idle_worker_ends_soon_when_told_to_abandon(bench: Bench, launch: Launch) -> None:
    worker = launch(bench.build())
    worker.abandon()
    worker.join(WAIT_S)
    assert not worker.is_alive()
    assert worker.failure is None


def test_worker_waits_for_frames_when_idle(bench: Bench, accept: Accept, launch: Launch, end: Any) -> None:
    judged: queue.Queue[str] = queue.Queue()
    worker = bench.build(lambda: judged.put("f1"), lambda: judged.put("f2"))
    launch(worker)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
        assert judged.get(timeout=WAIT_S) == name
    end(worker)
    assert [answer[0] for answer in bench.answers()] == ["f1", "f2"]


def test_worker_beats_before_each_frame_and_between_its_batches(
    bench: Bench, accept: Accept, beats: queue.Queue[str]
) -> None:
    bench.buffer.put(accept("f1"))
    bench.buffer.put(accept("f2"))
    bench.drain(bench.build())
    # two frames of two batches each, a beat before each; one round that finds nothing and ends
    assert list(beats.queue) == ["device"] * 5 + ["forget device"]
