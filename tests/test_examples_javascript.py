"""The JavaScript that the documentation prints lets no part through that it should stop. Its clock is the test's."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.client import Subscriber, pulse

PAGE = (Path(__file__).resolve().parents[1] / "docs/plc/examples-javascript.md").read_text(encoding="utf-8")
NODE = shutil.which("node")

DRIVER = """
import { readFileSync } from "node:fs";
import { Gate } from "./gate.mjs";
const gate = new Gate({ station: "press-3", camera: process.argv[2], log: () => {} });
const answers = JSON.parse(readFileSync(0)).map(([now, topic, body]) => {
  if (topic === null) gate.tick(now); else gate.take(topic, body, now);
  return [gate.register.answer, gate.register.part, gate.register.lifebit];
});
console.log(JSON.stringify(answers));
"""
NONE, PASSED, STOPPED = 0, 1, 2
ABSENT = object()
CLOCK_MS = 1_795_914_602_719
"""The station's wall clock at the time 0 of the test."""

Step = tuple[float, str | None, str | None]


def status(at: float, lifebit: int, *, delay: float = 0, clock: float = CLOCK_MS, **changes: Any) -> Step:
    """One that was published `delay` before it came."""
    message = {"schema": 1, "station": "press-3", "boot_id": "b", "state": "RUNNING", "lifebit": lifebit}
    return at, "status", encode(message | {"published_utc_ns": (clock + at - delay) * 1e6} | changes)


def result(at: float, number: int, *, delay: float = 0, clock: float = CLOCK_MS, **changes: Any) -> Step:
    message = {
        "schema": 1, "station": "press-3", "boot_id": "b", "camera": "top", "seq": number, "part_id": "7",
        "verdict": "PASS", "reason": "OK", "score": 1, "threshold": 2, "regions": [], "recipe_id": "lens",
        "simulated": False, "replay": False, "recorded": True, "published_utc_ns": (clock + at - delay) * 1e6,
    }  # fmt: skip
    return at, "result/top", encode(message | changes)


def encode(message: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in message.items() if value is not ABSENT})


def tick(at: float) -> Step:
    return at, None, None


def beat(first: int, last: int, **changes: Any) -> Iterator[Step]:
    """Statuses in time, one each 400 ms."""
    return (status(400.0 * number, number, **changes) for number in range(first, last + 1))


@pytest.fixture
def follow(tmp_path: Path) -> Any:
    """What the register shows after each step: its answer, its part, its lifebit."""
    if NODE is None:
        pytest.skip("node is not installed")
    gate, line = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    assert 'from "./gate.mjs"' in line
    (tmp_path / "gate.mjs").write_text(gate, encoding="utf-8")
    (tmp_path / "driver.mjs").write_text(DRIVER, encoding="utf-8")

    def follow(*steps: Step, camera: str = "top") -> list[tuple[int, str | None, int]]:
        done = subprocess.run(
            [NODE, "driver.mjs", camera], cwd=tmp_path, input=json.dumps(steps), capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        return [tuple(each) for each in json.loads(done.stdout)]

    return follow


def test_numbers_are_those_of_the_python_client() -> None:
    names = ("HEARTBEAT", "SPAN", "JITTER", "QUIET", "FORGET")
    printed = {name: float(re.findall(rf"\b{name} = ([0-9_]+)", PAGE)[0]) / 1000 for name in names}
    heartbeat_s = inspect.signature(Subscriber).parameters["heartbeat_s"].default
    quiet_s = pulse.Pulse(heartbeat_s)._quiet_s
    expected = (heartbeat_s, pulse._SPAN_S, pulse._JITTER_S, quiet_s, pulse._SETTLE_S)
    assert printed == dict(zip(names, expected, strict=True))


def test_sound_pass_lets_through_and_is_cleared_when_the_part_has_left(follow: Any) -> None:
    steps = [*beat(0, 5), result(2100, 1), tick(2150), status(2400, 6), tick(3599), tick(3600)]
    answers = follow(*steps)
    assert [each[0] for each in answers[:6]] == [NONE] * 6
    assert answers[6:] == [
        (PASSED, "7", 0), (PASSED, "7", 1), (PASSED, "7", 1), (PASSED, "7", 2), (NONE, "7", 3),
    ]  # fmt: skip


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "verdict": {"verdict": "FAIL", "reason": "DEFECT"},
    "reason": {"reason": "DEFECT"},
    "replay-true": {"replay": True},
    "replay-absent": {"replay": ABSENT},
    "replay-text": {"replay": "false"},
    "simulated-true": {"simulated": True},
    "simulated-absent": {"simulated": ABSENT},
    "recorded-absent": {"recorded": ABSENT},
    "recorded-text": {"recorded": "false"},
    "regions": {"regions": [{"xyxy": [0, 0, 1, 1], "peak": 1, "area": 1}]},
    "regions-absent": {"regions": ABSENT},
    "recipe-none": {"recipe_id": None},
    "recipe-empty": {"recipe_id": ""},
    "above-threshold": {"score": 2.1},
    "threshold-none": {"score": -1, "threshold": None},
    "score-text": {"score": "1"},
    "other-process": {"boot_id": "c"},
    "views": {"views": [{"camera": "top", "verdict": "PASS", "reason": "OK"}]},
}


