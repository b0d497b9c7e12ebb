"""The faults to order are had, one by one, and the accounts see them: what the other tests here stand on."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from inspector.testing.account import Account, build_account
from inspector.testing.line import ConfirmedSender, Line
from inspector.testing.station_process import StartStation, base_config
from tests.system.chaos import long_only

UNHARMED = {"good": ("PASS", "OK"), "bad": ("FAIL", "DEFECT")}


@long_only
def test_faults_that_pass_are_had_and_mended(start: StartStation, recipe: Path) -> None:
    station = start(faults=True, config=base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 120_000}))
    reasons = {"nan": "NOT_FINITE", "oom": "OUT_OF_MEMORY", "oom_once": "OK", "fail_commit": "NOT_READY"}
    with Line(station.config) as line:

        def answer(**settings: Any) -> list[dict[str, Any]]:
            station.fault(**settings)
            before = len(line.results)
            line.send(2)
            line.wait_answered()
            return [arrival.message for arrival in line.results[before:]]

        for fault, reason in reasons.items():
            assert answer(**{fault: True})[0]["reason"] == reason
        slow = answer(slow_s=0.5)
        assert all(message["latency_ms"]["infer"] > 500 for message in slow)
        started = time.monotonic()
        answer(slow_commit_s=0.6)
        assert time.monotonic() - started > 0.6
        assert [(message["verdict"], message["reason"]) for message in answer()] == list(UNHARMED.values())
        station.fault(hang=True)
        line.send(2)
        line.wait_for(lambda: len(line.sent) == 16, "frames taken")
        statuses = len(line.statuses)
        line.wait_for(lambda: len(line.statuses) > statuses + 3, "status")
        assert len(line.results) == 14  # it hangs
        station.fault()
        line.wait_answered()
        account = line.account(station.journal)
    assert account.broken == {}
    assert account.accepted == account.sent == 16
    assert station.stop() == 0


def with_confirmation(recipe: Path) -> dict[str, Any]:
    """A station with a REQ socket, and time enough for a slow machine."""
    top = {"recipe": str(recipe), "deadline_ms": 120_000}
    return base_config(recipe, top=top, side=top | {"source": {"type": "imagezmq"}})


@long_only
def test_confirmed_sender_goes_on_after_an_answer_that_did_not_come(start: StartStation, recipe: Path) -> None:
    station = start(config=with_confirmation(recipe))
    with ConfirmedSender(station.config, timeout_s=1.0) as sender, Line(station.config) as line:
        assert sender.send("good-a")
        line.wait_for(lambda: line.results, "result")
        station.process.kill()
        station.process.wait()
        assert not sender.send("good-b")
        assert not sender.send("good-c")  # a socket that got no answer would refuse
        start(config=station.config)
        line.wait_for(lambda: sender.send(f"good-{len(sender.sent)}"), "confirmation")
        last = sender.confirmed[-1]
        line.wait_for(lambda: last in {arrival.message["frame_id"] for arrival in line.results[:]}, "result")
        assert sender.confirmed == ["good-a", last]
        assert line.account(station.journal, sender.confirmed).broken == {}
        assert line.account(station.journal, ["good-z"]).broken == {"without_verdict": ("good-z",)}


def test_confirmed_frame_has_its_verdict_when_the_process_is_killed_while_it_waits(
    start: StartStation, recipe: Path
) -> None:
    station = start(faults=True, config=with_confirmation(recipe))
    station.fault(hang=True)
    with ConfirmedSender(station.config, timeout_s=20.0) as sender, Line(station.config) as line:
        assert sender.send("good-a")
        station.process.kill()
        station.process.wait()
        station.fault()
        statuses = len(line.statuses)
        start(faults=True, config=station.config)
        line.wait_for(lambda: len(line.statuses) > statuses + 1, "status of the next process")
        assert line.account(station.journal, sender.confirmed).broken == {}


# ---------------------------------------------------------------- accounts, without a daemon


def message(frame_id: str, verdict: str, score: float | None = None, **more: Any) -> dict[str, Any]:
    reason = {"PASS": "OK", "FAIL": "DEFECT", "ERROR": "DEADLINE"}[verdict]
    result = {"frame_id": frame_id, "verdict": verdict, "reason": reason, "score": score, "threshold": 2.0}
    return result | {"replay": False} | more


def account_of(
    tmp_path: Path, rows: list[tuple[int, str, str, float | None, int | None]], messages: list[dict[str, Any]]
) -> Account:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE results (n, frame_id, verdict, score, amends)")
    connection.execute("CREATE TABLE open_frames (number, json)")
    connection.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("INSERT INTO open_frames VALUES (1, ?)", [json.dumps({"frame_id": "good-open"})])
    connection.commit()
    connection.close()
    return build_account(["good-1", "bad-1", "good-open", "good-lost"], messages, path)


def test_account_is_clean_when_each_frame_has_its_one_verdict(tmp_path: Path) -> None:
    rows = [(1, "good-1", "PASS", 1.0, None), (2, "bad-1", "PASS", 1.0, None), (3, "bad-1", "ERROR", None, 2),
            (4, "good-open", "ERROR", None, None)]  # fmt: skip
    messages = [message("good-1", "PASS", 1.0), message("good-1", "PASS", 1.0, replay=True), message("bad-1", "ERROR")]
    account = account_of(tmp_path, rows, messages)
    assert account.broken == {}
    assert (account.sent, account.accepted, account.unpublished) == (4, 3, ("good-open",))


@pytest.mark.parametrize(
    ("rows", "messages", "broken"),
    [
        ([], [], {"without_verdict": ("good-open",)}),
        ([(1, "good-1", "FAIL", 3.0, None), (2, "good-1", "ERROR", None, None)], [], {"two_verdicts": ("good-1",)}),
        ([(1, "good-1", "FAIL", 3.0, None)], [message("good-1", "FAIL", 3.0)] * 2, {"two_verdicts": ("good-1",)}),
        ([(1, "bad-1", "PASS", 1.0, None)], [], {"undeserved_pass": ("bad-1",)}),
        ([], [message("good-1", "PASS", 1.0)], {"undeserved_pass": ("good-1",)}),
        ([(1, "good-1", "PASS", 1.0, None)], [message("good-1", "PASS", 1.1)], {"undeserved_pass": ("good-1",)}),
        ([(1, "good-1", "ERROR", 1.0, None)], [message("good-1", "PASS", 1.0)], {"undeserved_pass": ("good-1",)}),
        ([(1, "good-1", "PASS", None, None)], [message("good-1", "PASS")], {"undeserved_pass": ("good-1",)}),
        ([(1, "good-1", "PASS", 3.0, None)], [message("good-1", "PASS", 3.0)], {"undeserved_pass": ("good-1",)}),
    ],
)
def test_account_names_the_frame_and_the_promise_broken(tmp_path: Path, rows, messages, broken) -> None:
    answered = [(9, "good-open", "ERROR", None, None)] if "without_verdict" not in broken else []
    assert account_of(tmp_path, rows + answered, messages).broken == broken
