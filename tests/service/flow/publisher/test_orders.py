"""Cameras offline, triggers and notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inspector.service.flow.ledger import Ledger, error_outcome
from inspector.service.orders.offline import Offline
from inspector.types import Frame, Reason, Verdict
from tests.service.flow.publisher.parts import (
    WAIT_S,
    Judged,
    Launch,
    Make,
    RecordingSocket,
    StubRecorder,
    verdicts,
    wait_until,
)


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
