"""Each part that three cameras see has one verdict, over drops, delays, doubles and kills; no PASS lacks a view."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
import zmq

from inspector.client import StatusChanged, Subscriber
from inspector.journal.reader import select_rows
from inspector.journal.verification import verify
from inspector.testing.account import read_journal
from inspector.testing.station_process import (
    RunningStation,
    StartStation,
    bad_frame,
    base_config,
    build_message,
    good_frame,
)
from tests.system.chaos import make_random, scaled, tell, timeout
from tests.system.listening import WAIT_S, Listener, read_account, wait_for

CAMERAS = ("top", "left", "right")
PARTS = scaled(40, 500)
KILLS = scaled(3, 30)
LONG_MS = 60_000
"""More than any part takes; only what is dropped runs out, by a window of its own."""


@dataclass(frozen=True)
class Plan:
    """What a part's cameras send: `views` in this order, of which `bad` are defective."""

    part_id: str
    views: tuple[str, ...]
    bad: frozenset[str]

    @property
    def expected(self) -> set[str]:
        """Reasons that it may have, where nobody kills the station."""
        if len(set(self.views)) < len(self.views):
            return {"VIEW_DOUBLED", "OK", "DEFECT", "VIEW_MISSING"}  # the double may come after the verdict
        if self.bad & set(self.views):
            return {"DEFECT"}
        return {"OK"} if len(self.views) == len(CAMERAS) else {"VIEW_MISSING"}


def plan(number: int, chance: random.Random) -> Plan:
    """Of ten parts seven are whole, one lacks a view, one has a view twice, one has a bad view."""
    views = chance.sample(CAMERAS, len(CAMERAS))
    kind = number % 10
    if kind == 3:
        views.pop()
    if kind == 6:
        views.insert(chance.randrange(3), chance.choice(views))
    return Plan(f"p{number}", tuple(views), frozenset(chance.sample(CAMERAS, 1) if kind == 9 else ()))


@pytest.fixture
def config(recipe: Any) -> dict[str, Any]:
    camera = {"recipe": str(recipe), "deadline_ms": LONG_MS}
    return base_config(recipe, **dict.fromkeys(CAMERAS, camera)) | {
        "parts": {"body": {"cameras": list(CAMERAS), "by": "part_id", "window_ms": LONG_MS}}
    }


def shorten(config: dict[str, Any], window_ms: int) -> None:
    """Parts and frames have so long."""
    config["parts"]["body"]["window_ms"] = window_ms
    for camera in config["cameras"].values():
        camera["deadline_ms"] = window_ms


class Ear(Listener):
    """All that a station says of frames and parts."""

    def __init__(self, station: RunningStation) -> None:
        super().__init__(station)
        self.parts: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []

    def take(self, topic: str, message: dict[str, Any]) -> None:
        if topic != "status":
            (self.parts if topic == "part/body" else self.frames).append(message)


def send(peer: zmq.Socket[bytes], part: Plan, chance: random.Random, delay_s: float = 0.0) -> None:
    """Its views, each after a delay of its own."""
    for number, camera in enumerate(part.views):
        frame = bad_frame() if camera in part.bad else good_frame()
        time.sleep(chance.uniform(0, delay_s))
        peer.send_multipart(build_message(camera, f"{part.part_id}-{camera}-{number}", frame, part_id=part.part_id))


def assert_passes_are_whole(rows: Iterable[dict[str, Any]], plans: dict[str, Plan]) -> None:
    """No PASS lacks a view, has a bad one, or has views that are not PASS."""
    for row in rows:
        if row["verdict"] == "PASS":
            part = plans[row["frame_id"]]
            assert set(part.views) == set(CAMERAS), row
            assert not part.bad, row
            assert {view["camera"]: view["verdict"] for view in row["views"]} == dict.fromkeys(CAMERAS, "PASS")


@timeout(240, 1200)
def test_each_part_has_one_verdict_when_views_are_dropped_delayed_doubled_and_bad(
    start: StartStation, config: dict[str, Any]
) -> None:
    shorten(config, scaled(3000, 20_000))
    chance, accounts = make_random(), []
    plans = {part.part_id: part for part in (plan(number, chance) for number in range(PARTS))}
    station = start(config=config)
    peer = station.open(zmq.PUSH, "frames")
    with Ear(station) as ear:
        for number, part in enumerate(plans.values()):
            send(peer, part, chance, 0.05)
            if number % 8 == 0:
                accounts.append(read_account(station, "part"))
            while number - len(ear.parts) > 30:  # a busy machine gets the time it needs
                time.sleep(0.02)
        wait_for(ear.parts, PARTS)
        time.sleep(0.5)  # a second verdict would come
    assert Counter(each["frame_id"] for each in ear.parts) == dict.fromkeys(plans, 1)
    assert sorted(each["seq"] for each in ear.parts) == list(range(1, PARTS + 1))
    late = {each["part_id"] for each in ear.frames if each["reason"] in {"VIEW_LATE", "DEADLINE"}}
    odd = {each["frame_id"]: each["reason"] for each in ear.parts
           if each["reason"] not in plans[each["frame_id"]].expected | {"VIEW_LATE", "DEADLINE"}
           and each["frame_id"] not in late}  # fmt: skip
    assert odd == {}
    assert_passes_are_whole(ear.parts, plans)
    rows = [row.wire for row in select_rows(station.journal)]
    assert Counter(row["frame_id"] for row in rows if row["camera"] == "part/body") == dict.fromkeys(plans, 1)
    assert all(begun == answered for begun, answered in accounts), accounts
    assert read_account(station, "part") == (PARTS, PARTS)
    assert station.metric("inspector_frames_received_total", camera="part/body") == 0
    tell(f"{PARTS} parts: {Counter(each['reason'] for each in ear.parts)}")
    assert station.stop() == 0
    assert verify(station.journal).faults == ()


