"""The process is killed again and again under load, at any moment: what is on record is answered, once, and right."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inspector.client import Lost, Subscriber, Verdict
from inspector.journal.verification import verify
from inspector.testing.line import ConfirmedSender, Line
from inspector.testing.station_process import FRAME_HW, RunningStation, StartStation, base_config
from tests.system.chaos import make_random, scaled, tell, timeout

KILLS = scaled(5, 50)
LOAD = {"slow_s": 0.04}
"""Less capacity than is sent: at each kill frames wait, are being judged, and are on their way to the disk."""
FRAME_BYTES = FRAME_HW[0] * FRAME_HW[1] * 3
PERIOD_S = 0.015


class Confirming(threading.Thread):
    """Sends frames by REQ, from `with` to its end, through all restarts."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(name="confirming")
        self._sender = ConfirmedSender(config, camera="side", timeout_s=0.5)
        self._stop_asked = threading.Event()

    @property
    def sent(self) -> list[str]:
        """Frame ids, each of its own."""
        return self._sender.sent

    @property
    def confirmed(self) -> list[str]:
        """Frame ids that the station said are on record."""
        return self._sender.confirmed

    def stop(self) -> None:
        """Send no more."""
        self._stop_asked.set()
        self.join()

    def run(self) -> None:
        """Until asked to stop."""
        with self._sender:
            while not self._stop_asked.wait(PERIOD_S):
                number = len(self.sent)
                self._sender.send(f"{'bad' if number % 2 else 'good'}-confirmed-{number}")


class Following(threading.Thread):
    """Follows the results with the package's own client, which asks for replays of what it missed."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(name="following")
        sockets = config["sockets"]
        self._subscriber = Subscriber(
            sockets["results"],
            station=config["station"],
            requests=sockets["requests"],
            from_seq=dict.fromkeys(config["cameras"], 1),
        )
        self._stop_asked = threading.Event()
        self.verdicts: list[Verdict] = []
        self.lost: list[Lost] = []

    @property
    def seen(self) -> Counter[tuple[str, int]]:
        """How often each (camera, seq) came."""
        return Counter((verdict.camera, verdict.seq) for verdict in self.verdicts[:])

    @property
    def malformed(self) -> int:
        """Messages that broke the protocol."""
        return self._subscriber.malformed

    def stop(self) -> None:
        """Follow no more."""
        self._stop_asked.set()
        self.join()

    def run(self) -> None:
        """Until asked to stop."""
        with self._subscriber:
            while not self._stop_asked.is_set():
                event = self._subscriber.receive(timeout_s=0.1)
                if isinstance(event, Verdict):
                    self.verdicts.append(event)
                elif isinstance(event, Lost):
                    self.lost.append(event)


class Killer:
    """Starts the station again and again, and ends it each time in another way."""

    def __init__(self, start: StartStation, config: dict[str, Any], chance: random.Random) -> None:
        self._start = start
        self._config = config
        self._chance = chance
        self.ready_s: list[float] = []
        self.kills: Counter[str] = Counter()
        self.ways: dict[str, Callable[[RunningStation], None]] = {
            "under load": self._kill_under_load,
            "before a commit": lambda station: self._exit_at(station, "exit_before_commit"),
            "while it starts": self._kill_while_it_starts,
            "after a commit": lambda station: self._exit_at(station, "exit_after_commit"),
            "while it stops": self._kill_while_it_stops,
        }

    def start(self) -> RunningStation:
        """A station that is ready, its device slow; how long that took is noted."""
        began = time.monotonic()
        station = self._start(wait=False, faults=True, config=self._config)
        station.fault(**LOAD)
        station.wait_ready()
        self.ready_s.append(time.monotonic() - began)
        return station

    def kill(self, station: RunningStation, way: str) -> None:
        """End the running station this way."""
        self.ways[way](station)
        self.kills[way] += 1
        assert "Traceback" not in station.log_text(), station.log_text()

    def _kill_under_load(self, station: RunningStation) -> None:
        time.sleep(self._chance.uniform(0.2, 1.5))
        _kill(station)

    def _exit_at(self, station: RunningStation, fault: str) -> None:
        time.sleep(self._chance.uniform(0.2, 1.5))
        station.fault(**LOAD, **{fault: True})
        assert station.process.wait(20) == 137
        station.fault(**LOAD)

    def _kill_while_it_starts(self, station: RunningStation) -> None:
        """Killed under load first, and again in its next start: once it answers, while recipes are loaded."""
        self.kill(station, "under load")
        starting = self._start(wait=False, faults=True, config=self._config)
        wait_serving(starting)
        time.sleep(self._chance.uniform(0.0, 0.8))
        _kill(starting)

    def _kill_while_it_stops(self, station: RunningStation) -> None:
        time.sleep(self._chance.uniform(0.2, 0.5))
        station.process.send_signal(signal.SIGTERM)
        time.sleep(self._chance.uniform(0.0, 0.6))
        _kill(station)


def wait_serving(station: RunningStation) -> None:
    """Until it answers over HTTP, whatever its state."""
    while True:
        assert station.process.poll() is None, station.log_text()
        with contextlib.suppress(OSError):
            station.get("/live")
            return
        time.sleep(0.02)


def _kill(station: RunningStation) -> None:
    station.process.kill()
    station.process.wait()


@contextlib.contextmanager
def running(*threads: Confirming | Following) -> Iterator[None]:
    """Started, and stopped whatever happens."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()


