"""The device worker: each way a detector ends becomes one outcome, and a poisoned device ends the thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from inspector.config import WhenFull
from inspector.detection.run import Judgement
from inspector.device import Device
from inspector.errors import (
    DeviceFaultError,
    DeviceOutOfMemoryError,
    FrameMismatchError,
    ImageHealthError,
    NotFiniteError,
    NotLocatedError,
    RecipeError,
    UnlikeGoodError,
)
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket
from inspector.service.flow.service_times import ServiceTimes
from inspector.service.flow.worker import DeviceWorker
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import PixelFormat, Reason, Result, Verdict

Accept = Callable[..., Ticket]
Launch = Callable[[Any], Any]
MakeJudge = Callable[..., Judge]
MakeJudgement = Callable[..., Judgement]

WAIT_S = 10.0


class ScriptedRun:
    """A frame of two batches, unless told otherwise."""

    def __init__(self, frame: np.ndarray, step: Any, batches: int) -> None:
        self.frame = frame
        self.step = step
        self.left = batches
        self.is_awaited = False
        self.started = time.monotonic()

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

    def __init__(
        self, ledger: Ledger, health: Health, metrics: Metrics, judgement: Judgement, make_judge: MakeJudge
    ) -> None:
        self.judges = Judges()
        self.buffer = FrameBuffer(1000, WhenFull.BLOCK)
        self.outcomes: list[Outcome] = []
        self.service_times = ServiceTimes()
        self.abandoned = threading.Event()
        self._parts = {"service_times": self.service_times, "health": health, "metrics": metrics}
        self._ledger = ledger
        self._judgement = judgement
        self._make_judge = make_judge

    def build(self, *script: Any, **detectors: Any) -> DeviceWorker:
        """With a detector of camera `top` that follows the script, or with those given."""
        self.detector = ScriptedDetector(list(script), self._judgement)
        detectors = detectors or {"top": self.detector}
        self.judges.switch({camera: self._make_judge(detector) for camera, detector in detectors.items()})
        return self.build_worker(Device("cpu", torch.device("cpu")))

    def build_worker(self, device: Device, place: int = 0) -> DeviceWorker:
        parts = {"device": device, "place": place, "abandoned": self.abandoned, **self._parts}
        return DeviceWorker(self.buffer, self._ledger, self.judges, self.outcomes.append, **parts)

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
def bench(
    ledger: Ledger, running: Health, metrics: Metrics, make_judgement: MakeJudgement, make_judge: MakeJudge
) -> Bench:
    return Bench(ledger, running, metrics, make_judgement(), make_judge)


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
    assert outcome.judge is bench.judges.get("top")
    assert set(outcome.latency_ms) == {"capture", "queue", "infer"}
    assert (outcome.latency_ms["capture"], outcome.latency_ms["infer"]) == (20_000.0, 7.0)
    assert 10_000.0 <= outcome.latency_ms["queue"] < 20_000.0  # decoding is not waiting
    ((pixels, pixel_format),) = bench.detector.seen
    assert pixels is ticket.frame.pixels
    assert pixel_format is PixelFormat.MONO8
    assert registry.get_sample_value("inspector_tiles_total", {"device": "cpu"}) == 6
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
    assert registry.get_sample_value("inspector_tiles_total", {"device": "cpu"}) == 6
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
    assert registry.get_sample_value("inspector_tiles_total", {"device": "cpu"}) == 6
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


# ---------------------------------------------------------------- judges


def test_frame_under_way_keeps_its_judge_and_the_next_has_the_new_one_when_its_camera_is_switched(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, make_judge: MakeJudge
) -> None:
    good, bad = make_judgement(0.5), make_judgement(2.0)
    new = make_judge(ScriptedDetector([], bad), "new")
    old = ScriptedDetector([lambda: bench.judges.switch({"top": new})], good)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    worker = bench.build(top=old)
    before = bench.judges.get("top")
    bench.drain(worker)
    assert [answer[:2] for answer in bench.answers()] == [("f1", Verdict.PASS), ("f2", Verdict.FAIL)]
    assert [outcome.judge for outcome in bench.outcomes] == [before, new]


def test_judge_is_looked_up_when_work_begins_and_not_when_the_frame_came(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, make_judge: MakeJudge
) -> None:
    worker = bench.build()
    bench.buffer.put(accept("f1"))
    new = make_judge(ScriptedDetector([], make_judgement(2.0)), "new")
    bench.judges.switch({"top": new})
    bench.drain(worker)
    assert [outcome.judge for outcome in bench.outcomes] == [new]
    assert bench.detector.seen == []


def test_batches_are_not_shared_between_judges_when_a_camera_is_switched(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, make_judge: MakeJudge
) -> None:
    engine = {"frames_in_flight": 2, "pays_for_full_batch": True}
    new = ScriptedDetector([], make_judgement(), **engine)
    switch = {"top": make_judge(new, "new")}
    old = ScriptedDetector([lambda: bench.judges.switch(switch)], make_judgement(), **engine)
    for name in ("f1", "f2"):
        bench.buffer.put(accept(name))
    bench.drain(bench.build(top=old))
    assert (old.batches, new.batches) == ([1, 1], [1, 1])


# ---------------------------------------------------------------- too little time


def test_frame_is_answered_unjudged_when_its_time_left_is_less_than_the_last_frames_took(
    bench: Bench, accept: Accept
) -> None:
    for _ in range(2):
        bench.service_times.note("top", 0.7)
    bench.buffer.put(accept("hopeless", age_s=59.4))
    bench.buffer.put(accept("fresh"))
    bench.drain(bench.build())
    message = "not started: too little time was left to judge it"
    assert bench.answers() == [
        ("hopeless", Verdict.ERROR, Reason.DEADLINE, message),
        ("fresh", Verdict.PASS, Reason.OK, None),
    ]
    assert len(bench.detector.seen) == 1


def test_newest_frame_of_a_camera_is_begun_when_too_little_time_is_left_as_far_as_is_known(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    detectors = {camera: ScriptedDetector([], make_judgement()) for camera in ("top", "side")}
    worker = bench.build(**detectors)
    for camera in detectors:
        bench.service_times.note(camera, 100.0)  # more than any has: the one frame that hung
        for number in range(2):
            bench.buffer.put(accept(f"{camera}{number}", camera))
    bench.drain(worker)
    assert {frame_id: verdict.value for frame_id, verdict, *_ in bench.answers()} == {
        "top0": "ERROR",
        "side0": "ERROR",
        "top1": "PASS",
        "side1": "PASS",
    }


def test_first_frame_of_a_camera_is_begun_however_little_time_is_left(accept: Accept) -> None:
    assert ServiceTimes().can_make(accept("f1", age_s=59.9))


def test_frame_is_begun_when_its_time_left_is_enough_for_its_own_camera(accept: Accept) -> None:
    times = ServiceTimes()
    times.note("top", 5.0)
    times.note("side", 50.0)
    ages = {"top": 54.0, "side": 9.0}
    assert all(times.can_make(accept("f", camera, age_s=age)) for camera, age in ages.items())
    assert not any(times.can_make(accept("f", camera, age_s=age + 2)) for camera, age in ages.items())


def test_slowest_of_late_counts_but_a_single_hiccup_does_not(accept: Accept) -> None:
    times = ServiceTimes()
    left_s = {seconds: accept(f"{seconds}", age_s=60.0 - seconds) for seconds in (11.0, 19.0, 31.0)}
    for seconds in (10.0, 10.0, 30.0):  # a hiccup
        times.note("top", seconds)
    assert times.can_make(left_s[11.0])
    times.note("top", 20.0)
    assert not times.can_make(left_s[19.0])
    times.note("top", 30.0)
    assert times.can_make(left_s[31.0])
    for _ in range(15):
        times.note("top", 10.0)
    assert times.can_make(left_s[11.0])


def test_frame_given_up_at_its_deadline_counts_as_one_that_takes_longer(
    bench: Bench, accept: Accept, ledger: Ledger
) -> None:
    ticket = accept("late", age_s=59.0)

    def expire() -> None:
        time.sleep(0.3)
        ledger.close(ticket, Verdict.ERROR, Reason.DEADLINE)

    bench.buffer.put(ticket)
    bench.drain(bench.build(expire))
    assert bench.service_times.can_make(accept("f1", age_s=59.0))
    assert not bench.service_times.can_make(accept("f2", age_s=59.75))


def test_time_on_the_way_to_the_disk_counts_and_time_in_the_buffer_does_not(
    accept: Accept, make_judgement: MakeJudgement, make_result: Callable[..., Result]
) -> None:
    times = ServiceTimes()
    ticket = accept("f1")
    latency_ms = {"capture": 2000.0, "queue": 5000.0, "infer": 1000.0, "journal": 9000.0, "total": 17_000.0}
    result = make_result(1, latency_ms=latency_ms)
    times.offer(Outcome(ticket, Verdict.ERROR, Reason.DEADLINE), result)  # was not judged: says nothing
    assert times.can_make(accept("f2", age_s=59.9))
    times.offer(Outcome(ticket, Verdict.PASS, Reason.OK, judgement=make_judgement()), result)
    assert times.can_make(accept("f3", age_s=49.0))
    assert not times.can_make(accept("f4", age_s=51.0))


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
    bench.abandoned.set()
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
    # two frames of two batches each, a beat before each
    assert list(beats.queue) == ["device"] * 4 + ["forget device"]


# ---------------------------------------------------------------- frames that show not the part


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImageHealthError("dark"), Reason.IMAGE_HEALTH),
        (UnlikeGoodError("turned"), Reason.UNLIKE_GOOD),
        (NotLocatedError("pose: score must be at least 0.9, got 0.4"), Reason.NOT_LOCATED),
    ],
)
def test_frame_that_shows_not_the_part_is_an_error_with_a_reason_of_its_own(
    bench: Bench, accept: Accept, error: Exception, reason: Reason
) -> None:
    bench.buffer.put(accept("f1"))
    bench.drain(bench.build(error))
    assert bench.answers() == [("f1", Verdict.ERROR, reason, str(error))]


# ---------------------------------------------------------------- several devices

CPU = torch.device("cpu")


def build_two(bench: Bench, **detectors: Any) -> list[DeviceWorker]:
    """Of camera `top` on the first device, of `side` on the second."""
    bench.buffer = FrameBuffer(1000, WhenFull.BLOCK, {"top": 0, "side": 1})
    bench.build(**detectors)
    return [bench.build_worker(Device(f"cpu:{place}", CPU, is_only=False), place) for place in range(2)]


def test_each_device_judges_its_own_camera_while_the_other_stands_still(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, launch: Launch, registry: CollectorRegistry
) -> None:
    goes_on = threading.Event()
    stuck = ScriptedDetector([lambda: goes_on.wait(WAIT_S)], make_judgement())
    free = ScriptedDetector([], make_judgement())
    workers = [launch(worker) for worker in build_two(bench, top=stuck, side=free)]
    assert [worker.name for worker in workers] == ["device cpu:0", "device cpu:1"]
    for name, camera in (("t1", "top"), ("s1", "side"), ("s2", "side")):
        bench.buffer.put(accept(name, camera))
    wait_until(lambda: len(bench.outcomes) == 2)
    assert [answer[0] for answer in bench.answers()] == ["s1", "s2"]
    goes_on.set()
    wait_until(lambda: len(bench.outcomes) == 3)
    assert (len(stuck.seen), len(free.seen)) == (1, 2)
    tiles = [registry.get_sample_value("inspector_tiles_total", {"device": f"cpu:{n}"}) for n in range(2)]
    assert tiles == [6, 12]


def test_no_device_judges_any_more_once_one_has_failed(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, ledger: Ledger, running: Health
) -> None:
    poisoned = ScriptedDetector([DeviceFaultError("device: CUDA error: unspecified launch failure")], make_judgement())
    failed = threading.Event()
    healthy = ScriptedDetector([lambda: failed.wait(WAIT_S)], make_judgement())
    first, second = build_two(bench, top=poisoned, side=healthy)
    for name in ("s1", "s2"):
        bench.buffer.put(accept(name, "side"))
    second.start()
    wait_until(lambda: healthy.batches)  # s1 is under way
    bench.buffer.put(accept("t1", "top"))
    first.start()
    first.join(WAIT_S)
    failed.set()
    second.join(WAIT_S)
    assert not second.is_alive()
    assert [answer[:3] for answer in bench.answers()] == [("t1", Verdict.ERROR, Reason.INFERENCE_FAULT)]
    assert [ticket.frame.frame_id for ticket in ledger.open_tickets()] == ["s1", "s2", "t1"]  # the publisher's turn
    assert (second.failure, second.is_done) == (None, True)
    assert running.state is State.FAULT
    assert (running.last_error or "").startswith("device cpu:0: device: CUDA error")


def test_frame_gets_no_verdict_from_a_device_when_another_fails_during_its_last_batch(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement, ledger: Ledger, registry: CollectorRegistry
) -> None:
    detector = ScriptedDetector([bench.abandoned.set], make_judgement())
    detector.batches_per_frame = 1
    bench.buffer.put(accept("f1"))
    bench.drain(bench.build(top=detector))
    assert (detector.batches, detector.finished, bench.answers()) == ([1], [], [])
    assert [ticket.frame.frame_id for ticket in ledger.open_tickets()] == ["f1"]  # the publisher's turn
    assert abandoned(registry) == 1


def test_worker_that_is_asked_to_stop_does_not_wait_for_frames_of_another_device(
    bench: Bench, accept: Accept, make_judgement: MakeJudgement
) -> None:
    _, second = build_two(bench, **{name: ScriptedDetector([], make_judgement()) for name in ("top", "side")})
    bench.buffer.put(accept("t1", "top"))
    bench.buffer.put(accept("s1", "side"))
    bench.drain(second)
    assert [answer[0] for answer in bench.answers()] == ["s1"]
    assert len(bench.buffer) == 1


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
