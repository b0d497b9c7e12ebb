"""Whole files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspector.errors import BadFrameError, InspectorError, UnsettledFileError
from inspector.files import Stamp, read_stamp, read_whole, write_whole


def test_file_stays_as_it_was_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"before")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(InspectorError, match=r"recipe\.yaml: cannot be written: .*No space left"):
            write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"


def test_file_has_the_mode_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "list", b"public", mode=0o644)
        write_whole(tmp_path / "key", b"secret", mode=0o600)
        write_whole(tmp_path / "plain", b"")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"list": 0o644, "key": 0o600, "plain": 0o600}


def test_error_names_the_file_when_its_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InspectorError, match=r"file/list: cannot be written: .*Not a directory"):
        write_whole(tmp_path / "file" / "list", b"")


# ---------------------------------------------------------------- reading


def restore_times(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(path: Path) -> None:
    """Other content of the same size, with the time the file had before."""
    before = path.stat()
    path.write_bytes(b"b" * before.st_size)
    restore_times(path, before)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    before, new = path.stat(), path.with_name("new")
    new.write_bytes(b"b" * before.st_size)
    restore_times(new, before)
    new.replace(path)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = {"overwritten": overwrite, "grown": append, "replaced": replace, "cut": lambda path: os.truncate(path, 5)}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file last changed long ago, as a clock with coarse ticks counts."""
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1000)
    seen = path.stat().st_ctime_ns
    while read_stamp(path).changed_ns - seen < 50_000_000:
        path.chmod(0o600)
    return path


def test_file_is_read_when_nothing_happens_to_it(old: Path) -> None:
    (old.parent / "link").symlink_to(old)
    (old.parent / "empty").touch()
    assert read_whole(old, read_stamp(old), may_have_holes=False) == b"a" * 1000
    assert read_whole(old.parent / "link") == b"a" * 1000
    assert read_whole(old.parent / "empty", may_have_holes=False) == b""


@pytest.mark.parametrize("looks", [1, 2], ids=["before it is opened", "before it is read"])
@pytest.mark.parametrize("change", CHANGES)
def test_file_is_refused_when_it_changes(old: Path, monkeypatch: pytest.MonkeyPatch, looks: int, change: str) -> None:
    looked: list[Stamp] = []

    def look_and_change(path: Path | int) -> Stamp:
        looked.append(read_stamp(path))
        if len(looked) == looks:
            CHANGES[change](old)
        return looked[-1]

    monkeypatch.setattr("inspector.files.read_stamp", look_and_change)
    with pytest.raises(UnsettledFileError, match="must not change while it is read"):
        read_whole(old)


def test_file_is_refused_when_its_link_leads_elsewhere_meanwhile(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, other = old.with_name("link"), old.with_name("other")
    link.symlink_to(old)
    other.write_bytes(b"b" * 1000)
    real_open = os.open

    def open_and_turn(path: Path, *rest: Any) -> int:
        descriptor = real_open(path, *rest)
        link.unlink()
        link.symlink_to(other)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_turn)
    with pytest.raises(UnsettledFileError):
        read_whole(link)
    monkeypatch.undo()
    assert read_whole(link) == b"b" * 1000


def test_file_is_refused_when_it_is_not_as_it_was_seen(old: Path) -> None:
    seen = read_stamp(old)
    overwrite(old)
    with pytest.raises(UnsettledFileError):
        read_whole(old, seen)


def test_pipe_is_not_waited_for_when_it_takes_the_place_of_a_file(old: Path) -> None:
    seen = read_stamp(old)
    replace_by_pipe(old)
    with pytest.raises(UnsettledFileError):
        read_whole(old, seen)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkfifo, "pipe"), (os.mkdir, "directory"), (lambda path: path.symlink_to("/dev/full"), "device")],
)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(BadFrameError, match=f"must be a regular file, got a {kind}"):
        read_whole(tmp_path / "it")


def test_hole_is_refused_where_none_may_be(old: Path) -> None:
    os.truncate(old, 100_000)
    assert len(read_whole(old)) == 100_000
    with pytest.raises(BadFrameError, match=r"must be complete, but byte \d+ of 100000"):
        read_whole(old, may_have_holes=False)


def test_huge_file_is_refused_unread(old: Path) -> None:
    os.truncate(old, 2**30 + 1)
    with pytest.raises(BadFrameError, match=f"must be at most {2**30} bytes, got {2**30 + 1}"):
        read_whole(old)
