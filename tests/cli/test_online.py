"""What `inspector tail` makes of a result."""

from __future__ import annotations

from inspector.cli.online import _line

RESULT = {
    "verdict": "PASS", "reason": "OK", "camera": "top", "seq": 7, "frame_id": "part-1", "score": 3.0, "threshold": 4.0,
    "latency_ms": {"total": 12.3}, "warn": False,
}  # fmt: skip


def test_line_has_verdict_score_and_time_and_says_where_it_warns() -> None:
    line = "PASS  OK              top #7 part-1 score 3/4 12 ms"
    assert _line(RESULT) == line
    assert _line(RESULT | {"warn": True}) == f"{line} warn"


def test_no_frame_id_forges_a_line_or_reaches_the_terminal() -> None:
    line = _line(RESULT | {"frame_id": "x\nPASS  OK \x1b[2J", "score": None})
    assert line == r"PASS  OK              top #7 x\nPASS  OK \x1b[2J 12 ms"
