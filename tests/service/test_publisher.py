"""One verdict for each frame: on record before it leaves, in time or an error, never a PASS by accident."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.detector import Judgement
from inspector.errors import JournalError
from inspector.service.health import Health, State
from inspector.service.ledger import Ledger, Outcome, Ticket, error_outcome
from inspector.service.metrics import Metrics
from inspector.service.publisher import Identity, Publisher
from inspector.sinks.journal import Journal, read_results
from inspector.types import SCHEMA, Reason, Region, Result, Verdict

Accept = Callable[..., Ticket]
End = Callable[[Any], None]
Launch = Callable[[Any], Any]
Make = Callable[..., Publisher]
MakeJudgement = Callable[..., Judgement]

IDENTITY = Identity(
    station="press-3",
    boot_id="boot-7",
    deadlines_ms={"top": 60_000, "side": 60_000},
    recipes={"top": {"recipe_id": "lens", "recipe_sha256": "aa", "model_sha256": "bb"}},
    thresholds={"top": 1.0},
)
WAIT_S = 10.0
NEVER = range(0)
ALWAYS = range(1_000_000)


class RecordingJournal:
    """A journal in memory. Refuses the writes whose numbers are in `refused`, each of them whole."""

    def __init__(self, trace: list[Any], refused: Sequence[int] = NEVER, last_seqs: Mapping[str, int] = {}) -> None:
        self.written: list[Result] = []
        self._trace = trace
        self._refused = refused
        self._last_seqs = dict(last_seqs)
        self._numbers = itertools.count()

    def last_seqs(self) -> dict[str, int]:
        return self._last_seqs

    def append(self, results: Sequence[Result]) -> None:
        if next(self._numbers) in self._refused:
            raise JournalError("journal: cannot be written: disk full")
        self.written += results
        self._trace.append(("journal", [result.frame_id for result in results]))

    def close(self) -> None:
        """Nothing is held open."""


class RecordingSocket:
    """A results socket that keeps what it is given; `lagging`: a subscriber lost each message."""

    def __init__(self, trace: list[Any], *, lagging: bool = False) -> None:
        self.results: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue()
        self.statuses: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self._trace = trace
        self._lagging = lagging

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        if topic == "status":
            self.statuses.put(message)
        else:
            self._trace.append(("socket", message["frame_id"]))
            self.results.put((topic, message))
        return not self._lagging

    def next(self) -> Mapping[str, Any]:
        """The next result."""
        return self.results.get(timeout=WAIT_S)[1]

    def all(self) -> list[Mapping[str, Any]]:
        """What was sent and not yet looked at."""
        return [self.results.get_nowait()[1] for _ in range(self.results.qsize())]

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def trace() -> list[Any]:
    """What journal, socket and painter were handed, in order."""
    return []


@pytest.fixture
def journal(trace: list[Any]) -> RecordingJournal:
    return RecordingJournal(trace)


@pytest.fixture
def socket(trace: list[Any]) -> RecordingSocket:
    return RecordingSocket(trace)


@pytest.fixture
def make(
    trace: list[Any],
    journal: RecordingJournal,
    socket: RecordingSocket,
    ledger: Ledger,
    health: Health,
    metrics: Metrics,
) -> Make:
    """A publisher that is not started yet, with other parts than the fixtures' on request."""

    def make(**parts: Any) -> Publisher:
        health.enter(State.RUNNING)
        return Publisher(
            ledger,
            parts.get("journal", journal),
            parts.get("socket", socket),
            IDENTITY,
            draw=parts.get("draw", lambda outcome, result: trace.append(("draw", result.frame_id))),
            queue_depth=lambda: 3,
            health=health,
            metrics=metrics,
        )

    return make


@pytest.fixture
def judged(accept: Accept, make_judgement: MakeJudgement) -> Callable[..., Outcome]:
    """The outcome of a frame that the ledger accepted and a detector judged."""

    def judged(frame_id: str, score: float = 0.5, **details: Any) -> Outcome:
        judgement = make_judgement(score)
        decision = judgement.decision
        return Outcome(
            accept(frame_id, **details),
            decision.verdict,
            decision.reason,
            judgement=judgement,
            latency_ms={"queue": 2.0, **judgement.latency_ms},
        )

    return judged


Judged = Callable[..., Outcome]


def verdicts(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(message["frame_id"], message["verdict"], message["reason"]) for message in messages]


# ---------------------------------------------------------------- journal first


def test_outcome_is_journalled_before_it_is_sent_when_judged(
    make: Make, launch: Launch, end: End, judged: Judged, trace: list[Any], socket: RecordingSocket
) -> None:
    publisher = launch(make())
    publisher.submit(judged("f1"))
    socket.next()
    publisher.submit(judged("f2", score=2.0))
    end(publisher)
    assert trace == [
        ("journal", ["f1"]), ("socket", "f1"), ("draw", "f1"),
        ("journal", ["f2"]), ("socket", "f2"), ("draw", "f2"),
    ]  # fmt: skip


