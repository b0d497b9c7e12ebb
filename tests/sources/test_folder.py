"""Frames from files: each once, in order, whole; what cannot be read is answered, never skipped."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket as sockets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.errors import NotConnectedError, SourceExhaustedError
from inspector.files import read_stamp
from inspector.sources import folder as module
from inspector.sources.folder import FolderSettings, FolderSource
from inspector.types import FileVersion, Frame, PixelFormat


def png(value: int) -> bytes:
    """A grey picture of 2×3 pixels."""
    return cv2.imencode(".png", np.full((2, 3), value, np.uint8))[1].tobytes()


def write(folder: Path, **values: int) -> None:
    for name, value in values.items():
        (folder / f"{name}.png").write_bytes(png(value))


def once(folder: Path) -> FolderSource:
    source = FolderSource("top", folder, watch=False)
    source.connect()
    return source


def watch(folder: Path) -> FolderSource:
    """A watching source that has looked once."""
    source = FolderSource("top", folder, watch=True, poll_s=0.001)
    source.connect()
    return source


def look(source: FolderSource) -> None:
    """A read that finds nothing to take and so looks into the folder."""
    assert source.read(1.0) is None


def take(source: FolderSource) -> Frame:
    frame = source.read(1.0)
    assert frame is not None
    return frame


def described(frame: Frame) -> tuple[str, int]:
    assert frame.pixels is not None
    assert np.unique(frame.pixels).size == 1
    return frame.frame_id, int(frame.pixels.flat[0])


def test_files_come_in_the_order_of_their_names_when_read_once(tmp_path: Path) -> None:
    write(tmp_path, b=2, a10=10, c=3, a9=9)
    (tmp_path / "B.PNG").write_bytes(png(4))
    source = once(tmp_path)
    assert [described(take(source)) for _ in range(5)] == [
        ("B.PNG", 4), ("a10.png", 10), ("a9.png", 9), ("b.png", 2), ("c.png", 3),
    ]  # fmt: skip


def test_other_files_are_left_alone_when_they_are_no_images_or_hidden(tmp_path: Path) -> None:
    write(tmp_path, part=7)
    for name in ("notes.txt", "part.png.part", ".hidden.png", "png"):
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "older").mkdir()
    write(tmp_path / "older", deep=1)
    source = once(tmp_path)
    assert described(take(source)) == ("part.png", 7)
    with pytest.raises(SourceExhaustedError, match="all 1 files read"):
        source.read(0)


def test_frame_tells_all_about_itself_when_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(cv2.imencode(".png", np.full((2, 3), 40_000, np.uint16))[1].tobytes())
    source = FolderSource("top", tmp_path, watch=False, simulated=True)
    source.connect()
    before_utc_ns, before_ns = time.time_ns(), time.monotonic_ns()
    frame = take(source)
    after_utc_ns, after_ns = time.time_ns(), time.monotonic_ns()
    assert (frame.camera, frame.frame_id, frame.simulated, frame.error) == ("top", "deep.png", True, None)
    assert frame.pixel_format is PixelFormat.MONO16
    assert frame.pixels is not None
    assert frame.pixels.tolist() == [[40_000] * 3] * 2
    # Received before it was decoded: decoding counts against the deadline.
    assert before_utc_ns <= frame.received_utc_ns <= after_utc_ns
    assert before_ns <= frame.received_monotonic_ns <= after_ns - frame.decode_ms * 1e6 + 1
    assert frame.decode_ms > 0


def test_source_is_exhausted_again_and_again_when_all_files_were_read(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    source = once(tmp_path)
    take(source)
    take(source)
    write(tmp_path, late=3)
    for _ in range(2):
        with pytest.raises(SourceExhaustedError, match="all 2 files read"):
            source.read(0)


def test_source_is_exhausted_at_once_when_the_folder_is_empty(tmp_path: Path) -> None:
    with pytest.raises(SourceExhaustedError, match="all 0 files read"):
        once(tmp_path).read(0)


def test_files_are_not_listed_twice_when_connect_is_called_again(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    source = once(tmp_path)
    source.connect()
    assert described(take(source)) == ("a.png", 1)
    source.close()
    source.connect()
    assert described(take(source)) == ("b.png", 2)
    source.connect()
    with pytest.raises(SourceExhaustedError):
        source.read(0)


def test_unreadable_file_becomes_a_frame_with_an_error_and_the_next_still_comes(tmp_path: Path) -> None:
    write(tmp_path, a=1, z=26)
    (tmp_path / "b.png").write_bytes(png(2)[:-5])
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "d.png").mkdir()
    (tmp_path / "e.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "f.png").write_bytes(b"")
    source = once(tmp_path)
    assert described(take(source)) == ("a.png", 1)
    for name, why in [
        ("b.png", "its end is missing"),
        ("c.jpg", "must be JPEG, PNG, TIFF, WebP, BMP or PNM"),
        ("d.png", "must be a regular file, got a directory"),
        ("e.png", "No such file"),
        ("f.png", "got 0 bytes"),
    ]:
        frame = take(source)
        assert (frame.camera, frame.frame_id, frame.pixels) == ("top", name, None)
        assert (frame.error or "").startswith(f"{name}: ")
        assert why in (frame.error or "")
    assert described(take(source)) == ("z.png", 26)
    with pytest.raises(SourceExhaustedError):
        source.read(0)


def test_file_becomes_a_frame_with_an_error_unread_when_it_is_huge(tmp_path: Path) -> None:
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 2**42)  # no disk has it, and no memory would
    assert take(once(tmp_path)).error == f"huge.png: file: must be at most {2**30} bytes, got {2**42}"


def test_file_becomes_a_frame_with_an_error_when_there_is_no_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise MemoryError("cannot allocate 1 GiB")

    write(tmp_path, a=1)
    source = once(tmp_path)
    monkeypatch.setattr(module, "read_whole", fail)
    assert take(source).error == "a.png: cannot allocate 1 GiB"


def test_listed_file_becomes_a_frame_with_an_error_when_it_is_gone_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    source = once(tmp_path)
    (tmp_path / "a.png").unlink()
    frame = take(source)
    assert (frame.frame_id, frame.pixels) == ("a.png", None)
    assert "No such file" in (frame.error or "")
    assert described(take(source)) == ("b.png", 2)


def test_frame_id_is_text_that_can_be_stored_when_the_file_name_is_not_utf8(tmp_path: Path) -> None:
    whole = os.fsencode(tmp_path) + b"/m\xfcll.png"
    broken = os.fsencode(tmp_path) + b"/m\xfcll2.png"
    Path(os.fsdecode(whole)).write_bytes(png(5))
    Path(os.fsdecode(broken)).write_bytes(b"")
    write(tmp_path, schön=6)
    source = once(tmp_path)
    assert described(take(source)) == ("m\\xfcll.png", 5)
    frame = take(source)
    assert frame.frame_id == "m\\xfcll2.png"
    assert (frame.error or "").encode().startswith(b"m\\xfcll2.png: ")
    assert described(take(source)) == ("schön.png", 6)


def test_connect_fails_when_the_folder_is_missing_and_works_once_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    source = FolderSource("top", folder, watch=False)
    with pytest.raises(NotConnectedError, match=r"folder .*share does not exist"):
        source.connect()
    folder.mkdir()
    write(folder, a=1)
    source.connect()
    assert described(take(source)) == ("a.png", 1)


def test_connect_fails_when_a_network_drive_answers_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_stale(path: Any, **options: Any) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    source = FolderSource("top", tmp_path, watch=False)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", go_stale)
        with pytest.raises(NotConnectedError, match="does not exist"):
            source.connect()
    source.connect()


def test_connect_fails_when_the_folder_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, a=1)
    with pytest.raises(NotConnectedError):
        FolderSource("top", tmp_path / "a.png", watch=False).connect()


# ---------------------------------------------------------------- watching


def test_watched_file_is_taken_only_when_two_looks_agree(tmp_path: Path) -> None:
    write(tmp_path, b=2, a=1)
    source = watch(tmp_path)
    look(source)
    assert [described(take(source)), described(take(source))] == [("a.png", 1), ("b.png", 2)]


def test_growing_file_is_not_taken_until_it_has_settled(tmp_path: Path) -> None:
    write(tmp_path, small=1)
    data = cv2.imencode(".png", np.arange(3000, dtype=np.uint16).reshape(30, 100))[1].tobytes()
    growing = tmp_path / "growing.png"
    source = FolderSource("top", tmp_path, watch=True, poll_s=0.001)
    growing.write_bytes(data[:10])
    source.connect()
    growing.write_bytes(data[:500])
    look(source)
    growing.write_bytes(data[:900])
    assert described(take(source)) == ("small.png", 1)  # settled while the other grew
    look(source)
    growing.write_bytes(data)
    look(source)
    look(source)
    frame = take(source)
    assert (frame.frame_id, frame.error) == ("growing.png", None)
    assert frame.pixels is not None
    assert frame.pixels.ravel().tolist() == list(range(3000))
    look(source)


def test_file_made_full_size_at_once_is_not_taken_until_it_has_settled(tmp_path: Path) -> None:
    copied, data = tmp_path / "copied.png", png(9)
    copied.write_bytes(bytes(len(data)))
    os.utime(copied, ns=(0, 1))
    source = watch(tmp_path)
    copied.write_bytes(data)
    os.utime(copied, ns=(0, 2))
    look(source)
    look(source)
    assert described(take(source)) == ("copied.png", 9)


def test_watched_folder_gives_new_files_once_and_never_ends(tmp_path: Path) -> None:
    source = watch(tmp_path)
    look(source)
    write(tmp_path, b=2)
    look(source)
    look(source)
    assert described(take(source)) == ("b.png", 2)
    write(tmp_path, a=1)  # before b by name, but later
    look(source)
    look(source)
    assert described(take(source)) == ("a.png", 1)
    for _ in range(3):
        look(source)


def test_file_that_is_renamed_away_is_not_taken_when_it_had_not_settled(tmp_path: Path) -> None:
    write(tmp_path, temporary=1)
    source = watch(tmp_path)
    (tmp_path / "temporary.png").rename(tmp_path / "final.png")
    look(source)
    look(source)
    assert described(take(source)) == ("final.png", 1)
    look(source)


def test_read_fails_when_a_watched_folder_goes_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    write(folder, a=1)
    source = watch(folder)
    look(source)
    assert described(take(source)) == ("a.png", 1)
    folder.rename(away)
    with pytest.raises(NotConnectedError, match="does not exist"):
        source.read(1.0)
    source.close()
    write(away, b=2)
    away.rename(folder)
    source.connect()
    look(source)
    assert described(take(source)) == ("b.png", 2)  # and not a again
    look(source)


def test_read_waits_no_longer_than_it_may_when_the_poll_period_is_long(tmp_path: Path) -> None:
    source = FolderSource("top", tmp_path, watch=True, poll_s=60.0)
    source.connect()
    write(tmp_path, a=1)
    started = time.monotonic()
    assert source.read(0.05) is None
    assert 0.05 <= time.monotonic() - started < 5.0
    assert source._sights == {}  # and does not look before it is time


def test_read_waits_between_looks_when_there_is_nothing_new(tmp_path: Path) -> None:
    source = FolderSource("top", tmp_path, watch=True, poll_s=0.05)
    source.connect()
    started = time.monotonic()
    assert source.read(60.0) is None
    assert 0.05 <= time.monotonic() - started < 5.0


def test_file_is_another_frame_when_it_is_written_anew_under_its_old_name(tmp_path: Path) -> None:
    source = watch(tmp_path)
    write(tmp_path, a=1)
    look(source), look(source)
    assert described(take(source)) == ("a.png", 1)
    look(source)
    (tmp_path / "a.png").unlink()
    look(source)
    write(tmp_path, a=2)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    look(source), look(source)
    assert described(take(source)) == ("a.png", 2)
    look(source)


def test_file_is_not_taken_again_when_only_its_mode_changes_or_its_share_is_mounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = watch(tmp_path)
    write(tmp_path, a=1)
    look(source), look(source)
    assert described(take(source)) == ("a.png", 1)
    (tmp_path / "a.png").chmod(0o400)
    for _ in range(3):
        look(source)
    monkeypatch.setattr(module, "read_stamp", lambda path: dataclasses.replace(read_stamp(path), device=99, inode=99))
    for _ in range(3):
        look(source)


def test_names_of_files_that_are_gone_are_forgotten_when_watching(tmp_path: Path) -> None:
    source = watch(tmp_path)
    write(tmp_path, a=1, b=2)
    look(source), look(source)
    take(source), take(source)
    (tmp_path / "a.png").unlink()
    look(source)
    assert list(source._taken) == ["b.png"]


class Memory:
    """What a station would put on record."""

    def __init__(self) -> None:
        self.files: dict[str, FileVersion] = {}
        self.forgotten: list[str] = []

    def find_versions(self, camera: str) -> dict[str, FileVersion]:
        assert camera == "top"
        return self.files

    def forget(self, camera: str, names: Iterable[str]) -> None:
        self.forgotten += sorted(names)
        for name in names:
            self.files.pop(name, None)

    def note(self, frame: Frame) -> None:
        (file,) = frame.files
        assert file.version is not None
        self.files[file.name] = file.version


def restart(folder: Path, memory: Memory, *, note: int = 0) -> list[str]:
    """The frames of one run, of which the first `note` come on record."""
    source = FolderSource("top", folder, watch=False, memory=memory)
    source.connect()
    frames = []
    with contextlib.suppress(SourceExhaustedError):
        while True:
            frames.append(take(source))
    for frame in frames[:note]:
        memory.note(frame)
    return [frame.frame_id for frame in frames]


def test_file_on_record_is_not_read_again_after_a_restart(tmp_path: Path) -> None:
    memory = Memory()
    write(tmp_path, a=1, b=2, c=3)
    assert restart(tmp_path, memory, note=2) == ["a.png", "b.png", "c.png"]
    assert restart(tmp_path, memory, note=1) == ["c.png"]
    assert restart(tmp_path, memory) == []
    write(tmp_path, d=4)
    assert restart(tmp_path, memory) == ["d.png"]


@pytest.mark.parametrize("change", ["size", "time"])
def test_file_on_record_is_another_when_its_size_or_time_changed_meanwhile(tmp_path: Path, change: str) -> None:
    memory = Memory()
    write(tmp_path, a=1)
    before = (tmp_path / "a.png").stat()
    restart(tmp_path, memory, note=1)
    if change == "size":
        with (tmp_path / "a.png").open("ab") as file:
            file.write(b"more")
    later_ns = before.st_mtime_ns + (1 if change == "time" else 0)
    os.utime(tmp_path / "a.png", ns=(before.st_atime_ns, later_ns))
    assert restart(tmp_path, memory) == ["a.png"]


def test_files_that_are_gone_are_forgotten_unless_the_folder_is_empty(tmp_path: Path) -> None:
    memory = Memory()
    write(tmp_path, a=1, b=2)
    restart(tmp_path, memory, note=2)
    (tmp_path / "a.png").rename(tmp_path / "a.away")
    (tmp_path / "b.png").rename(tmp_path / "b.away")
    assert restart(tmp_path, memory) == []  # as a folder looks whose share is not mounted
    assert memory.forgotten == []
    (tmp_path / "b.away").rename(tmp_path / "b.png")
    assert restart(tmp_path, memory) == []
    assert memory.forgotten == ["a.png"]


def test_files_are_not_remembered_when_they_are_to_be_judged_again(tmp_path: Path) -> None:
    memory = Memory()
    write(tmp_path, a=1)
    settings = FolderSettings(type="folder", path=tmp_path, judge_again=True)
    for _ in range(2):
        source = settings.build("top", memory=memory)
        source.connect()
        assert take(source).files == ()
        source.close()


def test_files_are_judged_all_the_same_when_a_link_between_them_leads_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    write(tmp_path, part=3)
    source = once(tmp_path)
    assert "Too many levels of symbolic links" in (take(source).error or "")
    assert described(take(source)) == ("part.png", 3)


# ---------------------------------------------------------------- unfinished files


def bmp(value: int, height: int = 200, width: int = 200) -> bytes:
    """A grey picture: its pixels as they are, last row first, and nothing that shows where they end."""
    return cv2.imencode(".bmp", np.full((height, width, 3), value, np.uint8))[1].tobytes()


def overwrite(path: Path, content: bytes, *, start: int = 0) -> None:
    """In place: the same file, no shorter than it was."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute before what looks unfinished is taken as it is."""
    monkeypatch.setattr(module, "_DOUBT_S", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever so little."""
    monkeypatch.setattr(module, "_DOUBT_S", 0.05)


def wait_for_frame(source: FolderSource) -> Frame:
    """The next frame."""
    deadline = time.monotonic() + 20
    while (frame := source.read(1.0)) is None:
        assert time.monotonic() < deadline
    return frame


def break_in(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something once, when a file has been opened and before it is read."""
    actions, real_open = [action], os.open

    def opens(path: Any, flags: int, *more: Any, **options: Any) -> int:
        descriptor = real_open(path, flags, *more, **options)
        if actions and str(path).endswith(".bmp"):
            actions.pop()()
        return descriptor

    monkeypatch.setattr("inspector.files.os.open", opens)


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "once"])
def test_file_overwritten_while_it_is_read_comes_only_as_what_it_is_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(10))
    source = FolderSource("top", tmp_path, watch=is_watched, poll_s=0.001)
    source.connect()
    if is_watched:
        look(source)
    time.sleep(0.02)  # more than a tick of the clock that stamps files
    break_in(monkeypatch, lambda: overwrite(path, bmp(200)[15_000:], start=15_000))
    look(source)  # torn: half 10 and half 200
    overwrite(path, bmp(200))
    assert described(wait_for_frame(source)) == ("a.bmp", 200)
    if is_watched:
        look(source)


