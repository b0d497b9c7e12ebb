"""The soak: it reads slopes off numbers rightly, keeps the account, and sees each broken promise."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the scripts importable, as they are to each other when one is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load_script(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load_script


def test_slope_is_growth_in_ten_minutes_and_none_of_too_few_values(load: Any) -> None:
    watch = load("_watch")
    assert watch.compute_slope([0, 60, 120, 180], [5, 6, 7, 8]) == pytest.approx(10)
    assert watch.compute_slope([0, 60, 120], [1, 4, 1]) == pytest.approx(0)
    assert watch.compute_slope([0, 60], [5, 6]) is None


def test_warm_up_is_a_quarter_from_two_to_five_minutes(load: Any) -> None:
    warm_up = load("_watch").compute_warm_up
    assert [warm_up(60 * minutes) / 60 for minutes in (3, 8, 12, 20, 60)] == [2, 2, 3, 5, 5]


def test_growth_is_seen_where_the_least_rises_not_where_some_come_and_go(load: Any) -> None:
    has_grown = load("_watch").has_grown
    assert has_grown([30, 30, 31, 32, 31, 31])
    assert not has_grown([30, 30, 31, 30, 30, 45])
    assert not has_grown([30, 31])


def test_minutes_have_their_own_quantiles(load: Any) -> None:
    at_s = [99, 100, 101, 159, 160, 161]
    minutes = load("_watch").compute_minutes(at_s, [1000, 1, 2, 3, 8, 8], 100)
    assert minutes == [(130, 2, pytest.approx(2.98)), (190, 8, 8)]


def result(frame_id: str, verdict: str = "PASS", seq: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "frame_id": frame_id,
        "verdict": verdict,
        "reason": {"PASS": "OK", "FAIL": "DEFECT", "ERROR": "BAD_FRAME"}[verdict],
        "seq": seq,
        "score": 1.0,
        "threshold": 2.0,
        "deadline_ms": 2000,
        "latency_ms": {"total": 10.0},
    } | changes


def test_account_is_clean_when_each_frame_gets_the_verdict_it_deserves(load: Any) -> None:
    account = load("_traffic").Account()
    for frame_id in ("good-0", "bad-1", "good-2"):
        account.send(frame_id)
    account.owe_others(1)
    assert not account.is_settled
    account.take(result("good-0", seq=1), 0.0)
    account.take(result("bad-1", "FAIL", seq=3), 0.0)
    account.take(result("?", "ERROR", seq=2, score=None), 0.0)
    assert not account.is_settled
    account.take(result("good-2", "ERROR", seq=4, score=None), 0.0)
    assert account.is_settled
    assert (account.twice, account.undeserved, account.late, account.missing_seqs) == ([], [], [], 0)
    assert (account.sent, account.received, account.others) == (3, 4, 1)
    assert [total_ms for _, total_ms in account.latencies] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("frame_id", "changes"),
    [
        ("bad-1", {}),
        ("good-1", {"score": None}),
        ("good-1", {"threshold": None}),
        ("good-1", {"score": 2.5}),
        ("good-stranger", {}),
    ],
)
def test_account_names_a_pass_that_was_not_deserved(load: Any, frame_id: str, changes: dict[str, Any]) -> None:
    account = load("_traffic").Account()
    account.send("bad-1")
    account.send("good-1")
    account.take(result(frame_id, **changes), 0.0)
    assert account.undeserved == [frame_id]


def test_account_names_two_verdicts_late_ones_and_gaps(load: Any) -> None:
    account = load("_traffic").Account()
    account.send("good-1")
    account.take(result("good-1"), 0.0)
    account.take(result("good-1", "ERROR", seq=3, latency_ms={"total": 2101.0}), 0.0)
    assert (account.twice, account.late, account.missing_seqs) == (["good-1"], ["good-1"], 1)


def sample(load: Any, at_s: float, **changes: Any) -> Any:
    numbers = dict.fromkeys(load("_watch").Sample.__dataclass_fields__, 0) | {"at_s": at_s, "memory_mb": 300.0}
    return load("_watch").Sample(**numbers | changes)


def build_run(load: Any, **take: Any) -> Any:
    """Twenty minutes; `take` gives a field's value at each second."""
    samples = [sample(load, at, **{name: value(at) for name, value in take.items()}) for at in range(0, 1200, 5)]
    return load("_soak_report").Run(10.0, 0.0, samples, load("_traffic").Account(), [])


@pytest.mark.parametrize(
    ("take", "words"),
    [
        ({}, None),
        ({"memory_mb": lambda at: 300 + at / 700}, None),
        ({"memory_mb": lambda at: 300 + at / 500}, "memory grows by 1.20 MB"),
        ({"memory_mb": lambda at: 300 + min(at, 290)}, None),
        ({"descriptors": lambda at: 30 + at // 600}, "descriptors grow"),
        ({"threads": lambda at: 30 + at // 600}, "threads grow"),
        ({"evidence_bytes": lambda at: 5 * 1024**2}, "evidence exceeds"),
    ],
)
def test_growth_breaks_a_promise_after_the_warm_up(load: Any, take: dict[str, Any], words: str | None) -> None:
    broken = load("soak").find_broken(build_run(load, **take), None)
    assert len(broken) == (words is not None)
    assert words is None or words in broken[0]


def test_each_broken_account_breaks_a_promise(load: Any) -> None:
    run = build_run(load)
    account = run.account
    account.send("good-1")
    account.send("bad-2")
    account.owe_others()
    account.take(result("bad-2"), 0.0)
    account.take(result("bad-2", "FAIL"), 0.0)
    broken = load("soak").find_broken(run, "no replay came")
    words = ("no replay came", "1 without verdict: good-1", "two verdicts: bad-2", "undeserved PASS: bad-2", "0 were")
    assert len(broken) == len(words)
    for line, word in zip(broken, words, strict=True):
        assert word in line


def test_arguments_out_of_range_are_refused_with_the_value(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    soak = load("soak")
    arguments = soak.parse(["--minutes", "3", "--no-faults"])
    assert (arguments.faults, arguments.reload, arguments.load, arguments.frame_hw) == (False, False, 0.9, [256, 320])
    for wrong, words in (
        (["--minutes", "2"], "--minutes: must be more than 2, got 2.0"),
        (["--load", "0"], "--load: must be above 0 and at most 2, got 0.0"),
        (["--frame-hw", "64", "320"], "--frame-hw: must be at least 160 192, got [64, 320]"),
    ):
        with pytest.raises(SystemExit) as refused:
            soak.parse(wrong)
        assert refused.value.code == 2
        assert words in capsys.readouterr().err