def test_all_that_waits_is_journalled_in_one_write_when_published(
    make: Make, launch: Launch, judged: Judged, trace: list[Any], socket: RecordingSocket
) -> None:
    publisher = make()
    for number in range(3):
        publisher.submit(judged(f"f{number}"))
    launch(publisher)
    for _ in range(3):
        socket.next()
    assert trace[:2] == [("journal", ["f0", "f1", "f2"]), ("socket", "f0")]


def test_record_is_what_was_sent_when_judged(
    make: Make, launch: Launch, judged: Judged, journal: RecordingJournal, socket: RecordingSocket
) -> None:
    launch(make()).submit(judged("f1", score=2.0))
    sent = dict(socket.next())
    (written,) = (result.to_wire() for result in journal.written)
    latency_ms, written_ms = sent.pop("latency_ms"), written.pop("latency_ms")
    assert sent == written
    assert {stage: ms for stage, ms in latency_ms.items() if stage != "journal"} == written_ms


@pytest.mark.parametrize("score", [0.5, 0.95, 2.0], ids=["PASS", "WARN", "FAIL"])
def test_verdict_becomes_not_ready_when_the_journal_cannot_be_written(
    make: Make, launch: Launch, judged: Judged, ledger: Ledger, health: Health, registry: CollectorRegistry,
    socket: RecordingSocket, score: float,
) -> None:  # fmt: skip
    publisher = make(journal=RecordingJournal([], refused=ALWAYS))
    launch(publisher).submit(judged("f1", score))
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "NOT_READY", 40)
    assert (sent["message"], sent["warn"]) == ("journal: cannot be written: disk full", False)
    publisher.stop()
    publisher.join(WAIT_S)
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.NOT_READY): 1}
    assert registry.get_sample_value("inspector_journal_errors_total") == 1
    assert health.ready() == (False, "DEGRADED: journal: journal: cannot be written: disk full")
    assert publisher.failure is None


def test_station_is_ready_again_when_the_journal_can_be_written_again(
    make: Make, launch: Launch, end: End, judged: Judged, health: Health, socket: RecordingSocket
) -> None:
    publisher = launch(make(journal=RecordingJournal([], refused=[0, 1])))
    for frame_id in ("f1", "f2", "f3"):
        publisher.submit(judged(frame_id))
        if frame_id == "f3":
            end(publisher)
        else:
            assert socket.next()["reason"] == "NOT_READY"
    assert verdicts(socket.all()) == [("f3", "PASS", "OK")]
    assert health.ready() == (True, "RUNNING")