@pytest.mark.parametrize("changes", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictory_pass_stops_the_part_for_good(follow: Any, changes: dict[str, Any]) -> None:
    answers = follow(*beat(0, 5), result(2100, 1, **changes), result(2101, 2))
    assert [each[:2] for each in answers[-2:]] == [(STOPPED, "7")] * 2


PARTS = {"body": {"cameras": ["top", "left"]}, "door": {"cameras": ["top"]}}


def view(camera: str, **changes: Any) -> dict[str, Any]:
    return {"camera": camera, "verdict": "PASS", "reason": "OK"} | changes


VIEWS: dict[str, tuple[int, list[Any] | object]] = {
    "each-camera": (PASSED, [view("left"), view("top")]),
    "none": (STOPPED, []),
    "absent": (STOPPED, ABSENT),
    "no-list": (STOPPED, {"0": view("top"), "1": view("left"), "length": 2}),
    "one-missing": (STOPPED, [view("top")]),
    "one-twice": (STOPPED, [view("top"), view("top")]),
    "one-too-many": (STOPPED, [view("top"), view("left"), view("right")]),
    "one-empty": (STOPPED, [view("top"), None]),
    "one-fails": (STOPPED, [view("top"), view("left", verdict="FAIL", reason="DEFECT")]),
    "one-not-judged": (STOPPED, [view("top"), view("left", verdict=None, reason=None)]),
    "one-for-a-reason": (STOPPED, [view("top"), view("left", reason="STALE")]),
}


@pytest.mark.parametrize(("answer", "views"), VIEWS.values(), ids=VIEWS)
def test_part_passes_only_with_a_pass_of_each_camera_that_the_station_names(
    follow: Any, answer: int, views: list[Any] | object
) -> None:
    of_part = result(2100, 1, camera="part/body", views=views)
    answers = follow(*beat(0, 5, parts=PARTS), of_part, result(2101, 1), camera="part/body")
    assert [each[:2] for each in answers[-2:]] == [(answer, "7")] * 2


@pytest.mark.parametrize("parts", [ABSENT, {}, {"body": {}}, {"body": {"cameras": "left,top"}}])
def test_part_does_not_pass_when_the_station_does_not_name_its_cameras(follow: Any, parts: Any) -> None:
    of_part = result(2100, 1, camera="part/body", views=[view("top"), view("left")])
    assert follow(*beat(0, 5, parts=parts), of_part, camera="part/body")[-1][:2] == (STOPPED, "7")


def test_part_of_one_camera_does_not_pass(follow: Any) -> None:
    of_part = result(2100, 1, camera="part/door", views=[view("top")])
    assert follow(*beat(0, 5, parts=PARTS), of_part, camera="part/door")[-1][:2] == (STOPPED, "7")


OTHERS: dict[str, dict[str, Any]] = {
    "station": {"station": "press-4"},
    "camera": {"camera": "top2"},
    "schema": {"schema": 2},
    "schema-absent": {"schema": ABSENT},
    "no-part": {"part_id": None},
    "part-not-the-plcs": {"part_id": "007"},
    "seq": {"seq": "1"},
    "time": {"published_utc_ns": None},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_message_that_is_for_no_part_of_this_gate_answers_none(follow: Any, changes: dict[str, Any]) -> None:
    assert follow(*beat(0, 5), result(2100, 1, **changes))[-1][:2] == (NONE, None)


def test_number_at_or_below_the_last_counts_for_nothing_and_one_after_a_gap_counts(follow: Any) -> None:
    steps = [result(2100, 5, part_id="1"), result(2101, 5, part_id="2"), result(2102, 4, part_id="3")]
    answers = follow(*beat(0, 5), *steps, result(2103, 9, part_id="4"))
    assert [each[:2] for each in answers[-4:]] == [(PASSED, "1")] * 3 + [(PASSED, "4")]


def test_first_verdict_of_a_part_is_final_and_a_later_stop_revokes_a_pass(follow: Any) -> None:
    fail = {"verdict": "FAIL", "reason": "DEFECT"}
    steps = [
        result(2100, 1, **fail),
        result(2101, 2),
        result(2102, 3, part_id="8"),
        result(2103, 4, part_id="8", **fail),
    ]
    answers = follow(*beat(0, 5), *steps, tick(3700), result(3701, 5))
    shown = [(STOPPED, "7"), (STOPPED, "7"), (PASSED, "8"), (STOPPED, "8"), (NONE, "8"), (NONE, "8")]
    assert [each[:2] for each in answers[-6:]] == shown


@pytest.mark.parametrize("body", ["not json", "null", '{"station": "press-3"}'])
def test_message_that_cannot_be_read_stops_until_the_next_status_and_ends_nothing(follow: Any, body: str) -> None:
    broken = (2100.0, "result/top", body)
    steps = [result(2099, 1), broken, result(2101, 2, part_id="8"), status(2400, 6), result(2401, 3, part_id="9")]
    shown = [(PASSED, "7"), (STOPPED, "7"), (STOPPED, "8"), (STOPPED, "8"), (PASSED, "9")]
    assert [each[:2] for each in follow(*beat(0, 5), *steps)[-5:]] == shown


def test_silence_stops_the_part_without_a_message_and_the_lifebit_stands_still(follow: Any) -> None:
    answers = follow(*beat(0, 5), tick(3900), result(3950, 1), tick(4000), tick(4001), tick(4050))
    assert [each[0] for each in answers[-4:]] == [PASSED, PASSED, STOPPED, STOPPED]
    assert [each[2] for each in answers[-4:]] == [1, 2, 2, 2]


@pytest.mark.parametrize("state", ["STARTING", "STOPPING", "FAULT"])
def test_nothing_passes_in_a_state_that_does_not_judge(follow: Any, state: str) -> None:
    assert follow(*beat(0, 5, state=state), result(2100, 1))[-1][0] == STOPPED


def test_nothing_passes_when_the_lifebit_stands_still(follow: Any) -> None:
    still = [status(400.0 * number, 5) for number in range(6, 12)]
    assert follow(*beat(0, 5), *still, result(4401, 1))[-1][0] == STOPPED


def test_nothing_passes_after_connecting_until_statuses_came_for_half_a_second(follow: Any) -> None:
    steps = [status(0, 0), status(400, 1), result(401, 1), status(800, 2), result(801, 2, part_id="8")]
    assert [each[:2] for each in follow(*steps)[2::2]] == [(STOPPED, "7"), (PASSED, "8")]


def test_nothing_passes_after_a_restart_until_statuses_came_for_half_a_second(follow: Any) -> None:
    other: dict[str, Any] = {"boot_id": "c"}
    steps = [status(2400, 6, **other), result(2401, 1, **other), status(2800, 7, **other), status(3200, 8, **other)]
    answers = follow(*beat(0, 5), *steps, result(3201, 2, part_id="8", **other))
    assert (answers[7][:2], answers[-1][:2]) == ((STOPPED, "7"), (PASSED, "8"))


def test_queue_that_is_read_all_at_once_lets_nothing_through(follow: Any) -> None:
    queued = [status(5000, number, delay=5000 - 400 * number) for number in range(13)]
    old = [result(5000, number, part_id=str(number), delay=5000 - 400 * number) for number in range(1, 13)]
    both = [step for pair in zip(queued[1:], old, strict=True) for step in pair]
    assert {each[0] for each in follow(queued[0], *both)} == {NONE, STOPPED}


def test_queue_that_is_read_faster_than_it_was_filled_lets_nothing_through(follow: Any) -> None:
    queued = [status(200.0 * number, number, delay=5000 - 200 * number) for number in range(20)]
    assert follow(*queued, result(3801, 1, delay=1200))[-1][0] == STOPPED


def test_delays_that_keep_falling_are_no_heartbeat(follow: Any) -> None:
    falling = [status(400.0 * number, number, clock=CLOCK_MS + 1000 * number) for number in range(11, 17)]
    assert follow(*beat(0, 10), *falling, result(6401, 1, clock=CLOCK_MS + 16_000))[-1][0] == STOPPED


@pytest.mark.parametrize(("delay", "answer"), [(1900, PASSED), (2100, STOPPED)])
def test_old_pass_stops_the_part(follow: Any, delay: float, answer: int) -> None:
    assert follow(*beat(0, 10), result(4010, 1, delay=delay))[-1][0] == answer


def test_messages_that_all_come_late_after_a_stall_let_nothing_through(follow: Any) -> None:
    late = [status(10_000.0 + 400 * number, 11 + number, delay=5000) for number in range(10)]
    assert follow(*beat(0, 10), *late, result(13_601, 1, delay=5000))[-1][0] == STOPPED


@pytest.mark.parametrize("step_ms", [-10_000, 10_000])
def test_a_step_of_the_stations_clock_is_forgotten_after_a_minute(follow: Any, step_ms: float) -> None:
    stepped = CLOCK_MS + step_ms
    steps = [*beat(0, 10), *beat(11, 162, clock=stepped), result(64_801, 1, clock=stepped)]
    assert follow(*steps)[-1][0] == PASSED


def test_slow_drift_of_the_clock_does_not_stop_the_line(follow: Any) -> None:
    drifting = [status(400.0 * number, number, delay=number * 0.4) for number in range(1000)]  # 1 ms a second
    passes = [result(400.0 * number + 1, number, delay=number * 0.4, part_id=str(number)) for number in range(3, 1000)]
    answers = follow(*sorted([*drifting, *passes], key=lambda step: step[0]))
    assert {each[0] for each in answers[5:]} == {PASSED}
