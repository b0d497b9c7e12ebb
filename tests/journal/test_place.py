"""What is put on record goes where the journal's path leads, or it is not said to be on record."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import JournalError
from inspector.journal.place import Place
from inspector.journal.reader import read_results
from inspector.journal.verification import verify
from inspector.journal.writer import Closing, Journal, OpenFrame
from inspector.types import Result

Make = Callable[..., Result]
Break = Callable[[Path], None]

OPEN = OpenFrame(7, "top", "f7", None, None, 1, 2, 3, False)
GONE = "cannot be written: its files were deleted, moved or replaced while the station was running"


READER = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
print(*connection.execute("SELECT n FROM meta WHERE name = 'head'").fetchone(), flush=True)
sys.stdin.read()
"""


def seqs(path: Path) -> list[int]:
    return [kept["seq"] for kept in read_results(path, "top", 1)]


def with_log(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]


def delete(path: Path) -> None:
    for file in with_log(path):
        file.unlink()


def replace(path: Path) -> None:
    delete(path)
    Journal(path).close()


def replace_in_one_piece(path: Path) -> None:
    new = path.with_name("new.sqlite")
    Journal(new).close()
    new.replace(path)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    "vanish", [delete, replace, replace_in_one_piece, move_folder, delete_folder], ids=lambda v: v.__name__
)
def test_nothing_is_put_on_record_when_the_files_are_not_where_they_were(
    make: Make, journal: Journal, path: Path, vanish: Break
) -> None:
    journal.append([make(1)])
    vanish(path)
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(2)])
    with pytest.raises(JournalError, match=r"journal-restore"):
        journal.check_place()
    with pytest.raises(JournalError, match=GONE):
        journal.prune(before_utc_ns=None, max_bytes=1)
    assert journal.last_seqs() == {"top": 1}  # the open file is as it was, and can be rescued


def test_files_that_took_the_place_of_others_are_left_alone(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1)])
    delete(path)
    other = Journal(path)
    other.append([make(5)])
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(2)])
    journal.write_mark({"top": 2})
    journal.close()
    assert [file.exists() for file in with_log(path)] == [True] * 3
    other.append([make(6)])
    other.close()
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]  # no mark: it would be of another
    assert seqs(path) == [5, 6]


def test_nothing_is_put_on_record_when_a_link_leads_elsewhere(make: Make, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "state").symlink_to("here")
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    journal.append([make(1)])
    (tmp_path / "state").unlink()
    (tmp_path / "state").symlink_to("there")
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(2)])
    journal.close()


@pytest.fixture
def mounted(path: Path) -> Iterator[None]:
    """Mounts an empty disk over the station's folder when the journal is open."""
    path.parent.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a disk")
    yield
    subprocess.run(["umount", "-l", path.parent], check=False)


def test_nothing_is_put_on_record_when_another_disk_is_mounted_over_the_folder(
    mounted: None, make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(1)])
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", path.parent]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a disk")
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(2)])
    subprocess.run(["umount", path.parent], check=True)
    journal.append([make(2)])
    assert seqs(path) == [1, 2]


def test_journal_goes_on_when_its_files_are_back(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1)])
    away = path.parent.with_name("away")
    path.parent.rename(away)
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(2)])
    away.rename(path.parent)
    journal.check_place()
    journal.append([make(3)])
    assert seqs(path) == [1, 3]
    assert verify(path).faults == ("camera top: 1 sequence number(s) missing, the first is 2",)


