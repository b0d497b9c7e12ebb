"""One verdict for each frame: on record before it leaves, in time or an error, never a PASS by accident."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Journal as JournalConfig
from inspector.detection.run import Judgement
from inspector.errors import JournalError
from inspector.journal.writer import Closing, Journal, OpenFrame, read_results
from inspector.service.flow import publisher as module
from inspector.service.flow import recorder as recorder_module
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.flow.publisher import Publisher
from inspector.service.flow.recorder import Recorder, Written
from inspector.service.flow.status import Identity, StatusBoard
from inspector.service.orders.offline import Offline
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import SCHEMA, Frame, Reason, Region, Result, Verdict

Accept = Callable[..., Ticket]
End = Callable[[Any], None]
Launch = Callable[[Any], Any]
Make = Callable[..., Publisher]
MakeJudge = Callable[..., Judge]
MakeJudgement = Callable[..., Judgement]

WAIT_S = 10.0
DISK_FULL = "journal: cannot be written: disk full"


class StubRecorder:
    """A recorder without a disk. `error` fails all closings at once; one that `hangs` says nothing until told to."""

    def __init__(self, trace: list[Any], error: str | None = None) -> None:
        self.closed: list[Closing] = []
        self.late: queue.Queue[Closing] = queue.Queue()
        self.error = error
        self.hangs = False
        self.on_written: Callable[[Written], None] = lambda _: None
        self._trace = trace
        self._handed: queue.Queue[Closing] = queue.Queue()

    def close(self, closing: Closing) -> None:
        self.closed.append(closing)
        if self.hangs:
            self._handed.put(closing)
        else:
            self._tell([closing], self.error)

    def close_late(self, closing: Closing) -> None:
        self._trace.append(("late", closing.result.frame_id))
        self.late.put(closing)

    def answer(self, count: int = 1, error: str | None = None) -> None:
        """Say of so many closings, or of as soon as they are handed in, that they are durable or failed."""
        self._tell([self._handed.get(timeout=WAIT_S) for _ in range(count)], error)

    def next_late(self) -> Closing:
        return self.late.get(timeout=WAIT_S)

    def _tell(self, closings: Sequence[Closing], error: str | None) -> None:
        if error is None:
            self._trace.append(("journal", [closing.result.frame_id for closing in closings]))
        self.on_written(Written(closings, error))


class RecordingSocket:
    """A results socket that keeps what it is given; `lagging`: a subscriber lost each message."""

    def __init__(self, trace: list[Any], *, lagging: bool = False) -> None:
        self.results: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue()
        self.statuses: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self.joined = threading.Event()
        self._trace = trace
        self._lagging = lagging

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        if topic == "status":
            self.statuses.put(message)
        else:
            self._trace.append(("socket", message["frame_id"]))
            self.results.put((topic, message))
        return not self._lagging

    def read_subscriptions(self) -> bool:
        joined = self.joined.is_set()
        self.joined.clear()
        return joined

    def next(self) -> Mapping[str, Any]:
        """The next result."""
        return self.results.get(timeout=WAIT_S)[1]

    def all(self) -> list[Mapping[str, Any]]:
        """What was sent and not yet looked at."""
        return [self.results.get_nowait()[1] for _ in range(self.results.qsize())]


@pytest.fixture
def trace() -> list[Any]:
    """What recorder, socket and tap were handed, in order."""
    return []


@pytest.fixture
def recorder(trace: list[Any]) -> StubRecorder:
    return StubRecorder(trace)


@pytest.fixture
def socket(trace: list[Any]) -> RecordingSocket:
    return RecordingSocket(trace)


@pytest.fixture
def judges(make_judge: MakeJudge) -> Judges:
    """Camera `top` has recipe `lens`, `side` has none."""
    judges = Judges()
    judges.switch({"top": make_judge()})
    return judges


@pytest.fixture
def forgotten() -> list[str]:
    """Frames that the buffer was told to forget."""
    return []


@pytest.fixture
def make(
    trace: list[Any], recorder: StubRecorder, socket: RecordingSocket, ledger: Ledger, running: Health,
    metrics: Metrics, judges: Judges, forgotten: list[str], offline: Offline,
) -> Make:  # fmt: skip
    """A publisher that is not started yet, with other parts than the fixtures' on request."""

    def make(**parts: Any) -> Publisher:
        identity, last_seqs = Identity(station="press-3", boot_id="boot-7"), parts.get("last_seqs", {})
        status = StatusBoard(
            identity,
            ledger.deadlines_ms,
            last_seqs=last_seqs,
            last_results=parts.get("last_results", {}),
            queue_depth=lambda: 3,
            more=lambda: {"last_reload": None},
            health=running,
        )
        return Publisher(
            ledger,
            parts.get("recorder", recorder),
            parts.get("socket", socket),
            identity,
            judges,
            last_seqs=last_seqs,
            forget=lambda ticket: forgotten.append(ticket.frame.frame_id),
            taps=parts.get("taps", (lambda outcome, result: trace.append(("tap", result.frame_id)),)),
            status=status,
            offline=offline,
            health=running,
            metrics=metrics,
        )

    return make