def test_no_verdict_of_a_batch_is_a_pass_when_its_one_write_fails(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = make(journal=RecordingJournal([], refused=[0]))
    for number in range(3):
        publisher.submit(judged(f"f{number}"))
    launch(publisher)
    assert {socket.next()["reason"] for _ in range(3)} == {"NOT_READY"}


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize("score", [0.5, 2.0], ids=["PASS", "FAIL"])
def test_verdict_becomes_deadline_error_when_it_comes_after_the_deadline(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket, journal: RecordingJournal, score: float
) -> None:
    publisher = make()
    publisher.submit(judged("late", score, age_s=60.1))  # waits already, so that this and no tick answers
    launch(publisher)
    sent = socket.next()
    assert (sent["verdict"], sent["reason"], sent["reason_code"]) == ("ERROR", "DEADLINE", 11)
    assert sent["message"] == "judged, but after the deadline"
    assert (sent["score"], sent["margin"], sent["regions"]) == (None, None, ())
    assert [result.reason for result in journal.written] == [Reason.DEADLINE]


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
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    outcome = judged("slow", age_s=61)
    assert socket.next()["reason"] == "DEADLINE"
    publisher.submit(outcome)
    end(publisher)
    assert socket.all() == []
    assert ledger.account().results == {("top", Verdict.ERROR, Reason.DEADLINE): 1}


# ---------------------------------------------------------------- exactly once


def test_one_result_leaves_when_two_outcomes_of_a_ticket_wait_together(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket, journal: RecordingJournal
) -> None:
    publisher = make()
    outcome = judged("f1")
    publisher.submit(error_outcome(outcome.ticket, Reason.OVERLOAD, "dropped"))
    publisher.submit(outcome)
    end(launch(publisher))
    assert verdicts(socket.all()) == [("f1", "ERROR", "OVERLOAD")]
    assert [result.seq for result in journal.written] == [1]
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


def test_each_frame_gets_one_recorded_verdict_when_threads_compete_and_the_journal_fails(
    make: Make, launch: Launch, end: End, judged: Judged, ledger: Ledger, socket: RecordingSocket
) -> None:
    journal = RecordingJournal([], refused=range(1, 1_000_000, 2))
    publisher = launch(make(journal=journal))
    dice = random.Random(5)
    outcomes = [judged(f"f{n}", dice.choice([0.5, 2.0]), age_s=dice.choice([0, 0, 61])) for n in range(200)]

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
    sent = socket.all()
    assert Counter(message["frame_id"] for message in sent) == Counter(f"f{n}" for n in range(200))
    assert [message["seq"] for message in sent] == list(range(1, 201))
    on_record = {result.frame_id: result.verdict.value for result in journal.written}
    assert 0 < len(on_record) < 200
    for message in sent:
        assert message["verdict"] == on_record.get(message["frame_id"], "ERROR")
    account = ledger.account()
    assert (account.received["top"], sum(account.results.values()), account.in_flight["top"]) == (200, 200, 0)
    assert publisher.failure is None


# ---------------------------------------------------------------- stop and death


def test_stop_publishes_what_was_handed_over_and_answers_the_rest_with_shutdown(
    make: Make, launch: Launch, end: End, accept: Accept, judged: Judged, ledger: Ledger, socket: RecordingSocket,
    journal: RecordingJournal,
) -> None:  # fmt: skip
    publisher = make()
    handed = [judged(f"judged{number}") for number in range(100)]  # more than one batch
    accept("open1"), accept("open2", "side")
    for outcome in handed:
        publisher.submit(outcome)
    publisher.stop()  # before its first look: nothing is published but by the stop
    end(launch(publisher))
    sent = socket.all()
    assert verdicts(sent[:100]) == [(f"judged{number}", "PASS", "OK") for number in range(100)]
    assert verdicts(sent[100:]) == [("open1", "ERROR", "SHUTDOWN"), ("open2", "ERROR", "SHUTDOWN")]
    assert [m["reason_code"] for m in sent[100:]] == [50, 50]
    assert [result.frame_id for result in journal.written] == [message["frame_id"] for message in sent]
    assert ledger.open_tickets() == []


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


class BrokenJournal(RecordingJournal):
    """Fails as no journal may."""

    def append(self, results: Sequence[Result]) -> None:
        raise RuntimeError("journal is broken")


@pytest.mark.parametrize(
    ("part", "broken", "message"),
    [("socket", BrokenSocket, "socket is gone"), ("journal", BrokenJournal, "journal is broken")],
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


def test_seq_goes_on_from_the_journal_when_the_station_starts_again(
    make: Make, launch: Launch, end: End, judged: Judged, tmp_path: Path, socket: RecordingSocket
) -> None:
    path = tmp_path / "journal.sqlite"
    for frames in (("f1", "f2"), ("f3",)):
        journal = Journal(path)
        publisher = make(journal=journal)
        for frame_id in frames:
            publisher.submit(judged(frame_id))
        end(launch(publisher))
        journal.close()
    assert [(m["frame_id"], m["seq"]) for m in socket.all()] == [("f1", 1), ("f2", 2), ("f3", 3)]
    assert [(r["frame_id"], r["seq"]) for r in read_results(path, "top", 1)] == [("f1", 1), ("f2", 2), ("f3", 3)]


def test_seq_rises_by_one_for_each_camera_when_both_have_frames(
    make: Make, launch: Launch, end: End, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = make(journal=RecordingJournal([], last_seqs={"side": 41}))
    for camera in ("top", "side", "top", "side"):
        publisher.submit(judged("x", camera=camera))
    end(launch(publisher))
    assert [(m["camera"], m["seq"]) for m in socket.all()] == [("top", 1), ("side", 42), ("top", 2), ("side", 43)]
    assert publisher.build_status()["last_seq"] == {"top": 2, "side": 43}


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


def test_painter_is_handed_outcome_and_result_when_sent(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    drawn: queue.Queue[tuple[Outcome, Result]] = queue.Queue()
    outcome = judged("f1", 2.0)
    launch(make(draw=lambda *both: drawn.put(both))).submit(outcome)
    got, result = drawn.get(timeout=WAIT_S)
    assert got is outcome
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


def test_status_says_how_the_station_is_when_asked(
    make: Make, launch: Launch, end: End, judged: Judged, health: Health
) -> None:
    publisher = make()
    publisher.submit(judged("f1"))
    end(launch(publisher))
    health.report("source top", "cable out")
    health.tick()
    before = time.time_ns()
    status = publisher.build_status()
    assert before <= status.pop("published_utc_ns") <= time.time_ns()
    assert status == {
        "schema": SCHEMA,
        "station": "press-3",
        "boot_id": "boot-7",
        "state": "DEGRADED",
        "lifebit": 1,
        "last_seq": {"top": 1, "side": 0},
        "queue_depth": 3,
        "last_error": "source top: cable out",
    }
