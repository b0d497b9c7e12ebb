"""What results and status say."""

from __future__ import annotations

import itertools
import queue
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Journal as JournalConfig
from inspector.journal.writer import Journal, OpenFrame, read_results
from inspector.service.flow import publisher as module
from inspector.service.flow.judges import Judges
from inspector.service.flow.ledger import Ledger, Outcome, error_outcome
from inspector.service.flow.recorder import Recorder
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.types import SCHEMA, Reason, Region, Result, Verdict, Web
from tests.service.flow.publisher.parts import (
    WAIT_S,
    Accept,
    End,
    Judged,
    Launch,
    Make,
    MakeJudge,
    RecordingSocket,
    StubRecorder,
    wait_until,
)


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


def test_defect_that_two_frames_of_a_web_show_has_one_number(
    make: Make, launch: Launch, judged: Judged, socket: RecordingSocket
) -> None:
    publisher = launch(make())
    sent = []
    for first in (0, 1, 9):
        publisher.submit(judged("f", 2.0, web=Web(1, (first, first + 8), (first, first + 8))))
        sent.append(socket.next())
    assert [each["web"]["y"] for each in sent] == [(0, 8), (1, 9), (9, 17)]
    assert [(each["regions"][0]["web_y"], each["regions"][0]["defect"]) for each in sent] == [
        ((2, 4), 100), ((3, 5), 100), ((11, 13), 300),
    ]  # fmt: skip


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
        "regions": ({"xyxy": (1, 2, 3, 4), "peak": 2.0, "area": 4, "web_y": None, "web_mm": None, "defect": None},),
        "web": None,
        "deadline_ms": 60_000,
        "recipe_id": "lens",
        "recipe_sha256": "aa",
        "model_sha256": "bb",
        "replay": False,
        "message": None,
        "warn": False,
        "pose": None,
        "recorded": True,
        "views": [],
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