@pytest.fixture
def end() -> End:
    """Ask a publisher to stop, with all the time it may want, and see it end."""

    def end(thread: Any) -> None:
        if isinstance(thread, Publisher):
            thread.stop(within_s=WAIT_S)
        else:
            thread.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()

    return end


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start a thread; it is ended with the test at the latest, without waiting for the disk."""
    launched: list[Any] = []

    def launch(thread: Any) -> Any:
        thread.start()
        launched.append(thread)
        return thread

    yield launch
    for thread in reversed(launched):
        if isinstance(thread, Publisher):
            thread.stop(within_s=0.0)
        else:
            thread.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.fixture
def judged(accept: Accept, make_judgement: MakeJudgement, judges: Judges) -> Callable[..., Outcome]:
    """The outcome of a frame that the ledger accepted and a detector judged."""

    def judged(frame_id: str, score: float = 0.5, **details: Any) -> Outcome:
        judgement = make_judgement(score)
        decision = judgement.decision
        ticket = accept(frame_id, **details)
        return Outcome(
            ticket,
            decision.verdict,
            decision.reason,
            judgement=judgement,
            judge=judges.get(ticket.frame.camera),
            latency_ms={"queue": 2.0, **judgement.latency_ms},
        )

    return judged


Judged = Callable[..., Outcome]


def verdicts(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(message["frame_id"], message["verdict"], message["reason"]) for message in messages]


def late(closing: Closing) -> tuple[str, str, str, bool]:
    result = closing.result
    return result.frame_id, result.verdict.value, result.reason.name, closing.amends


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---------------------------------------------------------------- journal first


def test_outcome_is_on_record_before_it_is_sent_when_judged(
    make: Make, launch: Launch, end: End, judged: Judged, trace: list[Any], socket: RecordingSocket
) -> None:
    publisher = launch(make())
    publisher.submit(judged("f1"))
    socket.next()
    publisher.submit(judged("f2", score=2.0))
    end(publisher)
    assert trace == [
        ("journal", ["f1"]), ("socket", "f1"), ("tap", "f1"),
        ("journal", ["f2"]), ("socket", "f2"), ("tap", "f2"),
    ]  # fmt: skip


@pytest.mark.parametrize("score", [0.5, 2.0], ids=["PASS", "FAIL"])
def test_verdict_leaves_only_once_it_is_durable_and_others_do_not_wait_for_it(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket, score: float
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    for frame_id in ("f1", "f2"):
        publisher.submit(judged(frame_id, score))
    wait_until(lambda: len(recorder.closed) == 2)  # both are handed in, though neither is durable
    time.sleep(0.1)
    assert socket.all() == []
    recorder.answer()
    assert socket.next()["frame_id"] == "f1"
    assert socket.all() == []
    recorder.answer()
    assert socket.next()["frame_id"] == "f2"


def test_record_is_what_was_sent_when_judged(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    outcome = judged("f1", score=2.0)
    launch(make()).submit(outcome)
    sent = dict(socket.next())
    (closing,) = recorder.closed
    assert (closing.number, closing.amends) == (outcome.ticket.number, False)
    written = closing.result.to_wire()
    sent_ms, written_ms = sent.pop("latency_ms"), written.pop("latency_ms")
    assert sent == written
    assert sent_ms.pop("journal") > 0
    assert sent_ms.pop("total") >= written_ms.pop("total")
    assert sent_ms == written_ms


@pytest.mark.parametrize("score", [0.5, 0.95, 2.0], ids=["PASS", "WARN", "FAIL"])
def test_verdict_becomes_not_ready_and_is_amended_when_the_journal_cannot_be_written(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, recorder: StubRecorder,
    socket: RecordingSocket, score: float,
) -> None:  # fmt: skip
    recorder.error = DISK_FULL
    publisher = launch(make())
    outcome = judged("f1", score)
    publisher.submit(outcome)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "NOT_READY", 40)
    assert (sent["message"], sent["warn"]) == (DISK_FULL, False)
    amendment = recorder.next_late()
    assert late(amendment) == ("f1", "ERROR", "NOT_READY", True)
    assert (amendment.number, amendment.result.seq) == (outcome.ticket.number, sent["seq"])
    end(publisher)
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.NOT_READY): 1}
    assert recorder.late.empty()
    assert publisher.failure is None


def test_error_keeps_its_own_reason_when_the_journal_cannot_be_written(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.error = DISK_FULL
    launch(make()).submit(error_outcome(accept("f1"), Reason.OVERLOAD, "dropped"))
    sent = socket.next()
    assert (sent["reason"], sent["message"], sent["recorded"]) == ("OVERLOAD", "dropped", False)
    assert late(recorder.next_late()) == ("f1", "ERROR", "OVERLOAD", True)


def test_verdicts_are_sent_again_when_the_journal_can_be_written_again(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    for frame_id, error in (("f1", DISK_FULL), ("f2", DISK_FULL), ("f3", None)):
        recorder.error = error
        publisher.submit(judged(frame_id))
        assert socket.next()["reason"] == ("NOT_READY" if error else "OK")


def test_no_verdict_of_a_batch_is_a_pass_when_its_one_write_fails(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    for number in range(3):
        publisher.submit(judged(f"f{number}"))
    recorder.answer(3, error=DISK_FULL)
    assert [socket.next()["reason"] for _ in range(3)] == ["NOT_READY"] * 3


# ---------------------------------------------------------------- a disk that hangs


def test_frame_is_answered_deadline_and_that_is_amended_when_the_disk_hangs(
    make: Make, launch: Launch, judged: Judged, ledger: Ledger, recorder: StubRecorder, socket: RecordingSocket,
    trace: list[Any],
) -> None:  # fmt: skip
    recorder.hangs = True
    publisher = launch(make())
    outcome = judged("f1", age_s=59.7)
    publisher.submit(outcome)
    sent = socket.next()
    lateness_s = (time.monotonic_ns() - outcome.ticket.deadline_monotonic_ns) / 1e9
    assert 0.02 <= lateness_s < 1.0
    assert verdicts([sent]) == [("f1", "ERROR", "DEADLINE")]
    assert sent["message"] == "judged, but not recorded before the deadline"
    amendment = recorder.next_late()
    assert late(amendment) == ("f1", "ERROR", "DEADLINE", True)
    assert amendment.number == outcome.ticket.number
    assert {**amendment.result.to_wire(), "latency_ms": None} == {**sent, "latency_ms": None}
    recorder.answer()
    publisher.submit(judged("f2"))
    recorder.answer()
    assert socket.next()["frame_id"] == "f2"  # that f1 is durable now changes nothing
    assert recorder.late.empty()
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.DEADLINE): 1, ("top", Verdict.PASS, Reason.OK): 1}


def test_pass_is_not_put_on_record_again_when_its_write_fails_after_the_deadline_was_answered(
    make: Make, launch: Launch, end: End, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    publisher.submit(judged("f1", age_s=59.8))
    assert socket.next()["reason"] == "DEADLINE"
    recorder.answer(error=DISK_FULL)
    end(publisher)
    assert [late(recorder.late.get_nowait()) for _ in range(recorder.late.qsize())] == [
        ("f1", "ERROR", "DEADLINE", True)
    ]
    assert socket.all() == []


def test_error_is_put_on_record_again_when_its_write_fails_after_it_was_sent(
    make: Make, launch: Launch, end: End, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    ticket = accept("f1", age_s=59.8)
    sent = socket.next()
    assert (sent["reason"], sent["message"]) == ("DEADLINE", "no verdict before the deadline")
    assert recorder.late.empty()  # what waits for the disk is what was sent
    recorder.answer(error=DISK_FULL)
    closing = recorder.next_late()
    assert late(closing) == ("f1", "ERROR", "DEADLINE", True)
    assert (closing.number, closing.result.seq) == (ticket.number, sent["seq"])
    end(publisher)
    assert socket.all() == []


def test_error_is_not_put_on_record_twice_when_its_write_succeeds_after_it_was_sent(
    make: Make, launch: Launch, end: End, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    accept("f1", age_s=61)
    assert socket.next()["reason"] == "DEADLINE"
    recorder.answer()
    end(publisher)
    assert (socket.all(), recorder.late.qsize()) == ([], 0)


def test_error_keeps_its_own_reason_when_the_disk_hangs(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    launch(make()).submit(error_outcome(accept("f1", age_s=59.8), Reason.OVERLOAD, "dropped"))
    assert verdicts([socket.next()]) == [("f1", "ERROR", "OVERLOAD")]


def test_deadline_error_waits_a_moment_for_the_disk_when_it_is_only_slow(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket, trace: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_GRACE_NS", int(WAIT_S * 1e9))
    recorder.hangs = True
    launch(make())
    accept("f1", age_s=61)
    wait_until(lambda: bool(recorder.closed))
    time.sleep(0.1)
    assert trace == []
    recorder.answer()
    socket.next()
    assert trace[:2] == [("journal", ["f1"]), ("socket", "f1")]


def test_verdict_is_amended_to_deadline_when_it_is_durable_only_after_the_deadline(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_GRACE_NS", int(WAIT_S * 1e9))
    recorder.hangs = True
    outcome = judged("f1", age_s=59.8)
    launch(make()).submit(outcome)
    wait_until(lambda: time.monotonic_ns() > outcome.ticket.deadline_monotonic_ns)
    recorder.answer()
    sent = socket.next()
    assert verdicts([sent]) == [("f1", "ERROR", "DEADLINE")]
    assert sent["message"] == "judged, but recorded only after the deadline"
    assert late(recorder.next_late()) == ("f1", "ERROR", "DEADLINE", True)


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize("score", [0.5, 2.0], ids=["PASS", "FAIL"])
def test_verdict_becomes_deadline_error_when_it_comes_after_the_deadline(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket, recorder: StubRecorder, score: float
) -> None:
    publisher = make()
    publisher.submit(judged("late", score, age_s=60.1))  # waits already, so that this and no tick answers
    launch(publisher)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "DEADLINE", 11)
    assert sent["message"] == "judged, but after the deadline"
    assert (sent["score"], sent["margin"], sent["regions"]) == (None, None, ())
    assert [closing.result.reason for closing in recorder.closed] == [Reason.DEADLINE]


def test_error_keeps_its_own_reason_when_it_comes_after_the_deadline(
    make: Make, launch: Launch, accept: Accept, socket: RecordingSocket
) -> None:
    publisher = make()
    publisher.submit(error_outcome(accept("late", age_s=60.1), Reason.NOT_FINITE, "NaN"))
    launch(publisher)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["message"]) == ("ERROR", "NOT_FINITE", "NaN")


def test_frame_is_answered_soon_after_its_deadline_when_no_outcome_comes(
    make: Make, launch: Launch, accept: Accept, ledger: Ledger, socket: RecordingSocket
) -> None:
    launch(make())
    ticket = accept("forgotten", age_s=59.8)
    sent = socket.next()
    lateness_s = (time.monotonic_ns() - ticket.deadline_monotonic_ns) / 1e9
    assert (sent["verdict"], sent["reason"]) == ("ERROR", "DEADLINE")
    assert sent["message"] == "no verdict before the deadline"
    assert 0 <= lateness_s < 1.0
    assert sent["latency_ms"]["total"] >= 60_000


def test_frame_in_time_is_left_open_when_another_expires(
    make: Make, launch: Launch, accept: Accept, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    early = judged("early")
    accept("expired", age_s=61)
    assert socket.next()["frame_id"] == "expired"
    publisher.submit(early)
    assert verdicts([socket.next()]) == [("early", "PASS", "OK")]


def test_late_outcome_changes_nothing_when_the_deadline_was_answered(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket,
    registry: CollectorRegistry,
) -> None:  # fmt: skip
    publisher = launch(make())
    outcome = judged("slow", age_s=61)
    assert socket.next()["reason"] == "DEADLINE"
    publisher.submit(outcome)
    end(publisher)
    assert socket.all() == []
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.DEADLINE): 1}
    assert registry.get_sample_value("inspector_results_late_total", {"camera": "top"}) == 1
    assert registry.get_sample_value("inspector_results_late_total", {"camera": "side"}) == 0


def test_buffer_is_told_to_forget_a_frame_when_its_deadline_passed_while_nobody_judged_it(
    make: Make, launch: Launch, accept: Accept, judged: Judged, forgotten: list[str], socket: RecordingSocket
) -> None:
    publisher = launch(make())
    publisher.submit(judged("judged"))
    accept("expired", age_s=61)
    assert {socket.next()["frame_id"] for _ in range(2)} == {"judged", "expired"}
    assert forgotten == ["expired"]


# ---------------------------------------------------------------- offline


@pytest.mark.parametrize("score", [0.5, 2.0])
def test_frame_under_way_is_no_verdict_when_its_camera_goes_offline_before_it_is_sealed(
    make: Make, launch: Launch, judged: Judged, offline: Offline, recorder: StubRecorder, socket: RecordingSocket,
    score: float,
) -> None:  # fmt: skip
    outcome = judged("f1", score)
    offline.answer_offline({"camera": "top"}, "anna")
    launch(make()).submit(outcome)
    assert verdicts([socket.next()]) == [("f1", "ERROR", "OFFLINE")]
    assert [closing.result.reason for closing in recorder.closed] == [Reason.OFFLINE]


def test_pass_that_waits_for_the_disk_is_amended_when_its_camera_goes_offline_meanwhile(
    make: Make, launch: Launch, judged: Judged, offline: Offline, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    for camera in ("top", "side"):
        publisher.submit(judged(camera, camera=camera))
    wait_until(lambda: len(recorder.closed) == 2)
    offline.answer_offline({"camera": "top"}, "anna")
    recorder.answer(2)
    assert verdicts([socket.next(), socket.next()]) == [("top", "ERROR", "OFFLINE"), ("side", "PASS", "OK")]
    late = recorder.next_late()
    assert (late.result.reason, late.amends) == (Reason.OFFLINE, True)


def test_offline_is_not_answered_while_a_pass_of_the_camera_is_being_sent(
    make: Make, launch: Launch, judged: Judged, offline: Offline, trace: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, go_on = threading.Event(), threading.Event()

    class SlowSocket(RecordingSocket):
        def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
            if topic != "status":
                sending.set()
                assert go_on.wait(WAIT_S)
            return super().publish(topic, message)

    launch(make(socket=SlowSocket(trace))).submit(judged("f1"))
    assert sending.wait(WAIT_S)

    def ask() -> None:
        offline.answer_offline({"camera": "top"}, "anna")
        trace.append("answered")

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.2)
    assert asking.is_alive()
    go_on.set()
    asking.join(WAIT_S)
    assert trace.index(("socket", "f1")) < trace.index("answered")


# ---------------------------------------------------------------- triggers


def test_trigger_is_answered_no_frame_when_its_frame_does_not_come_in_time(
    make: Make, launch: Launch, ledger: Ledger, make_frame: Callable[..., Frame], socket: RecordingSocket
) -> None:
    launch(make())
    waiting = make_frame("trigger-t1", error="none came", trigger_id="t1", part_id="p1")
    ticket = ledger.await_frame(waiting, 50)
    result = socket.next()
    assert (result["verdict"], result["reason"], result["trigger_id"]) == ("ERROR", "NO_FRAME", "t1")
    assert (result["frame_id"], result["part_id"], result["seq"]) == ("trigger-t1", "p1", 1)
    assert result["message"] == "no frame of this trigger came within 50 ms"
    wait_until(lambda: not ledger.is_open(ticket))
    assert ledger.account().trigger_results == {("top", Verdict.ERROR): 1}
    assert ledger.account().balances


def test_answer_of_a_trigger_whose_frame_came_just_now_is_dropped(
    make: Make, launch: Launch, ledger: Ledger, make_frame: Callable[..., Frame], judged: Judged,
    socket: RecordingSocket,
) -> None:  # fmt: skip
    waiting = ledger.await_frame(make_frame("trigger-t1", error="none came", trigger_id="t1"), 60_000)
    ticket = ledger.fill(waiting.number, make_frame("f1", trigger_id="t1"))
    assert ticket is not None
    publisher = launch(make())
    publisher.submit(error_outcome(waiting, Reason.NO_FRAME, "too late"))
    publisher.submit(error_outcome(ticket, Reason.NOT_FINITE, "NaN"))
    assert verdicts([socket.next()]) == [("f1", "ERROR", "NOT_FINITE")]


def test_notice_goes_out_over_the_same_socket(make: Make, launch: Launch, socket: RecordingSocket) -> None:
    launch(make()).notify("trigger/top", {"frame_id": "none", "trigger_id": "t1"})
    assert socket.results.get(timeout=WAIT_S) == ("trigger/top", {"frame_id": "none", "trigger_id": "t1"})


# ---------------------------------------------------------------- exactly once


def test_one_result_leaves_when_two_outcomes_of_a_ticket_wait_together(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket, recorder: StubRecorder
) -> None:
    publisher = make()
    outcome = judged("f1")
    publisher.submit(error_outcome(outcome.ticket, Reason.OVERLOAD, "dropped"))
    publisher.submit(outcome)
    end(launch(publisher))
    assert verdicts(socket.all()) == [("f1", "ERROR", "OVERLOAD")]
    assert [closing.result.seq for closing in recorder.closed] == [1]
    assert publisher.failure is None


def test_one_result_leaves_when_a_second_outcome_comes_later(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    outcome = judged("f1", score=2.0)
    publisher.submit(outcome)
    assert socket.next()["verdict"] == "FAIL"
    publisher.submit(Outcome(outcome.ticket, Verdict.PASS, Reason.OK))
    end(publisher)
    assert socket.all() == []
    assert publisher.failure is None


class FailingJournal(Journal):
    """A journal that refuses each second write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._numbers = itertools.count(1)

    def write(self, opened: Sequence[OpenFrame], closings: Sequence[Closing], *more: Any) -> None:
        if next(self._numbers) % 2 == 0:
            raise JournalError(DISK_FULL)
        super().write(opened, closings, *more)


