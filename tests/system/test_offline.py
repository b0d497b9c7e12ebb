"""People take a camera offline under load: from the answer on nothing of it passes, over a kill too when asked to."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.journal.events import select_events
from inspector.journal.reader import select_rows
from inspector.journal.verification import verify
from inspector.service.orders.signals import OFFLINE, ONLINE
from inspector.testing.station_process import RunningStation, StartStation, base_config, build_message, good_frame
from tests.system.listening import WAIT_S, Listener
from tests.system.test_trigger_rate import describe_source, run_program


class Load(Listener):
    """Good frames of cameras `top` and `side` that never stop coming; all that comes back, statuses too, in order."""

    def __init__(self, station: RunningStation) -> None:
        super().__init__(station)
        self.messages: list[dict[str, Any]] = []
        self._out = station.open(zmq.PUSH, "frames")
        self._out.sndtimeo = 100
        self._sender = threading.Thread(target=self._send)

    def __enter__(self) -> Load:
        self._sender.start()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._sender.join()

    def take(self, topic: str, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def results(self, camera: str = "top", start: int = 0) -> list[dict[str, Any]]:
        return [each for each in self.messages[start:] if each.get("camera") == camera]

    def wait_for(self, what: Callable[[dict[str, Any]], bool], count: int = 1) -> None:
        """Until so many more messages are like this."""
        start, deadline = len(self.messages), time.monotonic() + WAIT_S
        while sum(map(what, self.messages[start:])) < count:
            assert time.monotonic() < deadline, self.messages[start:][-3:]
            time.sleep(0.02)

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(0.02):
            for camera in ("top", "side"):
                message = build_message(camera, f"f{number}", good_frame(), captured_utc_ns=time.time_ns())
                with contextlib.suppress(zmq.Again):  # the station does not read as fast: the next one comes soon
                    self._out.send_multipart(message)
            number += 1


def ask(station: RunningStation, **request: Any) -> dict[str, Any]:
    peer = station.open(zmq.REQ, "requests")
    peer.send_json(request)
    answer: dict[str, Any] = peer.recv_json()
    assert answer["ok"], answer
    return answer


def passes(camera: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: (message.get("camera"), message.get("verdict")) == (camera, "PASS")


def is_status_since(utc_ns: int) -> Callable[[dict[str, Any]], bool]:
    return lambda message: "lifebit" in message and message["published_utc_ns"] > utc_ns


def make_config(recipe: Any) -> dict[str, Any]:
    cameras = {name: {"recipe": str(recipe), "deadline_ms": 20_000} for name in ("top", "side")}
    return base_config(recipe, **cameras)


def test_nothing_passes_from_the_answer_on_and_then_only_what_was_captured_after_online(
    start: StartStation, recipe: Any
) -> None:
    station = start(config=make_config(recipe))
    with Load(station) as load:
        load.wait_for(passes("top"), 3)
        answer = ask(station, request="offline", camera="top")
        answered = time.time_ns()
        assert list(answer["offline"]) == ["top"]
        # One thread sends results and statuses, over one socket: what it sent before the answer came before these.
        load.wait_for(is_status_since(answered))
        mark = len(load.messages)
        load.wait_for(lambda message: message.get("reason") == "OFFLINE", 5)
        load.wait_for(passes("side"), 5)
        assert station.metric("inspector_camera_offline", camera="top") == 1
        picture = ask(station, request="snapshot", camera="top")
        jpeg = np.frombuffer(base64.b64decode(picture["jpeg"]), np.uint8)
        assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape == (128, 160, 3)
        while_offline = load.results(start=mark)
        asked = time.time_ns()
        ask(station, request="online", camera="top")
        held = station.open(zmq.PUSH, "frames")
        held.send_multipart(build_message("top", "held", good_frame(), captured_utc_ns=asked - 1))
        load.wait_for(lambda message: message.get("frame_id") == "held")
        load.wait_for(passes("top"), 3)
        after = load.results(start=mark)[len(while_offline) :]
    assert {(each["verdict"], each["reason"]) for each in while_offline} == {("ERROR", "OFFLINE")}
    assert [each["verdict"] for each in after if each["frame_id"] == "held"] == ["ERROR"]
    assert all(each["captured_utc_ns"] > asked for each in after if each["verdict"] == "PASS")
    seqs = [each["seq"] for each in load.results()]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert station.metric("inspector_camera_offline") == 0
    events = [event for event in select_events(station.journal) if event.kind == "camera"]
    assert [(event.outcome, event.camera) for event in events] == [("offline", "top"), ("online", "top")]


def test_live_pictures_of_a_camera_that_is_offline_come_and_end_by_themselves(start: StartStation, recipe: Any) -> None:
    station = start(config=make_config(recipe))
    overlays = station.open(zmq.SUB, "overlays")
    ask(station, request="offline", camera="top")
    with Load(station) as load:
        answer = ask(station, request="live", camera="top", rate_hz=5, seconds=600, width=80)
        assert answer == {"ok": True, "camera": "top", "rate_hz": 5.0, "seconds": 600.0, "width": 80}
        pictures = [overlays.recv_multipart() for _ in range(3)]
        ask(station, request="live", camera="top", seconds=0.001)
        load.wait_for(passes("side"), 3)  # the other camera is judged as ever
        while overlays.poll(1500):  # what was on its way
            overlays.recv_multipart()
    assert [topic for topic, _, _ in pictures] == [b"live/top"] * 3
    messages = [json.loads(body) for _, body, _ in pictures]
    assert len({message["frame_id"] for message in messages}) == 3
    assert not {"verdict", "reason", "seq"} & set(messages[0])
    assert cv2.imdecode(np.frombuffer(pictures[0][2], np.uint8), cv2.IMREAD_COLOR).shape == (64, 80, 3)
    assert {each["reason"] for each in load.results() if each["verdict"] != "PASS"} == {"OFFLINE"}


def test_camera_stays_offline_over_a_kill_when_it_is_kept_and_no_other(start: StartStation, recipe: Any) -> None:
    station = start(config=make_config(recipe))
    ask(station, request="offline", keep=True)
    ask(station, request="online", camera="side")
    ask(station, request="offline", camera="side")  # not kept
    station.process.kill()
    station.process.wait()
    again = start(config=station.config)
    assert list(ask(again, request="status")["offline"]) == ["top"]
    with Load(again) as load:
        load.wait_for(passes("side"), 3)
        load.wait_for(lambda message: message.get("reason") == "OFFLINE", 3)
        assert not any(map(passes("top"), load.messages))
        ask(again, request="online")
        load.wait_for(passes("top"))


def test_signals_take_all_cameras_offline_and_bring_them_back_on_record(start: StartStation, recipe: Any) -> None:
    camera = {"recipe": str(recipe), "deadline_ms": 20_000}
    station = start(config=base_config(recipe, top=camera, side=camera))
    with Load(station) as load:
        load.wait_for(lambda each: each.get("verdict") == "PASS", 4)
        station.process.send_signal(OFFLINE)
        for name in ("top", "side"):
            load.wait_for(lambda each, name=name: each.get("camera") == name and each["reason"] == "OFFLINE")  # type: ignore[misc]
        station.process.send_signal(ONLINE)
        for name in ("top", "side"):
            load.wait_for(lambda each, name=name: each.get("camera") == name and each["verdict"] == "PASS")  # type: ignore[misc]
    assert station.stop() == 0
    events = [event for event in select_events(station.journal) if event.kind == "camera"]
    assert [(event.outcome, event.who, event.camera) for event in events] == [
        (what, "signal", name) for what in ("offline", "online") for name in ("side", "top")
    ]


@pytest.mark.parametrize("kind", ["zmq", "gige"])
def test_camera_that_must_be_fired_shows_what_it_sees_while_it_is_offline_and_no_trigger_is_counted(
    start: StartStation, recipe: Any, kind: str
) -> None:
    source, beside = describe_source(kind)
    camera = {"recipe": str(recipe), "deadline_ms": 20_000, "triggers": "software", "source": source}
    with beside:
        station = start(config=base_config(recipe, top=camera))
        with run_program(station) if kind == "zmq" else contextlib.nullcontext():
            ask(station, request="offline")
            shown = station.open(zmq.SUB, "overlays")
            shown.subscribe("live/top")
            ask(station, request="live", camera="top", rate_hz=5, seconds=600)
            frame_ids = []
            while len(frame_ids) < 3:
                assert shown.poll(int(WAIT_S * 1000))
                frame_ids.append(json.loads(shown.recv_multipart()[1])["frame_id"])
        assert station.metric("inspector_triggers_total", camera="top") == 0
        assert station.stop() == 0
    assert len(set(frame_ids)) == 3
    results = [row.wire for row in select_rows(station.journal)]
    assert {(each["reason"], each["trigger_id"]) for each in results} == {("OFFLINE", None)}
    assert set(frame_ids) <= {each["frame_id"] for each in results}
    assert verify(station.journal).faults == ()
