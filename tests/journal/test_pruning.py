"""The oldest results go, by age and by size, and what stays can still be verified."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal.reader import read_results, select_rows
from inspector.journal.verification import verify
from inspector.journal.writer import Closing, Journal
from inspector.types import Result

Make = Callable[..., Result]


def rows(path: Path) -> list[int]:
    return [row.n for row in select_rows(path, with_amended=True)]


def test_rows_published_before_go_when_they_are_the_oldest(make: Make, journal: Journal, path: Path) -> None:
    # The clock ran ahead at seq 4: what was written after that row stays with it.
    journal.append([make(seq, published_utc_ns=ns) for seq, ns in enumerate((10, 20, 30, 99, 40, 100), 1)])
    assert journal.prune(before_utc_ns=10, max_bytes=None) == 0
    assert journal.prune(before_utc_ns=30, max_bytes=None) == 2
    assert rows(path) == [3, 4, 5, 6]
    assert journal.prune(before_utc_ns=50, max_bytes=None) == 1
    assert journal.prune(before_utc_ns=50, max_bytes=None) == 0
    assert rows(path) == [4, 5, 6]
    assert verify(path).faults == ()
    journal.append([make(7)])
    assert verify(path).faults == ()


def test_at_most_the_limit_goes_when_more_is_too_old(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(seq) for seq in range(1, 11)])
    counts = [journal.prune(before_utc_ns=2**62, max_bytes=None, limit=4) for _ in range(4)]
    assert counts == [4, 4, 2, 0]
    assert rows(path) == []
    assert verify(path).faults == ()


def test_file_shrinks_below_its_limit_when_it_is_too_large(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(seq, message="x" * 500) for seq in range(1, 3001)])
    pruned = 0
    for _ in range(20):
        pruned += journal.prune(before_utc_ns=None, max_bytes=1_000_000, limit=500)
    assert 1500 < pruned < 2500
    assert rows(path) == list(range(pruned + 1, 3001))
    assert verify(path).faults == ()
    journal.close()
    assert 800_000 < path.stat().st_size < 1_100_000


def test_nothing_goes_when_nothing_is_too_old_or_too_large(make: Make, journal: Journal, path: Path) -> None:
    assert journal.prune(before_utc_ns=2**62, max_bytes=1) == 0  # nothing there
    journal.append([make(1), make(2)])
    assert journal.prune(before_utc_ns=None, max_bytes=None) == 0
    assert journal.prune(before_utc_ns=3, max_bytes=1_000_000) == 0  # published at 3, not before
    assert rows(path) == [1, 2]


def test_seqs_go_on_when_all_results_of_a_camera_were_pruned(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(9, camera="side"), make(7), make(8)])
    journal.prune(before_utc_ns=None, max_bytes=1, limit=1)
    assert rows(path) == [2, 3]
    journal.prune(before_utc_ns=None, max_bytes=1)
    journal.close()
    again = Journal(path)
    assert again.last_seqs() == {"side": 9, "top": 8}
    assert again.last_results() == {}
    again.append([make(9)])
    assert again.last_seqs() == {"side": 9, "top": 9}
    again.close()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_result_stays_final_when_the_row_it_amends_was_pruned(
    make: Make, journal: Journal, path: Path, limit: int
) -> None:
    journal.write([], [Closing(None, make(1)), Closing(None, make(3)), Closing(None, make(2))])
    journal.write([], [Closing(None, make(1, message="late"), amends=True)])
    journal.prune(before_utc_ns=None, max_bytes=1, limit=limit)
    assert read_results(path, "top", 1)[0]["message"] == "late"
    journal.write([], [Closing(None, make(1, message="later"), amends=True)])
    assert read_results(path, "top", 1)[0]["message"] == "later"
    assert verify(path).faults == ()  # nor is seq 2 or 3 one that is missing


def test_seqs_pruned_out_of_order_are_neither_given_again_nor_missing(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(seq) for seq in (1, 5, 2, 3, 4, 6)])  # 2 to 4 were recorded late
    journal.prune(before_utc_ns=None, max_bytes=1, limit=2)
    assert verify(path).faults == ()  # 5 is pruned, not missing
    journal.prune(before_utc_ns=None, max_bytes=1, limit=3)
    journal.prune(before_utc_ns=None, max_bytes=1, limit=1)
    assert journal.last_seqs() == {"top": 6}
    journal.append([make(9), make(8)])
    for _ in range(2):
        journal.prune(before_utc_ns=None, max_bytes=1, limit=1)
    assert journal.last_seqs() == {"top": 9}


def test_nothing_goes_and_the_row_is_named_when_one_was_deleted_by_hand(
    make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(seq) for seq in range(1, 11)])
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM results WHERE n = 4")
    with pytest.raises(JournalError, match="row 4 of results is missing"):
        journal.prune(before_utc_ns=2**62, max_bytes=None, limit=4)
    assert rows(path) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
