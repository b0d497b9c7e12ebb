"""A journal and results for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.journal.writer import Journal
from inspector.types import Reason, Result, Verdict

RESULT = Result(
    station="line1",
    boot_id="boot",
    seq=1,
    camera="top",
    frame_id="f1",
    part_id=None,
    trigger_id=None,
    verdict=Verdict.PASS,
    reason=Reason.OK,
    score=0.25,
    threshold=1.0,
    regions=(),
    captured_utc_ns=1,
    received_utc_ns=2,
    published_utc_ns=3,
    deadline_ms=2000,
)


@pytest.fixture
def make() -> Callable[..., Result]:
    """Makes the result of a sequence number: a PASS of camera top, but for what is given."""

    def make_result(seq: int, **changes: Any) -> Result:
        return dataclasses.replace(RESULT, seq=seq, **changes)

    return make_result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Below folders that are not there yet."""
    return tmp_path / "state" / "line1" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = Journal(path)
    yield made
    made.close()