@timeout(240, 1800)
def test_each_part_has_one_verdict_when_the_station_is_killed_at_any_moment(
    start: StartStation, config: dict[str, Any]
) -> None:
    chance, plans = make_random(), dict[str, Plan]()
    heard: list[dict[str, Any]] = []
    opened: set[str] = set()
    for _ in range(KILLS):
        station = start(config=config)
        peer = station.open(zmq.PUSH, "frames")
        for part_id in list(plans)[-2:]:  # views of parts of before, which came too late for them
            send(peer, plans[part_id], chance)
        with Ear(station) as ear:
            killer = threading.Timer(chance.uniform(0.2, 1.5), station.process.kill)
            killer.start()
            while station.process.poll() is None:
                part = plan(len(plans), chance)
                plans[part.part_id] = part
                send(peer, part, chance, 0.02)
            killer.join()
            peer.close(linger=0)
            time.sleep(0.2)
        heard += ear.parts
        opened |= {name for name in read_journal(station.journal)[1] if name in plans}
    station = start(config=config)
    while read_journal(station.journal)[1] & opened:  # what was open is being closed
        time.sleep(0.1)
    rows = [row.wire for row in select_rows(station.journal)]
    parts = [row for row in rows if row["camera"] == "part/body"]
    counts = Counter(row["frame_id"] for row in parts)
    assert counts.most_common(1)[0][1] == 1
    assert counts.keys() >= opened
    assert [row["seq"] for row in parts] == list(range(1, len(parts) + 1))
    recorded = {row["frame_id"]: row["verdict"] for row in parts}
    assert all(recorded[each["frame_id"]] == "PASS" for each in heard if each["verdict"] == "PASS")
    assert_passes_are_whole(parts, plans)
    assert_passes_are_whole(heard, plans)
    seen = {row["part_id"] for row in rows if row["camera"] != "part/body"}
    assert seen == counts.keys()  # a view is on record with its part
    tell(f"{KILLS} kills, {len(parts)} parts, {Counter(row['reason'] for row in parts)}")
    assert station.stop() == 0
    assert verify(station.journal).faults == ()


def test_part_passes_at_the_client_when_all_its_views_passed(start: StartStation, config: dict[str, Any]) -> None:
    shorten(config, 5000)
    station, chance = start(config=config), make_random()
    peer = station.open(zmq.PUSH, "frames")
    sockets = station.config["sockets"]
    with Subscriber(sockets["results"], requests=sockets["requests"], heartbeat_s=5.0) as subscriber:
        while not isinstance(subscriber.receive(WAIT_S), StatusChanged):
            pass
        for part in (Plan("p1", CAMERAS, frozenset()), Plan("p2", CAMERAS, frozenset(["left"])),
                     Plan("p3", CAMERAS[1:], frozenset())):  # fmt: skip
            send(peer, part, chance)
        good = subscriber.wait_for("part/body", part_id="p1", timeout_s=WAIT_S)
        view = subscriber.wait_for("top", part_id="p1", timeout_s=WAIT_S)
        bad, short = (subscriber.wait_for("part/body", part_id=name, timeout_s=WAIT_S) for name in ("p2", "p3"))
    assert (good.passed, good.seq, good.camera, good.verdict) == (True, 1, "part/body", "PASS"), good
    assert (bad.passed, bad.verdict, bad.reason) == (False, "FAIL", "DEFECT")
    assert (short.passed, short.reason, short.message) == (False, "VIEW_MISSING", "no view of camera top")
    assert (view.passed, view.raw["views"]) == (True, [])
    replayed = ask(station, request="replay", camera="part/body", from_seq=2)["results"]
    assert [(each["frame_id"], each["verdict"], each["replay"]) for each in replayed] == [
        ("p2", "FAIL", True), ("p3", "ERROR", True),
    ]  # fmt: skip


