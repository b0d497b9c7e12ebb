"""Subscribers that stand still, never read, come late, by the hundred, or outlive the station.

The camera `fast` has no recipe: each of its frames is answered at once, so that results flow as fast as may be.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inspector.client import Event, HeartbeatBack, HeartbeatLost, Restarted, StatusChanged, Subscriber, Verdict
from inspector.testing.account import read_journal
from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, base_config, good_frame, send_frame
from tests.system.recovery import Serve, report

READER = """
import json, sys
from inspector.client import Gap, Lost, Subscriber, Verdict
results, requests, station, first = sys.argv[1:]
with Subscriber(
    results, station=station, requests=requests, cameras=["fast"], from_seq={"fast": int(first)}
) as subscriber:
    for event in subscriber:
        if isinstance(event, Verdict):
            print(json.dumps(["verdict", event.seq, event.seq, event.replay]), flush=True)
        elif isinstance(event, (Gap, Lost)):
            print(json.dumps([type(event).__name__, event.first_seq, event.last_seq, None]), flush=True)
"""
FLOOD = 20_000
"""Results: the high-water mark is 10 000, and the kernel holds some megabytes."""


@pytest.fixture(scope="module")
def config(recipe: Path) -> dict[str, Any]:
    cameras = {"top": {"recipe": str(recipe), "deadline_ms": 20_000}, "fast": {"deadline_ms": 20_000}}
    return base_config(recipe, **cameras) | {"evidence": {"frames": "none"}}


@pytest.fixture(scope="module")
def whole_line(serve: Serve) -> Iterator[Line]:
    with Line(serve().config, camera="fast") as line:
        yield line


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_subscriber_that_stood_still_has_each_result_once_and_others_were_not_delayed(
    serve: Serve, line: Line, tmp_path: Path
) -> None:
    station = serve()
    line.send(1)
    line.wait_answered()
    first, since = line.results[-1].message["seq"], len(line.results) - 1
    never = station.context.socket(zmq.SUB)  # reads nothing, ever
    never.rcvhwm = 1
    never.subscribe(b"")
    never.connect(station.config["sockets"]["results"])
    sockets = [station.config["sockets"][name] for name in ("results", "requests")]
    with (tmp_path / "events").open("wb") as events:
        arguments = [*sockets, station.config["station"], str(first)]
        reader = subprocess.Popen([sys.executable, "-c", READER, *arguments], stdout=events)
    try:
        wait_until(lambda: [event[0] for event in read_events(tmp_path)] == ["Gap", "verdict"])  # the first, replayed
        reader.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        flood(station)
        last = first + FLOOD
        line.wait_for(lambda: line.results[-1].message["seq"] == last, "last result")
        reader.send_signal(signal.SIGCONT)
        continued = time.monotonic()
        wait_until(lambda: len(read_verdicts(tmp_path)) >= FLOOD + 1)
        report(f"subscriber stood still for {FLOOD} results", "a gap, then replays", time.monotonic() - continued)
    finally:
        reader.kill()
        reader.wait()
        never.close(linger=0)
    verdicts = read_verdicts(tmp_path)
    assert sorted(seq for seq, _ in verdicts) == list(range(first, last + 1))
    assert sum(replay for _, replay in verdicts) > 100  # it was lost, and was asked for
    assert {event[0] for event in read_events(tmp_path)} == {"verdict", "Gap"}
    assert station.metric("inspector_results_lagging_total") > 0
    assert [arrival.message["seq"] for arrival in line.results[since:]] == list(range(first, last + 1))
    times = [arrival.at_s for arrival in line.results[since + 1 :]]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < (continued - stopped) / 2
    assert line.account(station.journal).broken == {}


def flood(station: RunningStation) -> None:
    """Frames of one pixel: more results than the station holds for one who does not read."""
    push = station.open(zmq.PUSH, "frames")
    for number in range(FLOOD):
        send_frame(push, np.zeros((1, 1, 3), dtype=np.uint8), f"good-flood-{number}", camera="fast")


def read_verdicts(folder: Path) -> list[tuple[int, bool]]:
    return [(event[1], event[3]) for event in read_events(folder) if event[0] == "verdict"]


def read_events(folder: Path) -> list[list[Any]]:
    """What the reader printed, whole lines."""
    text = (folder / "events").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_late_joiner_is_told_the_last_result_at_once(serve: Serve, line: Line) -> None:
    station = serve()
    line.send(1)
    line.wait_answered()
    expected, waits_s = line.results[-1].message, []
    for _ in range(10):
        joined = time.monotonic()
        joiner = station.open(zmq.SUB, "results")
        topic, body = joiner.recv_multipart()
        waits_s.append(time.monotonic() - joined)
        assert topic == b"status"
        last = json.loads(body)["last_result"]["fast"]
        assert last | {"replay": False, "regions": expected["regions"]} == expected
        joiner.close()
    assert min(waits_s) < 0.2  # who joins right after a status waits 0.4 s for the next that comes by the clock


def test_descriptors_are_given_back_when_two_hundred_subscribers_come_and_go(serve: Serve, line: Line) -> None:
    station = serve()
    with zmq.Context() as context:
        peers = [context.socket(zmq.SUB) for _ in range(200)]
        for peer in peers:
            peer.subscribe(b"")
            peer.connect(station.config["sockets"]["results"])
        assert all(peer.poll(30_000) for peer in peers)  # each has been sent a status
        connected = count_descriptors(station)
        line.send(2)
        line.wait_answered()
        for peer in peers:
            peer.close(linger=0)
    wait_until(lambda: count_descriptors(station) <= connected - 200)
    line.send(2)
    line.wait_answered()
    assert line.account(station.journal).broken == {}


def count_descriptors(station: RunningStation) -> int:
    return len(list(Path(f"/proc/{station.process.pid}/fd").iterdir()))


def test_client_lets_nothing_pass_from_a_kill_to_the_next_start_and_hears_of_both(serve: Serve) -> None:
    station = serve()
    push = station.open(zmq.PUSH, "frames")
    sockets = station.config["sockets"]
    with Subscriber(
        sockets["results"], station=station.config["station"], requests=sockets["requests"], cameras=["top"]
    ) as subscriber:
        receive_until(subscriber, lambda event: isinstance(event, StatusChanged))
        send_frame(push, good_frame(), "part-1", part_id="p1")
        assert subscriber.wait_for("top", part_id="p1", timeout_s=20).passed
        station.fault(hang=True)
        send_frame(push, good_frame(), "part-2", part_id="p2")
        wait_until(lambda: "part-2" in read_journal(station.journal)[1])
        station.process.kill()
        station.process.wait()
        killed = time.monotonic()
        assert not subscriber.wait_for("top", part_id="p2", timeout_s=20).passed
        assert time.monotonic() - killed < 15  # by the heartbeat, not by the timeout
        receive_until(subscriber, lambda event: isinstance(event, HeartbeatLost))
        serve()
        seen = receive_until(subscriber, lambda event: isinstance(event, Verdict) and event.frame_id == "part-2")
        assert (seen[-1].verdict, seen[-1].reason, seen[-1].passed) == ("ERROR", "RESTART", False)
        assert any(isinstance(event, Restarted) for event in seen)
        if not any(isinstance(event, HeartbeatBack) for event in seen):
            seen += receive_until(subscriber, lambda event: isinstance(event, HeartbeatBack))
        if not any(map(says_ready, seen)):  # until then a PASS is in doubt
            receive_until(subscriber, says_ready)
        send_frame(push, good_frame(), "part-3", part_id="p3")
        assert subscriber.wait_for("top", part_id="p3", timeout_s=20).passed
        report("kill -9", "HeartbeatLost, then Restarted and ERROR RESTART", time.monotonic() - killed)


def says_ready(event: Event) -> bool:
    return isinstance(event, StatusChanged) and event.state in {"READY", "RUNNING"}


def receive_until(subscriber: Subscriber, condition: Callable[[Event], bool]) -> list[Event]:
    """Events up to the first that meets the condition."""
    events: list[Event] = []
    limit = time.monotonic() + 60
    while not events or not condition(events[-1]):
        assert time.monotonic() < limit, events
        event = subscriber.receive(0.5)
        events += [] if event is None else [event]
    return events