def test_file_replaced_after_it_was_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    path, new = tmp_path / "a.bmp", tmp_path / "new"
    path.write_bytes(bmp(10))
    new.write_bytes(bmp(200))
    source = watch(tmp_path)
    look(source)
    new.replace(path)
    look(source)
    look(source)
    look(source)
    assert described(take(source)) == ("a.bmp", 200)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["cut short", "made at its full size", "allocated", "filled with zeros"])
def test_file_whose_writer_pauses_is_not_taken_until_it_is_whole(tmp_path: Path, how: str) -> None:
    path, content, half = tmp_path / "part.bmp", bmp(90), len(bmp(90)) // 8
    with path.open("wb") as file:
        if how == "made at its full size":
            file.truncate(len(content))
        elif how == "allocated":
            os.posix_fallocate(file.fileno(), 0, len(content))
        elif how == "filled with zeros":
            file.write(bytes(len(content)))
            file.seek(0)
        file.write(content[:half])
    source = watch(tmp_path)
    for _ in range(5):
        look(source)
    overwrite(path, content[half:], start=half)
    assert described(wait_for_frame(source)) == ("part.bmp", 90)
    look(source)


@pytest.mark.usefixtures("impatient")
def test_unfinished_file_is_answered_once_it_has_stayed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(png(1)[:-5])
    with (tmp_path / "hole.bmp").open("wb") as file:
        file.write(bmp(90)[:5000])
        file.truncate(len(bmp(90)))
    (tmp_path / "zeros.bmp").write_bytes(bmp(0))  # black, perhaps, and perhaps not written
    (tmp_path / "whole.bmp").write_bytes(bmp(90))
    started = time.monotonic()
    source = watch(tmp_path)
    frames = {frame.frame_id: frame for frame in (wait_for_frame(source) for _ in range(4))}
    assert time.monotonic() - started >= 0.05
    assert described(frames["whole.bmp"]) == ("whole.bmp", 90)
    assert described(frames["zeros.bmp"]) == ("zeros.bmp", 0)
    assert "its end is missing" in (frames["cut.png"].error or "")
    assert "must be complete, but byte" in (frames["hole.bmp"].error or "")
    look(source)


def test_what_is_no_file_is_answered_and_never_opened_when_it_is_called_like_an_image(
    tmp_path: Path, impatient: None
) -> None:
    os.mkfifo(tmp_path / "a.png")  # opening it would wait for a writer
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d.png"))
    write(tmp_path, e=5)
    for source in (once(tmp_path), watch(tmp_path)):
        frames = {frame.frame_id: frame for frame in (wait_for_frame(source) for _ in range(5))}
        kinds = [frames[f"{name}.png"].error for name in "abcd"]
        words = ("pipe", "pipe", "device", "socket")
        rule = "file: must be a regular file, got a"
        assert kinds == [f"{name}.png: {rule} {kind}" for name, kind in zip("abcd", words, strict=True)]
        assert described(frames["e.png"]) == ("e.png", 5)
