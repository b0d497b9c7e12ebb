"""Folder, room and journal are judged as the daemon will find them."""

from __future__ import annotations

import os
import sqlite3
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inspector.cli.check.disk import check_disk
from inspector.cli.check.finding import Finding
from inspector.config import Station
from inspector.journal.mark import Mark, write_mark
from inspector.journal.writer import Journal

Usage = namedtuple("Usage", "total used free")
GIB = 1024**3


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk of 100 GiB, 50 of them free."""
    disk = {"free": 50 * GIB}
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(100 * GIB, 100 * GIB - disk["free"], disk["free"]))
    return disk


def check(state_dir: Path, **changes: Any) -> dict[str, Finding]:
    station = {"schema": 1, "station": "press", "state_dir": state_dir, "cameras": {"top": {}}} | changes
    return {finding.what: finding for finding in check_disk(Station.model_validate(station))}


def test_all_is_well_and_nothing_is_made_when_there_is_nothing_yet(tmp_path: Path) -> None:
    found = check(tmp_path / "state")
    assert {what: finding.problem for what, finding in found.items()} == {
        "state_dir": None, "evidence.max_bytes": None, "journal": None,
    }  # fmt: skip
    assert "none yet" in found["journal"].detail
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_folders_place_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    (finding,) = check(tmp_path / "state").values()
    assert (finding.what, finding.result) == ("state_dir", "FAIL")
    assert "writable" in finding.fix


def test_folder_that_cannot_be_written_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = check(tmp_path).values()
    assert finding.problem == f"{tmp_path}: must be a folder this user can write"


def test_folder_that_this_user_may_not_look_into_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path) == str(tmp_path / "state" / "press"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = check(tmp_path / "state").values()
    assert finding.problem == f"{tmp_path / 'state'}: must be a folder this user can write"


def test_too_little_room_is_a_fault_and_limits_that_do_not_fit_are_a_warning(
    tmp_path: Path, disk: dict[str, int]
) -> None:
    disk["free"] = 20 * GIB
    found = check(tmp_path)
    assert found["state_dir"].result == "ok"
    assert found["evidence.max_bytes"].result == "WARN"
    assert "up to 30.0 GiB may be stored, but above min_free only 19.0 GiB fit" in found["evidence.max_bytes"].problem
    small = {"evidence": {"max_bytes": "10GiB"}, "journal": {"max_bytes": "9GiB"}}
    assert check(tmp_path, **small)["evidence.max_bytes"].result == "ok"
    assert check(tmp_path, evidence={"frames": "none"})["evidence.max_bytes"].result == "ok"
    disk["free"] = GIB // 2
    found = check(tmp_path)
    assert found["state_dir"].result == "FAIL"
    assert "must have at least evidence.min_free (1.0 GiB) of free space, has 512 MiB" in found["state_dir"].problem


def test_what_is_kept_already_counts_as_room(tmp_path: Path, disk: dict[str, int]) -> None:
    disk["free"] = GIB
    kept = tmp_path / "press" / "evidence" / "top"
    kept.mkdir(parents=True)
    (kept / "a.png").write_bytes(bytes(2048))
    limits = {"evidence": {"max_bytes": 1024}, "journal": {"max_bytes": 1024}}
    assert check(tmp_path, **limits)["evidence.max_bytes"].result == "ok"
    (kept / "a.png").write_bytes(bytes(1024))
    assert check(tmp_path, **limits)["evidence.max_bytes"].result == "WARN"


def test_files_may_go_while_they_are_counted(
    tmp_path: Path, disk: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk["free"] = GIB
    kept = tmp_path / "press" / "evidence"
    kept.mkdir(parents=True)
    (kept / "gone.png").touch()
    stat = Path.stat

    def look_and_remove(path: Path, **options: Any) -> os.stat_result:
        try:
            return stat(path, **options)
        finally:
            if path.name == "gone.png":
                path.unlink(missing_ok=True)

    monkeypatch.setattr(Path, "stat", look_and_remove)
    assert check(tmp_path)["evidence.max_bytes"].result == "WARN"
    assert not (kept / "gone.png").exists()


@pytest.mark.parametrize(
    ("script", "result", "words"),
    [
        ("", "ok", "version 3, readable"),
        (
            "PRAGMA user_version = 1; DELETE FROM meta WHERE name LIKE 'events%'",
            "ok",
            "the next start upgrades it to version 3",
        ),
        ("PRAGMA user_version = 9", "FAIL", "must be at most 3, got 9: a newer version of inspector wrote it; upgrade"),
        ("PRAGMA application_id = 1", "FAIL", "belongs to another program"),
    ],
)
def test_journal_is_one_that_this_program_understands_or_it_is_said_why_not(
    tmp_path: Path, script: str, result: str, words: str
) -> None:
    path = tmp_path / "press" / "journal.sqlite"
    Journal(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    before = path.read_bytes()
    finding = check(tmp_path)["journal"]
    assert finding.result == result
    assert words in (finding.problem or finding.detail)
    assert path.read_bytes() == before


def test_journal_that_is_older_than_its_mark_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "press" / "journal.sqlite"
    Journal(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE meta SET n = 4 WHERE name IN ('head', 'anchor')")
    write_mark(path, Mark(9, bytes(32), {"top": 7}))
    finding = check(tmp_path)["journal"]
    assert finding.result == "FAIL"
    assert f"{path}: it is older than its mark: its last row is 4, but 9 had been recorded" in (finding.problem or "")
    assert "journal-restore" in finding.fix


def test_journal_that_is_gone_is_a_warning(tmp_path: Path) -> None:
    write_mark(tmp_path / "press" / "journal.sqlite", Mark(9, bytes(32), {"top": 7}))
    finding = check(tmp_path)["journal"]
    assert finding.result == "WARN"
    assert "must have 9 rows, but the file is missing" in (finding.problem or "")


def test_journal_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "press").mkdir()
    (tmp_path / "press" / "journal.sqlite").write_bytes(b"nothing of the kind" * 100)
    assert "file is not a database" in (check(tmp_path)["journal"].problem or "")