def test_part_is_offline_or_a_fail_when_a_camera_of_it_is_offline_whether_that_sends_or_not(
    start: StartStation, config: dict[str, Any]
) -> None:
    shorten(config, 5000)
    station, chance = start(config=config), make_random()
    ask(station, request="offline", camera="right")
    peer = station.open(zmq.PUSH, "frames")
    with Ear(station) as ear:
        for part in (Plan("sent", CAMERAS, frozenset()), Plan("bad", CAMERAS, frozenset(["top"])),
                     Plan("not sent", CAMERAS[:2], frozenset())):  # fmt: skip
            send(peer, part, chance)
        wait_for(ear.parts, 3)
    told = {each["frame_id"]: (each["verdict"], each["reason"], each["message"]) for each in ear.parts}
    offline = "ERROR", "OFFLINE", "offline: camera right"
    assert told == {"sent": offline, "bad": ("FAIL", "DEFECT", None), "not sent": offline}
    assert station.metric("inspector_part_results_total", reason="OFFLINE") == 2


def test_reload_that_changes_the_cameras_of_a_part_is_refused_and_the_part_stays_as_it_was(
    start: StartStation, config: dict[str, Any]
) -> None:
    station, chance = start(config=config), make_random()
    changed = {**config, "parts": {"body": {**config["parts"]["body"], "cameras": ["top", "left"]}}}
    station.path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    station.process.send_signal(signal.SIGHUP)
    while (reload := ask(station, request="status")["last_reload"]) is None or reload["state"] == "preparing":
        time.sleep(0.05)
    assert reload["state"] == "refused"
    rule = "cannot change without a restart, is ['top', 'left', 'right'], got ['top', 'left']"
    assert reload["error"] == f"parts.body.cameras: {rule}"
    with Ear(station) as ear:
        send(station.open(zmq.PUSH, "frames"), Plan("p1", CAMERAS, frozenset()), chance)
        wait_for(ear.parts, 1)
    assert [view["camera"] for view in ear.parts[0]["views"]] == list(CAMERAS)


def test_part_of_triggers_is_answered_once_when_one_has_no_frame_and_a_second_trigger_is_refused(
    start: StartStation, config: dict[str, Any]
) -> None:
    for camera in config["cameras"].values():
        camera["triggers"] = "software"
    config["parts"]["body"]["by"] = "trigger_id"
    shorten(config, 3000)
    station = start(config=config)
    peer = station.open(zmq.PUSH, "frames")
    with Ear(station) as ear:
        for trigger_id, cameras in (("t1", CAMERAS), ("t2", CAMERAS[:2])):
            for camera in CAMERAS:
                asked = ask(station, request="trigger", camera=camera, trigger_id=trigger_id, timeout_ms=2000)
                assert asked["ok"], asked
            for camera in cameras:
                peer.send_multipart(build_message(camera, f"{trigger_id}-{camera}", good_frame(), trigger_id=trigger_id,
                                                  part_id=f"p-{trigger_id}"))  # fmt: skip
        wait_for(ear.parts, 2)
        again = ask(station, request="trigger", camera="top", trigger_id="t1")
        wait_for(ear.frames, 6 + 6)  # six messages for the camera programs are among them
    whole, short = ear.parts
    assert (whole["frame_id"], whole["trigger_id"], whole["part_id"], whole["reason"]) == ("t1", "t1", "p-t1", "OK")
    assert (short["frame_id"], short["reason"], short["message"]) == ("t2", "VIEW_MISSING", "no view of camera right")
    assert again == {"ok": False, "error": "part body 't1' is answered already"}
    assert read_account(station, "part") == (2, 2)


def ask(station: RunningStation, **request: Any) -> dict[str, Any]:
    peer = station.open(zmq.REQ, "requests")
    peer.send_json(request)
    answer: dict[str, Any] = peer.recv_json()
    return answer


def test_open_parts_are_answered_shutdown_by_a_stop_after_their_views(
    start: StartStation, config: dict[str, Any]
) -> None:
    station = start(config=config)
    peer = station.open(zmq.PUSH, "frames")
    chance = make_random()
    with Ear(station) as ear:
        send(peer, Plan("whole", CAMERAS, frozenset()), chance)
        send(peer, Plan("open", CAMERAS[:2], frozenset()), chance)
        send(peer, Plan("bad", CAMERAS[:2], frozenset(CAMERAS[:1])), chance)
        wait_for(ear.parts, 1)
        wait_for(ear.frames, 7)
        assert station.stop() == 0
        wait_for(ear.parts, 3)
    assert [(each["frame_id"], each["reason"]) for each in ear.parts] == [
        ("whole", "OK"), ("open", "SHUTDOWN"), ("bad", "DEFECT"),
    ]  # fmt: skip
    assert ear.parts[1]["message"] == "the station stopped before all was known: no view of camera right"
    assert len([row for row in select_rows(station.journal) if row.wire["camera"] == "part/body"]) == 3
