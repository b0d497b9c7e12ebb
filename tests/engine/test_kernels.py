"""The compiler's cache: whole after a power cut, or gone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.engine.kernels import KernelCache

Open = Callable[[str], KernelCache]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inductor"
    (folder / "triton" / "0").mkdir(parents=True)
    (folder / "fx").write_bytes(b"graph")
    (folder / "triton" / "0" / "kernel.cubin").write_bytes(b"machine code")
    return folder


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Open:
    """The cache as a process sees it during one run of the machine."""

    def run(boot: str) -> KernelCache:
        (tmp_path / "boot_id").write_text(boot)
        return KernelCache(folder, tmp_path / "boot_id")

    return run


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_kernels_stay_when_they_are_as_they_were_put_on_record(
    start: Open, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start("monday").put_on_record()
    start("tuesday").clear_torn()
    assert list_files(folder) == ["fx", "kernel.cubin"]
    assert caplog.messages == []


@pytest.mark.parametrize("damage", ["cut", "zeros", "gone", "never on record"])
def test_all_kernels_go_when_one_is_not_as_it_was_and_the_machine_was_started_since(
    start: Open, folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    start("monday").put_on_record()
    kernel = folder / "triton" / "0" / "kernel.cubin"
    if damage == "cut":
        os.truncate(kernel, 3)
    elif damage == "zeros":
        kernel.write_bytes(bytes(len(b"machine code")))
    elif damage == "gone":
        kernel.unlink()
    else:
        (folder / "new").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        start("tuesday").clear_torn()
    assert list_files(folder) == []
    assert "compiled once more" in caplog.text


def test_kernels_of_before_there_was_a_record_go(start: Open, folder: Path) -> None:
    start("monday").clear_torn()
    assert not folder.exists()


def test_kernels_that_another_process_writes_stay_while_the_machine_runs(start: Open, folder: Path) -> None:
    start("monday").put_on_record()
    (folder / "being written").write_bytes(b"half")
    start("monday").clear_torn()
    assert list_files(folder) == ["being written", "fx", "kernel.cubin"]


def test_record_that_is_torn_counts_as_none(start: Open, folder: Path, tmp_path: Path) -> None:
    start("monday").put_on_record()
    (tmp_path / "inductor-sha256.json").write_bytes(b"[1, 2")
    start("tuesday").clear_torn()
    assert not folder.exists()


def test_check_is_made_once_a_run_of_the_machine(start: Open, folder: Path) -> None:
    start("monday").put_on_record()
    start("tuesday").clear_torn()
    (folder / "fx").write_bytes(b"written anew")
    start("tuesday").clear_torn()
    assert list_files(folder) == ["fx", "kernel.cubin"]


def test_nothing_happens_where_nothing_was_compiled_yet(tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("monday")
    KernelCache(tmp_path / "inductor", boot).clear_torn()
    assert [path.name for path in tmp_path.iterdir()] == ["boot_id"]


def test_each_start_of_a_process_compares_where_the_machines_starts_cannot_be_told(
    folder: Path, tmp_path: Path
) -> None:
    KernelCache(folder, tmp_path / "hidden").put_on_record()
    KernelCache(folder, tmp_path / "hidden").clear_torn()
    assert list_files(folder) == ["fx", "kernel.cubin"]
    (folder / "fx").write_bytes(b"")
    KernelCache(folder, tmp_path / "hidden").clear_torn()
    assert not folder.exists()
