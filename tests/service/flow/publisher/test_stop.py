"""The stop, and the death, of a publisher."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inspector.journal.writer import Closing
from inspector.service.flow.ledger import Ledger
from inspector.service.telemetry.health import Health, State
from tests.service.flow.publisher.parts import (
    WAIT_S,
    Accept,
    End,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    late,
    verdicts,
    wait_until,
)


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
