"""What `inspector tail` makes of a result, and what `inspector send` says of a frame."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.cli.online import _line

Run = Callable[..., tuple[int, str]]

RESULT = {
    "verdict": "PASS", "reason": "OK", "camera": "top", "seq": 7, "frame_id": "part-1", "score": 3.0, "threshold": 4.0,
    "latency_ms": {"total": 12.3}, "warn": False, "simulated": False,
}  # fmt: skip


def test_line_has_verdict_score_and_time_and_says_where_it_warns_or_the_frame_is_simulated() -> None:
    line = "PASS  OK              top #7 part-1 score 3/4 12 ms"
    assert _line(RESULT) == line
    assert _line(RESULT | {"warn": True}) == f"{line} warn"
    assert _line(RESULT | {"simulated": True}) == f"{line} simulated"
    assert _line(RESULT | {"warn": True, "simulated": True}) == f"{line} warn simulated"


def test_no_frame_id_forges_a_line_or_reaches_the_terminal() -> None:
    line = _line(RESULT | {"frame_id": "x\nPASS  OK \x1b[2J", "score": None})
    assert line == r"PASS  OK              top #7 x\nPASS  OK \x1b[2J 12 ms"


def send(run: Run, folder: Path, *options: object) -> list[dict[str, Any]]:
    """The headers that reach a daemon when two pictures are sent."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.zeros((8, 8), np.uint8))
    with zmq.Context() as context, context.socket(zmq.PULL) as daemon:
        port = daemon.bind_to_random_port("tcp://127.0.0.1")
        status, printed = run("send", folder, "--to", f"tcp://127.0.0.1:{port}", *options)
        assert (status, "2 frames sent" in printed) == (0, True), printed
        assert daemon.poll(10_000)
        return [json.loads(daemon.recv_multipart()[0]) for _ in range(2)]


@pytest.mark.parametrize(("options", "simulated"), [((), True), (("--live",), False)], ids=["trial", "live"])
def test_pictures_are_sent_as_simulated_unless_they_are_said_to_be_of_real_parts(
    run: Run, tmp_path: Path, options: tuple[str, ...], simulated: bool
) -> None:
    assert [header["simulated"] for header in send(run, tmp_path, *options)] == [simulated] * 2


def test_pictures_are_captured_when_they_are_sent_and_not_when_their_files_were_written_or_read(
    run: Run, tmp_path: Path
) -> None:
    before = time.time_ns()
    first, second = (header["captured_utc_ns"] for header in send(run, tmp_path, "--fps", 10))
    assert before < first < second < time.time_ns()
    assert second - first > 50e6  # it waited a tenth of a second for its turn: none of that is age
