"""Whole files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspector.errors import InspectorError
from inspector.files import write_whole


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
