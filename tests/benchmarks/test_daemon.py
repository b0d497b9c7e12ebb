"""The benchmark of the daemon: its options, and that the program without a journal writes none."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from inspector.journal.verification import verify
from inspector.journal.writer import Journal, OpenFrame

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_journal_share_is_asked_for_by_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    daemon = importlib.import_module("daemon")
    assert not daemon.parse(["recipe"]).journal_share
    arguments = daemon.parse(["recipe", "--journal-share", "--frame-hw", "256", "256", "--frames", "500"])
    assert (arguments.journal_share, arguments.frame_hw, arguments.frames) == (True, [256, 256], 500)
    assert daemon.parse(["recipe", "--trigger"]).trigger
    assert daemon.parse(["recipe", "--scrapes-per-s", "100"]).scrapes_per_s == 100
    assert daemon.parse(["recipe", "--parts", "3"]).parts == 3


def test_part_of_one_camera_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with pytest.raises(SystemExit):
        importlib.import_module("daemon").parse(["recipe", "--parts", "1"])
    assert "--parts: must be 2 or more, as a part has so many cameras, got 1" in capsys.readouterr().err


def test_part_waits_from_the_verdict_on_its_last_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    parting = importlib.import_module("_parting")

    def view(moment: float, part: str) -> tuple[float, dict[str, Any]]:
        return moment, {"camera": "top", "frame_id": "1", "part_id": part}

    def whole(moment: float, part: str) -> tuple[float, dict[str, Any]]:
        return moment, {"camera": "part/body", "frame_id": part, "part_id": part}

    results = [view(1.0, "a"), view(2.0, "a"), view(2.5, "b"), whole(2.75, "a"), view(4.0, "b"), whole(4.125, "b")]
    assert parting.measure_waits(results) == [750.0, 125.0]


def test_frames_per_second_are_shares_of_another_way_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    parting = importlib.import_module("_parting")
    rounds = {"plain": [1.0, 2.0, 4.0], "parts": [2.0, 2.0, 5.0]}
    assert parting.compute_shares(rounds, "plain") == {"plain": (1, 1, 1), "parts": (0.8, 0.5, 1.0)}


def test_program_without_a_journal_writes_nothing_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    write_nothing = importlib.import_module("_unjournalled").write_nothing
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number, expected in ((1, 0), (2, 1)):
        with monkeypatch.context() as patch:
            if not expected:
                patch.setattr(Journal, "write", write_nothing)
            journal.write([OpenFrame(number, "top", "f", None, None, 0, 0, 2000, False)], [])
        assert verify(path).open_frames == expected
    journal.close()


class DelayedLine:
    """A station that answers each frame after a while, and prepares a recipe while it is asked so many times."""

    camera, requests = "top", "nowhere"

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._due: list[tuple[float, str]] = []

    def send(self, frame_id: str, frame: Any) -> None:
        self._due.append((time.monotonic() + self.delay_s, frame_id))

    def receive(self, timeout_ms: int) -> dict[str, Any] | None:
        time.sleep(0.001)
        if self._due and self._due[0][0] <= time.monotonic():
            return {"frame_id": self._due.pop(0)[1]}
        return None


def test_verdicts_are_timed_from_when_their_frames_were_due_and_all_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pace = importlib.import_module("_switching").pace
    left = iter([True] * 40 + [False] * 10_000)
    waits = pace(DelayedLine(0.1), [None], 0.01, lambda: next(left))
    assert len(waits) >= 2
    assert min(waits) >= 99


def test_switch_that_is_refused_is_told_and_one_that_is_done_compares_both_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("_switching")
    line, states = DelayedLine(0.0), ["preparing", "prepared"]

    class Station:
        def __init__(self, endpoint: str) -> None:
            assert endpoint == "nowhere"

        def __enter__(self) -> Station:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ask(self, request: str, action: str, **named: Any) -> dict[str, Any]:
            if action == "switch":
                assert named == {"camera": "top", "id": "7"}
            elif action == "status":
                line.delay_s = 0.05
                return {"last_switch": {"top": {"state": states.pop(0)}}}
            return {"id": "7"}

    monkeypatch.setattr(module, "Requester", Station)
    content = module.compare_switch(line, [None], 0.01, Path("other"), 0.3)
    assert content["ms"]["switching"][1] >= 49
    assert content["p99_ratio"] == content["ms"]["switching"][1] / content["ms"]["undisturbed"][1]
    assert content["prepared_s"] >= 0.2
    states += ["refused"]
    with pytest.raises(SystemExit, match="the switch failed: the recipe was refused"):
        module.compare_switch(line, [None], 0.01, Path("other"), 0.1)
