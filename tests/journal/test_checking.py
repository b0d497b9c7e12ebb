"""A damaged journal, or an older copy, is told before anything is judged with it, and left as it is."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from inspector.errors import JournalError
from inspector.journal import checking as module
from inspector.journal.checking import accept_journal, check_journal
from inspector.journal.mark import Mark, find_mark, read_mark, write_mark
from inspector.journal.verification import verify
from inspector.journal.writer import Journal
from inspector.transient import is_transient
from inspector.types import Result

Make = Callable[..., Result]

# Each result a commit of its own, as on a slow line; then a kill, which leaves the log.
KILLED = """
import os, sys
from pathlib import Path
from inspector.journal.writer import Journal
from inspector.types import Reason, Result, Verdict

journal = Journal(Path(sys.argv[1]))
journal._connection.execute("PRAGMA synchronous=OFF")
last = journal.last_seqs().get("top", 0)
for seq in range(last + 1, last + 1 + int(sys.argv[2])):
    journal.append([Result("line1", "boot", seq, "top", f"f{seq}", None, None, Verdict.PASS, Reason.OK, 0.25, 1.0, (),
                           1, 2, 3, 2000)])
journal.write_mark({"top": seq})
os._exit(9)
"""


def run_and_kill(path: Path, count: int) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path, str(count)], check=False, timeout=120)


@pytest.fixture
def backup(make: Make, path: Path) -> Path:
    """A copy of a journal of top 1 to 50, which has its mark."""
    journal = Journal(path)
    journal.append([make(seq) for seq in range(1, 51)])
    journal.write_mark({"top": 50})
    journal.close()
    return Path(shutil.copy(path, path.with_name("backup")))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@pytest.mark.parametrize("quick_bytes", [module._MAX_QUICK_BYTES, 0], ids=["read as a whole", "too large for that"])
def test_older_database_beside_a_later_log_is_refused_and_left_as_it_is(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch, quick_bytes: int
) -> None:
    monkeypatch.setattr(module, "_MAX_QUICK_BYTES", quick_bytes)
    run_and_kill(path, 1200)
    shutil.copyfile(backup, path)
    assert path.with_name("journal.sqlite-wal").stat().st_size > 4_000_000
    before = content(path.parent)
    with pytest.raises(JournalError, match=r"cannot be opened: .*; see docs/operator/journal-restore\.md") as error:
        Journal(path)
    assert content(path.parent) == before
    assert not is_transient(error.value)


def test_older_database_is_refused_when_it_was_put_back_alone(backup: Path, path: Path) -> None:
    run_and_kill(path, 10)
    for file in path.parent.glob("journal.sqlite*"):
        file.unlink()
    shutil.copyfile(backup, path)
    message = (
        r"cannot be opened: it is older than its mark: its last row is 50, but 60 had been "
        r"recorded; see docs"
    )
    with pytest.raises(JournalError, match=message):
        Journal(path)
    assert message.partition(": ")[2].removesuffix("; see docs") in "".join(verify(path).faults)


def test_copy_that_is_as_good_as_new_is_taken(backup: Path, path: Path) -> None:
    run_and_kill(path, 20)  # all of it is in the log still
    shutil.copyfile(backup, path)
    Journal(path).close()
    assert verify(path).rows == 70


def test_journal_of_another_station_is_refused(make: Make, backup: Path, path: Path) -> None:
    path.unlink()
    other = Journal(path.with_name("other.sqlite"))
    other.append([make(seq, frame_id="x") for seq in range(1, 61)])
    other.close()
    path.with_name("other.sqlite").rename(path)
    with pytest.raises(JournalError, match="not the journal that its mark belongs to: row 50 differs"):
        Journal(path)


@pytest.mark.parametrize("limit", [20, 50, 60, 70])
def test_journal_is_taken_when_the_row_of_its_mark_was_pruned(make: Make, backup: Path, path: Path, limit: int) -> None:
    journal = Journal(path)
    journal.append([make(seq) for seq in range(51, 71)])
    journal.prune(before_utc_ns=2**62, max_bytes=None, limit=limit)
    journal.close()
    Journal(path).close()
    assert verify(path).faults == ()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("DELETE FROM results WHERE n = 30", "results 1 to 50 must be 50 rows, found 49"),
        ("DELETE FROM results WHERE n = 50", "results 1 to 50 must be 50 rows, found 49"),
        (
            "UPDATE results SET hash = zeroblob(32) WHERE n = 50",
            "the last row of results, 50, differs from the one that was",
        ),
        ("UPDATE meta SET n = 3 WHERE name = 'events_head'", "events 1 to 3 must be 3 rows, found 0"),
    ],
)
def test_journal_is_refused_when_rows_are_missing_at_its_end(backup: Path, path: Path, script: str, words: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    with pytest.raises(JournalError, match=f"cannot be opened: it is damaged: {words}"):
        Journal(path)


def test_altered_row_stops_no_line(backup: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE results SET json = replace(json, 'PASS', 'FAIL') WHERE n = 30")
    Journal(path).close()
    assert verify(path).faults[0].startswith("row 30 (top 30): altered")


def test_page_that_is_damaged_is_found_at_the_start(backup: Path, path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff" * 4096)
    with pytest.raises(JournalError, match=r"cannot be opened: .*; see docs/operator/journal-restore\.md"):
        Journal(path)


def test_page_that_the_disk_does_not_give_is_no_damage(path: Path, journal: Journal) -> None:
    class Unreadable(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if "quick_check" in sql:
                sql = "SELECT 'Page 5: unable to get the page. error code=266'"
            return super().execute(sql, *values)

    with closing(sqlite3.connect(path, factory=Unreadable)) as connection:
        with pytest.raises(OSError, match="unable to get the page") as error:
            module._find_damage(connection, 0, 0)
        assert is_transient(error.value)


def test_nothing_is_wrong_with_a_journal_that_is_not_there(path: Path) -> None:
    check_journal(path, Mark(9, bytes(32), {}))
    assert not path.parent.exists()


# ---------------------------------------------------------------- accepted by a person


def test_older_copy_is_taken_once_it_was_accepted(make: Make, backup: Path, path: Path) -> None:
    journal = Journal(path)
    journal.append([make(seq) for seq in range(51, 61)])
    journal.write_mark({"top": 60})
    journal.close()
    shutil.copyfile(backup, path)
    assert accept_journal(path, "ann") == (50, 60)
    mark = read_mark(path)
    assert mark is not None
    assert (mark.head_n, dict(mark.seqs), mark.accepted_by) == (50, {"top": 60}, "ann")
    journal = Journal(path)
    (event,) = journal.skip_lost("boot")
    assert (event.details["from_seq"], event.details["reason"]) == (51, "an older copy, accepted by ann")
    journal.append([make(journal.last_seqs()["top"] + 1)])
    journal.close()
    assert verify(path).faults == ()


def test_there_is_nothing_to_accept_when_the_journal_is_the_one_of_its_mark(backup: Path, path: Path) -> None:
    before = find_mark(path).read_bytes()
    assert accept_journal(path, "ann") is None
    assert find_mark(path).read_bytes() == before
    find_mark(path).unlink()
    assert accept_journal(path, "ann") is None
    assert not find_mark(path).exists()


def test_damaged_journal_is_not_accepted(backup: Path, path: Path) -> None:
    write_mark(path, Mark(60, bytes(32), {"top": 60}))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DELETE FROM results WHERE n = 30")
    with pytest.raises(JournalError, match="it is damaged"):
        accept_journal(path, "ann")
    assert read_mark(path) == Mark(60, bytes(32), {"top": 60})
