"""A watched folder through a kill: each file has one verdict, whatever it was doing when the station died."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import cv2

from inspector.testing.station_process import RunningStation, StartStation, base_config, good_frame

WAIT_S = 60.0
SLOW_S = 0.3
"""Of a frame: when the first verdicts are on record, most frames still wait."""
FILES = 12


def put(folder: Path, name: str, value: int) -> None:
    """A good frame of its own, whole from the start."""
    frame = good_frame()
    frame[0, 0] = value
    cv2.imwrite(str(folder / f".{name}"), frame)
    (folder / f".{name}").rename(folder / name)


def read_verdicts(station: RunningStation) -> list[tuple[str, str, int]]:
    """Frame id, verdict and reason of each result on record."""
    with sqlite3.connect(f"file:{station.journal}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT frame_id, verdict, reason_code FROM results ORDER BY n").fetchall()
    connection.close()
    return rows


def wait_for(station: RunningStation, count: int) -> list[tuple[str, str, int]]:
    """All verdicts, once there are `count`."""
    deadline = time.monotonic() + WAIT_S
    while len(found := read_verdicts(station)) < count:
        assert time.monotonic() < deadline, station.log_text()
        assert station.process.poll() is None, station.log_text()
        time.sleep(0.05)
    return found


def test_no_file_is_judged_twice_when_the_station_is_killed_and_starts_again(
    start: StartStation, recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FILES):
        put(folder, f"part-{number:02}.png", number)
    source = {"type": "folder", "path": str(folder), "watch": True, "poll_s": 0.05}
    config = base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 60_000, "source": source})
    station = start(config=config, faults=True, wait=False)
    station.fault(slow_s=SLOW_S)
    station.wait_ready()
    wait_for(station, 3)
    station.process.send_signal(signal.SIGKILL)
    station.process.wait()
    before = Counter(frame_id for frame_id, *_ in read_verdicts(station))

    station = start(config=config, faults=True, wait=False)
    station.fault()
    station.wait_ready()
    wait_for(station, FILES)
    put(folder, "new.png", 100)
    put(folder, "part-00.png", 101)  # another part under a name that was used
    verdicts = wait_for(station, FILES + 2)
    time.sleep(1.0)  # several looks at the folder
    assert read_verdicts(station) == verdicts
    assert station.stop() == 0

    counts = Counter(frame_id for frame_id, *_ in verdicts)
    assert counts.pop("part-00.png") == 2
    assert set(counts.values()) == {1}
    assert len(counts) == FILES
    again = {frame_id: (verdict, reason) for frame_id, verdict, reason in verdicts[len(before) :]}
    restarted = [name for name, (_, reason) in again.items() if reason == 51]
    assert restarted, "no frame was open at the kill"
    assert not set(restarted) & set(before)
    assert again["new.png"][0] == again["part-00.png"][0] == "PASS"
    assert {verdict for name, (verdict, _) in again.items() if name not in restarted} == {"PASS"}

    third = start(config=config, faults=True)
    time.sleep(1.0)
    assert read_verdicts(third) == verdicts
    assert third.stop() == 0
