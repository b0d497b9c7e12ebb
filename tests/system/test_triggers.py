"""Every trigger has one verdict: its frame's, or an error where none comes, over a kill too."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

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
from tests.system.listening import Listener, read_account, wait_for

TRIGGERS = scaled(60, 500)
KILLS = scaled(2, 30)
LOST_EVERY = 20
LONG_MS = 60_000
"""More than any frame takes; only those of lost frames run out."""


class Line(Listener):
    """A camera program that answers triggers, but for those in `lost`, and all that the station sends."""

    def __init__(self, station: RunningStation, lost: Callable[[str], bool] = lambda trigger_id: False) -> None:
        super().__init__(station)
        self.results: list[dict[str, Any]] = []
        self.fired: list[str] = []
        self.send = threading.Lock()
        self.out = station.open(zmq.PUSH, "frames")
        self._lost = lost

    def answer(self, trigger_id: str, **header: Any) -> None:
        """Send a frame of this trigger; each other one is bad."""
        frame = bad_frame() if int(trigger_id.rpartition("-")[2]) % 2 else good_frame()
        message = build_message("top", f"frame-{trigger_id}", frame, trigger_id=trigger_id, **header)
        with self.send:
            self.out.send_multipart(message)

    def take(self, topic: str, message: dict[str, Any]) -> None:
        if topic == "trigger/top":
            self.fired.append(message["trigger_id"])
            if not self._lost(message["trigger_id"]):
                self.answer(message["trigger_id"], captured_utc_ns=time.time_ns())
        elif topic == "result/top":
            self.results.append(message)


@pytest.fixture
def config(recipe: Any) -> dict[str, Any]:
    return base_config(recipe, top={"recipe": str(recipe), "deadline_ms": LONG_MS, "triggers": "software"})


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """Ask a station; a refusal is returned too."""
    peers: dict[int, zmq.Socket[bytes]] = {}

    def ask(station: RunningStation, request: str, **fields: Any) -> dict[str, Any]:
        peer = peers.setdefault(id(station), station.open(zmq.REQ, "requests"))
        camera = {} if request == "status" else {"camera": "top"}
        peer.send_json({"request": request, **camera, **fields})
        answer: dict[str, Any] = peer.recv_json()
        return answer

    return ask


def is_lost(trigger_id: str) -> bool:
    return int(trigger_id.rpartition("-")[2]) % LOST_EVERY == 0


def expect(trigger_id: str) -> str:
    if is_lost(trigger_id):
        return "NO_FRAME"
    return "DEFECT" if int(trigger_id.rpartition("-")[2]) % 2 else "OK"


@timeout(240, 600)
def test_each_trigger_has_one_verdict_when_one_frame_in_twenty_is_lost(
    start: StartStation, config: dict[str, Any], ask: Callable[..., dict[str, Any]]
) -> None:
    station = start(config=config)
    ids = [f"t-{number}" for number in range(TRIGGERS)]
    accounts, took_s = [], []
    with Line(station, is_lost) as line:
        for trigger_id in ids:
            began = time.monotonic()
            limit_ms = 300 if is_lost(trigger_id) else LONG_MS
            answer = ask(station, "trigger", trigger_id=trigger_id, part_id=f"p-{trigger_id}", timeout_ms=limit_ms)
            assert answer["ok"], answer
            took_s.append(time.monotonic() - began)
            if len(took_s) % 10 == 0:
                accounts.append(read_account(station, "trigger"))
            time.sleep(max(0.0, 0.05 - took_s[-1]))
        wait_for(line.results, TRIGGERS)
        lost = next(trigger_id for trigger_id in ids if is_lost(trigger_id))
        line.answer(lost)  # comes after all: no second verdict on its trigger
        wait_for(line.results, TRIGGERS + 1)
        time.sleep(0.5)
    assert line.fired == ids
    *results, late = line.results
    assert {each["trigger_id"]: each["reason"] for each in results} == {name: expect(name) for name in ids}
    assert Counter(each["trigger_id"] for each in results) == Counter(ids)
    assert all(each["part_id"] == f"p-{each['trigger_id']}" for each in results)
    assert (late["reason"], late["trigger_id"], late["frame_id"]) == ("TRIGGER_MISMATCH", None, f"frame-{lost}")
    assert sorted(each["seq"] for each in line.results) == list(range(1, TRIGGERS + 2))
    recorded = [row.wire["trigger_id"] for row in select_rows(station.journal)]
    assert Counter(recorded) == Counter(ids) + Counter([None])
    assert all(told == answered for told, answered in accounts), accounts
    assert read_account(station, "trigger") == (TRIGGERS, TRIGGERS)
    assert station.metric("inspector_triggers_open") == 0
    p99 = statistics.quantiles(took_s, n=100)[98]
    tell(f"trigger answered (on record): p50 {statistics.median(took_s) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    assert station.stop() == 0
    assert verify(station.journal).faults == ()


def test_open_triggers_are_closed_once_when_the_station_was_killed(
    start: StartStation, config: dict[str, Any], ask: Callable[..., dict[str, Any]]
) -> None:
    ids = [f"t-{number}" for number in range(1, 9)]
    station = start(config=config)
    with Line(station, lambda trigger_id: trigger_id in ids[4:]) as line:
        for trigger_id in ids:
            assert ask(station, "trigger", trigger_id=trigger_id, timeout_ms=LONG_MS)["ok"]
        wait_for(line.results, 4)
        station.process.kill()
        station.process.wait()
    taken_ns = time.time_ns()
    again = start(config=config)
    with Line(again, lambda trigger_id: True) as line:
        line.answer(ids[5])  # came too late for its trigger
        wait_for(line.results, 1)
        while ask(again, "status")["last_seq"]["top"] < 9:
            time.sleep(0.1)
        rows = [row.wire for row in select_rows(again.journal)]
        assert ask(again, "trigger", trigger_id=ids[0], timeout_ms=LONG_MS)["ok"]  # of before the kill
        for captured_utc_ns in (taken_ns, 0):
            line.answer(ids[0], captured_utc_ns=captured_utc_ns)
        line.answer(ids[0], captured_utc_ns=time.time_ns())
        wait_for(line.results, 4)
    assert [(m["reason"], m["trigger_id"]) for m in line.results[-3:]] == [
        ("TRIGGER_MISMATCH", None), ("TRIGGER_MISMATCH", None), (expect(ids[0]), ids[0]),
    ]  # fmt: skip
    assert {row["trigger_id"]: row["reason"] for row in rows if row["trigger_id"]} == {
        name: expect(name) if name in ids[:4] else "RESTART" for name in ids
    }
    assert sorted(row["trigger_id"] or "" for row in rows) == ["", *ids]
    assert [row["reason"] for row in rows if row["trigger_id"] is None] == ["TRIGGER_MISMATCH"]


@timeout(240, 1200)
def test_each_trigger_told_has_one_verdict_when_the_station_is_killed_at_any_moment(
    start: StartStation, config: dict[str, Any]
) -> None:
    chance = make_random()
    told: list[str] = []
    numbers = itertools.count(1)
    for _ in range(KILLS):
        station = start(config=config)
        with Line(station, is_lost):
            killer = threading.Timer(chance.uniform(0.05, 1.5), station.process.kill)
            killer.start()
            told += fire_until_it_ends(station, numbers)
            killer.join()
            station.process.wait()
    station = start(config=config)
    while read_journal(station.journal)[1]:  # what was open is being closed
        time.sleep(0.1)
    rows = [row.wire for row in select_rows(station.journal)]
    counts = Counter(row["trigger_id"] for row in rows)
    assert told
    assert {name: counts[name] for name in told} == dict.fromkeys(told, 1)
    assert counts.most_common(1)[0][1] == 1
    assert all(expect(row["trigger_id"]) == "OK" for row in rows if row["verdict"] == "PASS")
    tell(f"{KILLS} kills, {len(told)} triggers told, {Counter(row['reason'] for row in rows)}")
    assert station.stop() == 0
    assert verify(station.journal).faults == ()


def fire_until_it_ends(station: RunningStation, numbers: Iterator[int]) -> list[str]:
    """Triggers as fast as they are answered; those that the station said are on record."""
    told = []
    peer = station.open(zmq.REQ, "requests")
    for number in numbers:
        name = f"t-{number}"
        limit_ms = 200 if is_lost(name) else LONG_MS
        peer.send_json({"request": "trigger", "camera": "top", "trigger_id": name, "timeout_ms": limit_ms})
        while not peer.poll(50):
            if station.process.poll() is not None:
                return told
        assert peer.recv_json()["ok"]
        told.append(name)
    return told


def test_open_triggers_are_answered_shutdown_by_a_stop(
    start: StartStation, config: dict[str, Any], ask: Callable[..., dict[str, Any]]
) -> None:
    station = start(config=config)
    with Line(station, lambda trigger_id: True) as line:
        for number in range(3):
            assert ask(station, "trigger", trigger_id=f"t-{number}", timeout_ms=LONG_MS)["ok"]
        assert station.stop() == 0
        wait_for(line.results, 3)
    assert [(each["trigger_id"], each["reason"]) for each in line.results] == [
        (f"t-{number}", "SHUTDOWN") for number in range(3)
    ]
    assert len(list(select_rows(station.journal))) == 3


def test_announced_trigger_is_the_next_frames_and_refusals_are_clear(
    start: StartStation, config: dict[str, Any], ask: Callable[..., dict[str, Any]]
) -> None:
    config["cameras"]["top"]["triggers"] = "hardware"
    station = start(config=config)
    with Line(station) as line:
        assert ask(station, "announce", trigger_id="t-2", timeout_ms=LONG_MS)["ok"]
        refused = [ask(station, "announce", trigger_id=name) for name in ("t-2", "t-4")]
        refused.append(ask(station, "trigger", trigger_id="t-6"))
        line.out.send_multipart(build_message("top", "f1", good_frame(), captured_utc_ns=time.time_ns()))
        wait_for(line.results, 1)
        assert ask(station, "offline")["ok"]
        refused.append(ask(station, "announce", trigger_id="t-8"))
    assert [(each["frame_id"], each["trigger_id"], each["verdict"]) for each in line.results] == [("f1", "t-2", "PASS")]
    assert [answer["error"] for answer in refused] == [
        "trigger_id: 't-2' of camera top is open already",
        "camera top: trigger 't-2' still waits for its frame",
        "camera top: cameras.top.triggers must be software in the station file, is hardware",
        "camera top: offline, takes no triggers",
    ]
    assert line.fired == []