def test_each_frame_gets_one_recorded_verdict_when_threads_compete_and_the_journal_fails(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket, running: Health,
    metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(recorder_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(recorder_module, "_MAX_BATCH", 8)
    path = tmp_path / "journal.sqlite"
    recorder = launch(Recorder(FailingJournal(path), JournalConfig(keep_days=None), health=running, metrics=metrics))
    publisher = launch(make(recorder=recorder))
    dice = random.Random(5)
    outcomes = [judged(f"f{n}", dice.choice([0.5, 2.0]), age_s=dice.choice([0, 0, 61])) for n in range(200)]
    for outcome in outcomes:
        recorder.open(outcome.ticket)

    def submit_all(seed: int) -> None:
        for outcome in random.Random(seed).sample(outcomes, len(outcomes)):
            publisher.submit(outcome)
            publisher.submit(error_outcome(outcome.ticket, Reason.OVERLOAD, "dropped"))

    threads = [threading.Thread(target=submit_all, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    end(publisher)
    end(recorder)
    sent = socket.all()
    assert Counter(message["frame_id"] for message in sent) == Counter(f"f{n}" for n in range(200))
    assert sorted(message["seq"] for message in sent) == list(range(1, 201))
    assert {message["reason"] for message in sent} >= {"OK", "DEADLINE", "NOT_READY"}
    on_record = {kept["seq"]: kept for kept in read_results(path, "top", 1)}
    assert len(on_record) == 200
    for message in sent:
        assert verdicts([message]) == verdicts([on_record[message["seq"]]])
    after = Journal(path)
    assert after.open_frames() == []
    after.close()
    account = ledger.account()
    assert (account.received["top"], sum(account.results.values()), account.in_flight["top"]) == (200, 200, 0)
    assert publisher.failure is None


def test_journal_says_what_was_sent_when_the_disk_hung_until_after_the_deadline(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket, running: Health, metrics: Metrics,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    journal, moving = Journal(tmp_path / "journal.sqlite"), threading.Event()
    write = journal.write

    def hang(opened: Sequence[OpenFrame], closings: Sequence[Closing], *more: Any) -> None:
        assert moving.wait(WAIT_S)
        write(opened, closings, *more)

    monkeypatch.setattr(journal, "write", hang)
    recorder = launch(Recorder(journal, JournalConfig(keep_days=None), health=running, metrics=metrics))
    publisher = launch(make(recorder=recorder))
    for name in ("f1", "f2"):  # the first goes to the disk by itself, the second waits with its amendment
        outcome = judged(name, age_s=59.6)
        recorder.open(outcome.ticket)
        time.sleep(0.05)
        publisher.submit(outcome)
    assert verdicts([socket.next(), socket.next()]) == [("f1", "ERROR", "DEADLINE"), ("f2", "ERROR", "DEADLINE")]
    moving.set()
    publisher.submit(judged("f3"))
    assert verdicts([socket.next()]) == [("f3", "PASS", "OK")]
    end(publisher)
    end(recorder)
    kept = read_results(tmp_path / "journal.sqlite", "top", 1)
    assert verdicts(kept) == [("f1", "ERROR", "DEADLINE"), ("f2", "ERROR", "DEADLINE"), ("f3", "PASS", "OK")]
    assert running.state is State.RUNNING


# ---------------------------------------------------------------- stop and death


def test_stop_publishes_what_was_handed_over_and_answers_the_rest_with_shutdown(
    make: Make, launch: Launch, end: End, accept: Accept, judged: Judged, ledger: Ledger, socket: RecordingSocket,
    recorder: StubRecorder,
) -> None:  # fmt: skip
    publisher = make()
    handed = [judged(f"judged{number}") for number in range(100)]  # more than one batch
    accept("open1"), accept("open2", "side")
    for outcome in handed:
        publisher.submit(outcome)
    publisher.stop(within_s=WAIT_S)  # before its first look: nothing is published but by the stop
    end(launch(publisher))
    sent = socket.all()
    assert verdicts(sent[:100]) == [(f"judged{number}", "PASS", "OK") for number in range(100)]
    assert verdicts(sent[100:]) == [("open1", "ERROR", "SHUTDOWN"), ("open2", "ERROR", "SHUTDOWN")]
    assert [m["reason_code"] for m in sent[100:]] == [50, 50]
    assert [closing.result.frame_id for closing in recorder.closed] == [message["frame_id"] for message in sent]
    assert ledger.open_tickets() == []


def test_stop_answers_all_that_is_open_in_time_when_the_disk_hangs(
    make: Make, launch: Launch, accept: Accept, judged: Judged, ledger: Ledger, recorder: StubRecorder,
    socket: RecordingSocket,
) -> None:  # fmt: skip
    recorder.hangs = True
    publisher = launch(make())
    publisher.submit(judged("judged"))
    wait_until(lambda: bool(recorder.closed))
    accept("open")
    started = time.monotonic()
    publisher.stop(within_s=0.3)
    publisher.join(WAIT_S)
    assert 0.3 <= time.monotonic() - started < 2.0
    assert not publisher.is_alive()
    assert sorted(verdicts(socket.all())) == [("judged", "ERROR", "DEADLINE"), ("open", "ERROR", "SHUTDOWN")]
    assert late(recorder.next_late()) == ("judged", "ERROR", "DEADLINE", True)
    assert recorder.late.empty()  # SHUTDOWN waits for the disk already
    assert ledger.open_tickets() == []


def test_stop_waits_no_longer_than_the_disk_when_that_moves_again(
    make: Make, launch: Launch, accept: Accept, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    accept("open")
    started = time.monotonic()
    publisher.stop(within_s=60.0)
    recorder.answer()
    publisher.join(WAIT_S)
    assert not publisher.is_alive()
    assert time.monotonic() - started < WAIT_S
    assert verdicts(socket.all()) == [("open", "ERROR", "SHUTDOWN")]


def test_last_status_is_sent_when_stopped(
    make: Make, launch: Launch, end: End, accept: Accept, health: Health, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    accept("open")
    health.enter(State.STOPPING)
    end(publisher)
    last = [socket.statuses.get_nowait() for _ in range(socket.statuses.qsize())][-1]
    assert (last["state"], last["last_seq"]) == ("STOPPING", {"top": 1, "side": 0})


class BrokenSocket(RecordingSocket):
    """Fails as no results socket may."""

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        if topic != "status":
            raise RuntimeError("socket is gone")
        return super().publish(topic, message)


class BrokenRecorder(StubRecorder):
    """Fails as no recorder may."""

    def close(self, closing: Closing) -> None:
        raise RuntimeError("recorder is broken")


@pytest.mark.parametrize(
    ("part", "broken", "message"),
    [("socket", BrokenSocket, "socket is gone"), ("recorder", BrokenRecorder, "recorder is broken")],
)
def test_fault_is_reported_and_nothing_passes_when_the_publisher_dies(
    make: Make, launch: Launch, judged: Judged, ledger: Ledger, health: Health, socket: RecordingSocket,
    part: str, broken: Callable[..., Any], message: str,
) -> None:  # fmt: skip
    publisher = launch(make(**{part: broken([])}))
    publisher.submit(judged("f1"))
    publisher.join(WAIT_S)
    assert not publisher.is_alive()
    assert str(publisher.failure) == message
    assert health.live() == (False, f"FAULT: publisher: {message}")
    assert socket.all() == []
    assert ledger.account().results == {}
    assert ledger.account().in_flight["top"] == 1


def test_publisher_beats_while_it_runs_and_is_forgotten_when_it_ended(
    make: Make, launch: Launch, end: End, beats: queue.Queue[str]
) -> None:
    publisher = launch(make())
    assert [beats.get(timeout=WAIT_S) for _ in range(3)] == ["publisher"] * 3
    end(publisher)
    assert beats.queue[-1] == "forget publisher"


# ---------------------------------------------------------------- what is said


def test_seq_and_last_result_go_on_from_the_journal_when_the_station_starts_again(
    make: Make, end: End, launch: Launch, judged: Judged, tmp_path: Path, socket: RecordingSocket, running: Health,
    metrics: Metrics,
) -> None:  # fmt: skip
    path = tmp_path / "journal.sqlite"
    lasts = []
    for frames in (("f1", "f2"), ("f3",)):
        journal = Journal(path)
        recorder = launch(Recorder(journal, JournalConfig(), health=running, metrics=metrics))
        publisher = make(recorder=recorder, last_seqs=journal.last_seqs(), last_results=journal.last_results())
        lasts.append(publisher._status.build()["last_result"])
        for frame_id in frames:
            publisher.submit(judged(frame_id))
        end(launch(publisher))
        end(recorder)
        journal.close()
    sent = socket.all()
    assert [(m["frame_id"], m["seq"]) for m in sent] == [("f1", 1), ("f2", 2), ("f3", 3)]
    assert [(r["frame_id"], r["seq"]) for r in read_results(path, "top", 1)] == [("f1", 1), ("f2", 2), ("f3", 3)]
    assert lasts[0] == {}
    assert {**lasts[1]["top"], "latency_ms": None} == {**sent[1], "regions": [], "replay": True, "latency_ms": None}


def test_seq_rises_by_one_for_each_camera_when_both_have_frames(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = make(last_seqs={"side": 41})
    for camera in ("top", "side", "top", "side"):
        publisher.submit(judged("x", camera=camera))
    end(launch(publisher))
    assert [(m["camera"], m["seq"]) for m in socket.all()] == [("top", 1), ("side", 42), ("top", 2), ("side", 43)]
    assert publisher._status.build()["last_seq"] == {"top": 2, "side": 43}


def test_last_seq_is_that_of_what_was_sent_when_more_waits_for_the_disk(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make(last_seqs={"top": 7}))
    for frame_id in ("f8", "f9"):
        publisher.submit(judged(frame_id))
    wait_until(lambda: len(recorder.closed) == 2)
    status = publisher._status.build()
    assert (status["last_seq"], status["last_result"]) == ({"top": 7, "side": 0}, {})
    recorder.answer()
    socket.next()
    wait_until(lambda: publisher._status.build()["last_seq"]["top"] == 8)
    wait_until(lambda: publisher._status.build()["last_result"]["top"]["frame_id"] == "f8")


def test_last_result_is_that_of_the_highest_seq_when_one_is_overtaken(
    make: Make, launch: Launch, judged: Judged, recorder: StubRecorder, socket: RecordingSocket
) -> None:
    recorder.hangs = True
    publisher = launch(make())
    publisher.submit(judged("first"))
    wait_until(lambda: len(recorder.closed) == 1)
    publisher.submit(judged("second", age_s=59.9))  # is answered at its deadline, while the first still waits
    assert socket.next()["frame_id"] == "second"
    recorder.answer()
    assert socket.next()["frame_id"] == "first"
    wait_until(lambda: publisher._status.build()["last_seq"]["top"] == 2)
    assert publisher._status.build()["last_result"]["top"]["frame_id"] == "second"


def test_result_goes_out_under_the_cameras_name_when_the_station_has_it_no_more(
    make: Make, launch: Launch, ledger: Ledger, registry: CollectorRegistry, socket: RecordingSocket
) -> None:
    record = OpenFrame(1, "gone", "f1", "p1", None, 0, 5, 2000, False)
    launch(make()).submit(error_outcome(ledger.adopt(record), Reason.RESTART, "restarted"))
    topic, sent = socket.results.get(timeout=WAIT_S)
    assert (topic, sent["seq"], sent["part_id"], sent["reason"]) == ("result/gone", 1, "p1", "RESTART")
    assert (sent["deadline_ms"], sent["received_utc_ns"]) == (2000, 5)
    wait_until(lambda: ledger.account().in_flight["gone"] == 0)


def test_result_names_the_recipe_it_was_judged_by_when_its_camera_was_switched_meanwhile(
    make: Make, launch: Launch, judged: Judged, judges: Judges, make_judge: MakeJudge, socket: RecordingSocket
) -> None:
    outcome = judged("f1")
    judges.switch({"top": make_judge(recipe_id="new")})
    publisher = launch(make())
    publisher.submit(outcome)
    publisher.submit(judged("f2"))
    assert [socket.next()["recipe_id"] for _ in range(2)] == ["lens", "new"]


def test_result_carries_the_warning_when_the_frame_passed_only_just(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    sent = []
    for score in (0.5, 0.95, 2.0):
        publisher.submit(judged("f", score))
        sent.append(socket.next())
    assert [(each["verdict"], each["warn"]) for each in sent] == [("PASS", False), ("PASS", True), ("FAIL", False)]


def test_result_says_all_about_frame_recipe_and_judgement_when_judged(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    details = {"part_id": "p1", "trigger_id": "t1", "captured_utc_ns": 5, "received_utc_ns": 6, "simulated": True}
    before = time.time_ns()
    launch(make()).submit(judged("f1", 2.0, **details))
    topic, sent = socket.results.get(timeout=WAIT_S)
    sent = dict(sent)
    latency_ms, published = sent.pop("latency_ms"), sent.pop("published_utc_ns")
    assert topic == "result/top"
    assert sent == details | {
        "schema": SCHEMA,
        "station": "press-3",
        "boot_id": "boot-7",
        "seq": 1,
        "camera": "top",
        "frame_id": "f1",
        "verdict": "FAIL",
        "reason": "DEFECT",
        "reason_code": 1,
        "score": 2.0,
        "threshold": 1.0,
        "margin": 1.0,
        "regions": ({"xyxy": (1, 2, 3, 4), "peak": 2.0, "area": 4},),
        "deadline_ms": 60_000,
        "recipe_id": "lens",
        "recipe_sha256": "aa",
        "model_sha256": "bb",
        "replay": False,
        "message": None,
        "warn": False,
        "recorded": True,
    }
    assert before <= published <= time.time_ns()
    assert set(latency_ms) == {"queue", "infer", "journal", "total"}
    assert (latency_ms["queue"], latency_ms["infer"]) == (2.0, 7.0)
    assert latency_ms["total"] > 0 < latency_ms["journal"]


def test_result_names_no_recipe_when_the_camera_has_none(
    make: Make, launch: Launch, accept: Accept, socket: RecordingSocket
) -> None:
    launch(make()).submit(error_outcome(accept("f1", "side"), Reason.NO_RECIPE, "camera side has no recipe"))
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["message"]) == ("ERROR", "NO_RECIPE", "camera side has no recipe")
    keys = ("threshold", "score", "margin", "recipe_id", "recipe_sha256", "model_sha256")
    assert [sent[key] for key in keys] == [None] * 6


def test_taps_are_each_handed_outcome_and_result_when_sent(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    taps: list[queue.Queue[tuple[Outcome, Result]]] = [queue.Queue(), queue.Queue()]
    outcome = judged("f1", 2.0)
    launch(make(taps=[lambda *both, tap=tap: tap.put(both) for tap in taps])).submit(outcome)
    (got, result), (other, same) = [tap.get(timeout=WAIT_S) for tap in taps]
    assert got is other is outcome
    assert result is same
    assert result.to_wire() == socket.next()
    assert result.regions == (Region((1, 2, 3, 4), 2.0, 4),)


def test_frame_is_answered_and_the_loss_counted_when_a_subscriber_lags(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, registry: CollectorRegistry
) -> None:
    publisher = make(socket=RecordingSocket([], lagging=True))
    publisher.submit(judged("f1"))
    publisher.submit(judged("f2"))
    end(launch(publisher))
    assert registry.get_sample_value("inspector_results_lagging_total") == 2
    assert ledger.account().results == {("top", Verdict.PASS, Reason.OK): 2}


def test_stages_and_score_are_measured_when_published(
    make: Make, launch: Launch, end: End, judged: Judged, registry: CollectorRegistry
) -> None:
    publisher = make()
    publisher.submit(judged("f1", 0.5, age_s=3.0))
    end(launch(publisher))

    def stage(name: str) -> float | None:
        return registry.get_sample_value("inspector_stage_duration_seconds_sum", {"camera": "top", "stage": name})

    assert (stage("queue"), stage("infer")) == (0.002, 0.007)
    assert 3.0 <= (stage("total") or 0) < 13.0
    assert (stage("publish") or 0) > 0 < (stage("journal") or 0)
    assert registry.get_sample_value("inspector_score_sum", {"camera": "top"}) == 0.5


def test_status_comes_at_least_twice_a_second_when_nothing_flows(
    make: Make, launch: Launch, socket: RecordingSocket
) -> None:
    launch(make())
    times = [socket.statuses.get(timeout=WAIT_S)["published_utc_ns"] / 1e9 for _ in range(4)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 0.2 < min(gaps) <= 0.5


def test_status_comes_at_once_when_a_subscriber_joins(
    make: Make, launch: Launch, socket: RecordingSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STATUS_PERIOD_S", 3600.0)
    launch(make())
    socket.statuses.get(timeout=WAIT_S)  # the first
    for _ in range(2):
        socket.joined.set()
        socket.statuses.get(timeout=WAIT_S)
    time.sleep(0.05)
    assert socket.statuses.empty()


def test_status_says_how_the_station_is_when_asked(
    make: Make, launch: Launch, end: End, judged: Judged, health: Health, socket: RecordingSocket
) -> None:
    publisher = make()
    publisher.submit(judged("f1", 2.0))  # its regions are left out
    end(launch(publisher))
    health.report("source top", "cable out")
    health.tick()
    before = time.time_ns()
    status = publisher._status.build()
    assert before <= status.pop("published_utc_ns") <= time.time_ns()
    assert status == {
        "schema": SCHEMA,
        "station": "press-3",
        "boot_id": "boot-7",
        "state": "DEGRADED",
        "lifebit": 1,
        "last_seq": {"top": 1, "side": 0},
        "last_result": {"top": {**socket.next(), "regions": [], "replay": True}},
        "last_reload": None,
        "queue_depth": 3,
        "last_error": "source top: cable out",
    }