def test_commit_counts_as_failed_when_the_files_go_while_it_is_made_and_can_be_repeated(
    make: Make, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([make(1)])
    away, find_change = path.parent.with_name("away"), Place.find_change

    def move_after_commit(self: Place, *, wrote: bool = False) -> Any:
        if wrote:
            path.parent.rename(away)
        return find_change(self, wrote=wrote)

    monkeypatch.setattr(Place, "find_change", move_after_commit)
    with pytest.raises(JournalError, match=GONE):
        journal.write([OPEN], [Closing(None, make(2))])
    monkeypatch.undo()
    away.rename(path.parent)
    late = make(2, message="answered without")
    journal.write([dataclasses.replace(OPEN)], [Closing(None, late, amends=True)])
    assert journal.open_frames() == [OPEN]
    assert [kept["message"] for kept in read_results(path, "top", 1)] == [None, "answered without"]
    assert verify(path).faults == ()


@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm")], ids="".join)
def test_nothing_is_lost_and_the_log_is_made_anew_when_it_was_deleted(
    make: Make, journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, ends: tuple[str, ...]
) -> None:
    journal.append([make(1), make(2)])
    for end in ends:
        path.with_name(path.name + end).unlink()
    journal.append([make(3)])
    assert "its log file was deleted and is created again; nothing is lost" in caplog.text
    assert [file.exists() for file in with_log(path)] == [True] * 3
    assert seqs(path) == [1, 2, 3]
    copy = path.with_name("as-after-a-power-cut.sqlite")
    for file in with_log(path)[:2]:
        shutil.copy(file, file.with_name(file.name.replace(path.name, copy.name)))
    assert seqs(copy) == [1, 2, 3]


def test_nothing_is_lost_and_the_log_is_made_anew_when_an_older_one_was_put_in_its_place(
    make: Make, journal: Journal, path: Path
) -> None:
    log = path.with_name(path.name + "-wal")
    journal.append([make(1)])
    older = Path(shutil.copy(log, log.with_name("older")))
    journal.append([make(2), make(3)])
    older.replace(log)
    journal.append([make(4)])
    assert seqs(path) == [1, 2, 3, 4]
    assert verify(path).faults == ()


def test_nothing_is_put_on_record_when_somebody_uses_an_older_log_that_was_put_in_its_place(
    make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(1)])
    for file in with_log(path)[1:]:
        shutil.copy(file, file.with_name(f"older-{file.name}"))
    journal.append([make(2), make(3)])
    for file in with_log(path)[1:]:
        file.with_name(f"older-{file.name}").replace(file)
    with subprocess.Popen(
        [sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n"
        for _ in range(3):
            with pytest.raises(JournalError, match=r"cannot be written: "):
                journal.append([make(4)])
        reader.communicate("")


def test_log_is_made_anew_later_when_somebody_reads(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1)])
    journal._connection.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM results").fetchone()
        journal.append([make(2)])
        path.with_name(path.name + "-wal").unlink()
        with pytest.raises(JournalError, match="cannot be created again while another program reads"):
            journal.append([make(3)])
    journal.append([make(3)])
    assert seqs(path) == [1, 2, 3]


def test_nothing_is_put_on_record_when_an_older_copy_is_written_over_the_database(
    make: Make, journal: Journal, path: Path
) -> None:
    backup = path.with_name("backup")
    journal.append([make(1)])
    with closing(sqlite3.connect(backup)) as copy:
        journal._connection.backup(copy)
    for first in range(2, 2002, 100):  # more than the log holds
        journal.append([make(seq) for seq in range(first, first + 100)])
        journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        journal._file._place.find_change(wrote=True)
    inode = path.stat().st_ino
    shutil.copyfile(backup, path)
    assert path.stat().st_ino == inode
    with pytest.raises(JournalError, match=r"cannot be written: .*journal-restore"):
        journal.append([make(3000)])


def test_nothing_is_put_on_record_when_the_database_is_emptied(make: Make, journal: Journal, path: Path) -> None:
    journal.append([make(1)])
    log = path.with_name(path.name + "-wal").read_bytes()
    os.truncate(path, 0)
    with pytest.raises(JournalError, match=r"cannot be written: it is empty, but its log file is not; see [^;]*$"):
        journal.append([make(2)])
    assert path.with_name(path.name + "-wal").read_bytes() == log


def test_journal_goes_on_when_another_program_only_touched_it(
    make: Make, journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.append([make(1)])
    os.utime(path)
    journal.append([make(2)])
    journal.append([make(3)])
    assert caplog.text.count("another program wrote to it; it is not damaged") == 1
    assert seqs(path) == [1, 2, 3]


def test_deleted_files_can_be_copied_and_put_back_while_the_station_has_them_open(
    make: Make, journal: Journal, path: Path
) -> None:
    journal.append([make(1), make(2)])
    delete_folder(path)
    with pytest.raises(JournalError, match=GONE):
        journal.append([make(3)])
    journal.write_mark({"top": 3})
    open_files = {str(each.readlink()): each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}
    for file in with_log(path)[:2]:  # as docs/operator/journal-restore.md says
        shutil.copyfile(open_files[f"{file} (deleted)"], file)
    journal.close()
    again = Journal(path)
    assert [event.details["from_seq"] for event in again.skip_lost("boot")] == [3]
    again.close()
    assert seqs(path) == [1, 2]
    assert verify(path).faults == ()