@timeout(300, 3600)
def test_frames_on_record_have_one_true_verdict_each_when_the_process_is_killed_at_any_moment(
    start: StartStation, recipe: Path
) -> None:
    # Deadlines that are not reached: after one, a verdict may leave without waiting for the disk.
    camera = {"recipe": str(recipe), "deadline_ms": 20_000}
    config = base_config(recipe, top=camera, side=camera)
    config |= {"tile_batch": 8, "buffer": {"max_bytes": 20 * FRAME_BYTES}, "evidence": {"frames": "none"}}
    killer = Killer(start, config, make_random())
    station = killer.start()
    confirming, following = Confirming(config), Following(config)
    with Line(config) as line, running(following):
        line.flow(PERIOD_S)
        with running(confirming):
            for number in range(KILLS):
                way = list(killer.ways)[number % len(killer.ways)]
                killer.kill(station, way)
                station = killer.start()
            time.sleep(0.5)
        line.pause()
        line.wait_for(lambda: not station.metric("inspector_frames_in_flight"), "end of the flow")
        on_record = read_finals(station.journal)
        line.wait_for(lambda: on_record.keys() <= following.seen.keys() or following.lost, "replays")
    assert station.stop() == 0
    account = line.account(station.journal, confirming.confirmed)
    verification = verify(station.journal)
    restarted = {key for key, reason in on_record.items() if reason == "RESTART"}
    live = {(a.message["camera"], a.message["seq"]) for a in line.results if a.message["reason"] == "RESTART"}
    tell(
        f"{killer.kills.total()} kills ({', '.join(f'{n} {way}' for way, n in killer.kills.items())}): "
        f"{len(line.sent) + len(confirming.sent)} frames sent, {len(confirming.confirmed)} confirmed, "
        f"{len(on_record)} on record; {len(account.without_verdict)} without verdict, "
        f"{len(account.two_verdicts)} with two, {len(account.undeserved_pass)} undeserved PASS; "
        f"{len(restarted)} answered RESTART, {len(live & restarted)} of them heard live; "
        f"READY after {statistics.median(killer.ready_s):.1f} s (median), {max(killer.ready_s):.1f} s (most)"
    )
    assert account.broken == {}
    assert account.unrecorded == ()
    assert set(confirming.confirmed) <= read_frame_ids(station.journal)
    assert verification.faults == ()
    assert verification.open_frames == 0
    assert confirming.confirmed
    assert live & restarted
    assert following.lost == []
    assert following.malformed == 0
    assert set(following.seen.values()) == {1}
    assert following.seen.keys() == on_record.keys()
    assert {(v.camera, v.seq): v.reason for v in following.verdicts} == on_record


def read_finals(journal: Path) -> dict[tuple[str, int], str]:
    """(camera, seq) → reason of the last row about it."""
    query = "SELECT camera, seq, json_extract(json, '$.reason') FROM results ORDER BY n"
    with contextlib.closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return {(camera, seq): reason for camera, seq, reason in connection.execute(query)}


def read_frame_ids(journal: Path) -> set[str]:
    """Frame ids that have a verdict."""
    with contextlib.closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return {frame_id for (frame_id,) in connection.execute("SELECT frame_id FROM results")}
