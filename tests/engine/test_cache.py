"""Compiled artefacts on disk: whole, of this key, and no burden where they cannot be kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.engine import cache
from inspector.engine.cache import compute_key, fetch, find_user_cache

DAY_S = 24 * 3600


class Maker:
    """Writes two files, and counts how often."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, folder: Path) -> None:
        assert list(folder.iterdir()) == []
        self.runs += 1
        (folder / "network.xml").write_text(f"made {self.runs}")
        (folder / "network.bin").write_bytes(b"weights")


@pytest.fixture
def make() -> Maker:
    return Maker()


def test_artefacts_are_made_once_when_fetched_again(tmp_path: Path, make: Maker) -> None:
    root = tmp_path / "not yet" / "there"
    files = fetch(root, "key", make)
    assert files == {"network.bin": b"weights", "network.xml": b"made 1"}
    assert fetch(root, "key", make) == files
    assert make.runs == 1
    assert [path.name for path in root.iterdir()] == ["key"]


def alter(folder: Path) -> None:
    (folder / "network.bin").write_bytes(b"weighty")


def lose(folder: Path) -> None:
    (folder / "network.xml").unlink()


def tear(folder: Path) -> None:
    (folder / "sha256.json").write_text('{"network.xml": "12')


def garble(folder: Path) -> None:
    (folder / "sha256.json").write_bytes(b"\xff\xfe\x00")


def empty(folder: Path) -> None:
    (folder / "sha256.json").write_text("{}")


def replace(folder: Path) -> None:
    (folder / "sha256.json").write_text("[]")


@pytest.mark.parametrize("damage", [alter, lose, tear, garble, empty, replace])
def test_artefacts_are_made_anew_with_a_warning_when_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Maker, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "key"
    assert fetch(tmp_path, "key", make)
    damage(folder)
    assert fetch(tmp_path, "key", make) == {"network.bin": b"weights", "network.xml": b"made 2"}
    assert make.runs == 2
    assert (folder / "network.xml").read_text() == "made 2"
    assert (folder / "network.bin").read_bytes() == b"weights"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "created again" in record.getMessage()
    assert str(folder) in record.getMessage()
    assert fetch(tmp_path, "key", make)
    assert make.runs == 2


def test_artefacts_are_used_when_they_cannot_be_marked_as_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fetch(tmp_path, "key", make)

    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache.os, "utime", refuse)
    assert fetch(tmp_path, "key", make) == files
    assert make.runs == 1
    assert not caplog.records


def test_artefacts_stay_when_another_process_made_them_meanwhile(tmp_path: Path, make: Maker) -> None:
    def make_slowly(new: Path) -> None:
        assert fetch(tmp_path, "key", make)  # the other, that loads them from now on
        theirs.append((folder / "network.bin").stat().st_ino)
        make(new)

    folder = tmp_path / "key"
    theirs: list[int] = []
    assert fetch(tmp_path, "key", make_slowly)
    assert [(folder / "network.bin").stat().st_ino] == theirs
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_artefacts_are_made_anew_when_the_manifest_was_never_written(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "network.xml").write_text("half")
    files = fetch(tmp_path, "key", make)
    assert files
    assert files["network.xml"] == b"made 1"


def test_nothing_is_kept_with_a_warning_when_the_cache_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Maker
) -> None:
    (tmp_path / "cache").write_text("a file in the folder's place")
    assert fetch(tmp_path / "cache", "key", make) is None
    assert make.runs == 0
    assert "cannot be stored, the next start will compile again" in caplog.text


def test_nothing_is_kept_with_a_warning_when_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    assert fetch(tmp_path, "key", make) is None
    assert "No space left on device" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_making_fails(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("cannot be converted")

    with pytest.raises(RuntimeError, match="cannot be converted"):
        fetch(tmp_path, "key", make)
    assert list(tmp_path.iterdir()) == []


def test_folders_differ_when_keys_do(tmp_path: Path, make: Maker) -> None:
    assert fetch(tmp_path, "one", make) != fetch(tmp_path, "other", make)
    assert make.runs == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_folders_are_dropped_when_unused_for_30_days(tmp_path: Path, make: Maker) -> None:
    now = time.time()
    days_by_name = {"unused": 31, "used": 31, "young": 29}
    for name in days_by_name:
        fetch(tmp_path, name, make)
    for name, days in days_by_name.items():
        os.utime(tmp_path / name, (now - days * DAY_S, now - days * DAY_S))
    fetch(tmp_path, "used", make)  # which counts as use
    assert make.runs == 3
    fetch(tmp_path, "new", make)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "used", "young"]


def test_one_folder_is_dropped_for_each_that_is_made_when_the_clock_is_years_ahead(
    tmp_path: Path, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for number in range(4):
        fetch(tmp_path, f"{number}", make)
        os.utime(tmp_path / f"{number}", (now - number, now - number))
    monkeypatch.setattr(cache.time, "time", lambda: now + 700 * DAY_S)
    fetch(tmp_path, "new", make)
    os.utime(tmp_path / "new", (now + 700 * DAY_S, now + 700 * DAY_S))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "new"]


def test_kernels_of_the_compiler_stay_when_they_lie_there_too(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "inductor").mkdir()
    os.utime(tmp_path / "inductor", (0, 0))
    fetch(tmp_path, "new", make)
    assert (tmp_path / "inductor").is_dir()


def test_key_is_another_when_a_fact_is(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"weights": "abc", "sigma": 4.0}
    key = compute_key(facts)
    assert compute_key(dict(reversed(facts.items()))) == key
    assert len({key, compute_key(facts | {"sigma": 4.5}), compute_key(facts | {"more": None})}) == 3
    monkeypatch.setattr(cache.platform, "machine", lambda: "riscv64")
    assert compute_key(facts) != key


def test_user_cache_follows_the_environment_when_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_user_cache() == tmp_path / "inspector"
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        monkeypatch.setenv("HOME", "/home/someone")
        assert find_user_cache() == Path("/home/someone/.cache/inspector")


def test_manifest_names_every_file_when_written(tmp_path: Path, make: Maker) -> None:
    assert fetch(tmp_path, "key", make)
    assert sorted(json.loads((tmp_path / "key" / "sha256.json").read_text())) == ["network.bin", "network.xml"]
