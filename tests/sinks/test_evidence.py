"""Evidence is lossless, found by its name, never more than its quota, and complete or not there at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import inspector.sinks.evidence as module
from inspector.codec import Pixels, decode_image
from inspector.config import Evidence
from inspector.errors import EvidenceError
from inspector.sinks.evidence import EvidenceStore
from inspector.types import PixelFormat, Reason, Region, Result, Verdict

Make = Callable[..., EvidenceStore]

NOON_NS = 1_700_049_600_000_000_000
"""2023-11-15 12:00:00 UTC."""
SECOND_NS = 1_000_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
"""Noise: its image has more than a kilobyte, its result some hundred bytes."""


def result(seq: int = 1, verdict: Verdict = Verdict.FAIL, **changes: Any) -> Result:
    """A result of camera `top`, published `seq` seconds after noon."""
    plain: dict[str, Any] = {
        "station": "press-3",
        "boot_id": "boot",
        "seq": seq,
        "camera": "top",
        "frame_id": f"f{seq}",
        "part_id": None,
        "trigger_id": None,
        "verdict": verdict,
        "reason": {"PASS": Reason.OK, "FAIL": Reason.DEFECT, "ERROR": Reason.BAD_FRAME}[verdict.value],
        "score": 0.5,
        "threshold": 1.0,
        "regions": (Region((1, 2, 3, 4), 2.0, 4),),
        "captured_utc_ns": 0,
        "received_utc_ns": 1,
        "published_utc_ns": NOON_NS + seq * SECOND_NS,
        "deadline_ms": 2000,
    }
    return Result(**plain | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "press-3" / "evidence"


@pytest.fixture
def make(folder: Path) -> Make:
    """A store of `folder`, open, whatever the disk has left."""

    def make(**config: Any) -> EvidenceStore:
        store = EvidenceStore(folder, Evidence(**{"min_free": 0} | config))
        store.open()
        return store

    return make


def save(store: EvidenceStore, *results: Result) -> None:
    for each in results:
        store.save(PIXELS, PixelFormat.MONO8, each)


def files(folder: Path) -> list[Path]:
    """Every file below, hidden ones included, by name."""
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name)


def kept(folder: Path) -> list[int]:
    """`seq` of what is kept, each seen to have its image and its JSON and nothing else to lie about."""
    found = files(folder)
    assert {path.suffix for path in found} <= {".png", ".json"}
    jsons = [path for path in found if path.suffix == ".json"]
    assert [path.with_suffix(".png") for path in jsons] == [path for path in found if path.suffix == ".png"]
    return [json.loads(path.read_text())["seq"] for path in jsons]


def count(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def measure(folder: Path, make: Make) -> int:
    """Bytes that one result of `save` takes; those of one digit all take the same."""
    save(make(), result(1))
    size = count(folder)
    shutil.rmtree(folder)
    return size


# ---------------------------------------------------------------- what is written


def frame(pixel_format: PixelFormat) -> Pixels:
    random = np.random.default_rng(1)
    if pixel_format is PixelFormat.MONO16:
        return random.integers(0, 65_536, (48, 64), np.uint16)
    return random.integers(0, 256, (48, 64) if pixel_format is PixelFormat.MONO8 else (48, 64, 3), np.uint8)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_pixels_are_the_frames_own_when_decoded_from_png(
    folder: Path, make: Make, pixel_format: PixelFormat
) -> None:  # fmt: skip
    pixels = frame(pixel_format)
    before = pixels.copy()
    pixels.flags.writeable = False  # as frames from the wire are
    make().save(pixels, pixel_format, result())
    (image,) = folder.rglob("*.png")
    decoded, decoded_format = decode_image(image.read_bytes())
    wanted = before[..., ::-1] if pixel_format is PixelFormat.BGR8 else before
    assert decoded_format is (PixelFormat.RGB8 if before.ndim == 3 else pixel_format)
    assert decoded.dtype == before.dtype
    np.testing.assert_array_equal(decoded, wanted)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_image_is_a_jpeg_of_the_frame_when_asked_for_but_16_bits_stay_whole(
    folder: Path, make: Make, pixel_format: PixelFormat
) -> None:
    pixels = frame(pixel_format)
    colours = pixels.ndim == 3
    pixels[:] = (200, 60, 20) if colours else 40_000 if pixels.dtype == np.uint16 else 77
    make(format="jpeg").save(pixels, pixel_format, result())
    (image,) = (path for path in files(folder) if path.suffix != ".json")
    assert image.suffix == (".png" if pixel_format is PixelFormat.MONO16 else ".jpg")
    decoded, _ = decode_image(image.read_bytes())
    wanted = pixels[..., ::-1] if pixel_format is PixelFormat.BGR8 else pixels
    np.testing.assert_allclose(decoded.astype(int), wanted.astype(int), atol=2)


def test_jpeg_is_smaller_when_the_quality_is_lower(folder: Path, make: Make) -> None:
    sizes = []
    for seq, quality in ((1, 95), (2, 20)):
        make(format="jpeg", quality=quality).save(frame(PixelFormat.RGB8), PixelFormat.RGB8, result(seq))
        sizes.append(files(folder)[-1].with_suffix(".jpg").stat().st_size)
    assert sizes[0] > 2 * sizes[1]


def test_names_say_when_which_and_why_when_saved(folder: Path, make: Make) -> None:
    store = make()
    moment = NOON_NS + 61 * SECOND_NS + 1_234_567
    store.save(PIXELS, PixelFormat.MONO8, result(17, frame_id="lens 4/7", published_utc_ns=moment))
    store.save(None, PixelFormat.MONO8, result(18, Verdict.ERROR, camera="side.2", published_utc_ns=moment))
    assert [str(path.relative_to(folder)) for path in files(folder)] == [
        "top/2023-11-15/120101_001234-17-FAIL-DEFECT-lens_4_7+1.json",
        "top/2023-11-15/120101_001234-17-FAIL-DEFECT-lens_4_7+1.png",
        "side.2/2023-11-15/120101_001234-18-ERROR-BAD_FRAME-f18+2.json",
    ]


def test_json_is_the_result_as_published_when_read(folder: Path, make: Make) -> None:
    saved = result(frame_id="schön\udcfc", message="why")  # file names can hold what is not UTF-8
    save(make(), saved)
    (path,) = folder.rglob("*.json")
    read = json.loads(path.read_text())
    assert read == json.loads(json.dumps(saved.to_wire()))
    assert (read["frame_id"], read["reason_code"], read["regions"][0]["xyxy"]) == ("schön\udcfc", 1, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("frame_id", "name"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("/", "unnamed"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("部品", "unnamed"),
        ("Teil-№ 7 ü.png", "Teil-_7_png"),
        ("a\0b\nc", "a_b_c"),
        ("m\udcfcll", "m_ll"),
        ("-PASS-OK-x.json", "PASS-OK-x_json"),
        ("x" * 256, "x" * 80),
    ],
)
def test_frame_id_is_made_a_name_when_it_is_odd(folder: Path, make: Make, frame_id: str, name: str) -> None:
    save(make(), result(frame_id=frame_id))
    stem = f"120001_000000-1-FAIL-DEFECT-{name}+1"
    assert [path.name for path in files(folder)] == [f"{stem}.json", f"{stem}.png"]
    assert {path.parent for path in files(folder)} == {folder / "top" / "2023-11-15"}
    assert make().nbytes == count(folder)  # the next start knows it as its own


def test_files_can_be_read_by_the_group_when_the_umask_lets_them(folder: Path, make: Make) -> None:
    before = os.umask(0o027)
    try:
        save(make(), result())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in files(folder)} == {0o640}
    assert (folder / "top" / "2023-11-15").stat().st_mode & 0o777 == 0o750


# ---------------------------------------------------------------- the quota


def test_oldest_pass_goes_first_then_the_oldest_of_the_rest_when_full(folder: Path, make: Make) -> None:
    store = make(max_bytes=4 * measure(folder, make) + 100)
    verdicts = [Verdict.FAIL, Verdict.PASS, Verdict.ERROR, Verdict.PASS]
    save(store, *(result(seq, verdict) for seq, verdict in enumerate(verdicts, 1)))
    seen = []
    for seq in range(5, 9):
        save(store, result(seq))
        seen.append(kept(folder))
    assert seen == [[1, 3, 4, 5], [1, 3, 5, 6], [3, 5, 6, 7], [5, 6, 7, 8]]


def test_order_is_the_same_when_another_store_goes_on(folder: Path, make: Make) -> None:
    max_bytes = 4 * measure(folder, make) + 100
    first = make(max_bytes=max_bytes)
    # As written, not by camera or sequence; and a frame id that looks like a verdict is none.
    save(
        first,
        result(9, Verdict.PASS, camera="zoom", published_utc_ns=NOON_NS - 86_400 * SECOND_NS),
        result(2, Verdict.FAIL, frame_id="a-PASS-OK"),
        result(1, Verdict.PASS, camera="side", published_utc_ns=NOON_NS + 3 * SECOND_NS),
        result(4, Verdict.FAIL, camera="aft"),
    )
    seen = []
    for seq in (5, 6, 7):
        save(make(max_bytes=max_bytes), result(seq))
        seen.append(set(kept(folder)))
    assert seen == [{2, 1, 4, 5}, {2, 4, 5, 6}, {4, 5, 6, 7}]


@pytest.mark.parametrize("step_s", [-6 * 365 * 86_400, 2 * 365 * 86_400])
def test_oldest_is_what_was_written_first_when_the_clock_was_wrong_for_a_while(
    folder: Path, make: Make, step_s: int
) -> None:
    max_bytes = 4 * measure(folder, make) + 200
    wrong = NOON_NS + step_s * SECOND_NS
    save(make(max_bytes=max_bytes), result(1), result(2))
    save(make(max_bytes=max_bytes), *(result(seq, camera="side", published_utc_ns=wrong + seq) for seq in (3, 4)))
    seen = []
    for seq in range(5, 9):
        save(make(max_bytes=max_bytes), result(seq))
        seen.append(set(kept(folder)))
    assert seen == [{2, 3, 4, 5}, {3, 4, 5, 6}, {4, 5, 6, 7}, {5, 6, 7, 8}]


def test_files_of_earlier_versions_without_a_number_are_the_oldest_by_their_time(folder: Path, make: Make) -> None:
    max_bytes = 3 * measure(folder, make) + 100
    save(make(), result(2), result(1))
    for path in files(folder):
        path.rename(path.with_name(path.name.partition("+")[0] + path.suffix))
    save(make(max_bytes=max_bytes), result(3, published_utc_ns=NOON_NS - SECOND_NS))
    save(make(max_bytes=max_bytes), result(4))
    assert set(kept(folder)) == {2, 3, 4}
    save(make(max_bytes=max_bytes), result(5))
    assert set(kept(folder)) == {3, 4, 5}


def test_quota_holds_after_every_save_when_sizes_differ(folder: Path, make: Make) -> None:
    store = make(max_bytes=20_000)
    random = np.random.default_rng(2)
    for seq in range(1, 60):
        pixels = random.integers(0, 256, (int(random.integers(1, 100)), 64), np.uint8)
        without = seq % 7 == 0
        store.save(None if without else pixels, PixelFormat.MONO8, result(seq, list(Verdict)[seq % 3]))
        assert store.nbytes == count(folder) <= 20_000
    assert count(folder) > 10_000
    assert not list(folder.rglob(".*"))


def test_room_is_made_at_the_start_when_the_quota_shrank(folder: Path, make: Make) -> None:
    size = measure(folder, make)
    save(make(), *(result(seq, Verdict.PASS if seq > 3 else Verdict.FAIL) for seq in range(1, 6)))
    store = make(max_bytes=2 * size + 100)
    assert kept(folder) == [2, 3]
    assert store.nbytes == count(folder)


def test_frame_is_refused_and_nothing_gives_way_when_it_is_larger_than_the_quota(folder: Path, make: Make) -> None:
    store = make(max_bytes=measure(folder, make) + 100)
    save(store, result(1))
    large = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    with pytest.raises(
        EvidenceError, match=r"evidence\.max_bytes: must have room for at least one frame with its result, .* got \d+"
    ):
        store.save(large, PixelFormat.MONO8, result(2))
    assert kept(folder) == [1]


def test_number_kept_is_bounded_when_results_are_small(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 5)
    store = make()
    for seq in range(1, 10):
        store.save(None, PixelFormat.MONO8, result(seq, Verdict.ERROR))
    assert [json.loads(path.read_text())["seq"] for path in files(folder)] == [5, 6, 7, 8, 9]


def test_day_folder_goes_with_its_last_file_when_evicted(folder: Path, make: Make) -> None:
    store = make(max_bytes=measure(folder, make) + 100)
    save(store, result(1), result(2, published_utc_ns=NOON_NS + 86_400 * SECOND_NS))
    assert [path.name for path in (folder / "top").iterdir()] == ["2023-11-16"]
    assert [path.suffix for path in files(folder)] == [".json", ".png"]


def test_disk_is_not_scanned_again_when_saving(folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(max_bytes=3 * measure(folder, make))

    def refuse(*_: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(module.os, "scandir", refuse)
    save(store, *(result(seq) for seq in range(1, 10)))


def test_many_files_are_counted_in_seconds_when_opened(folder: Path, make: Make) -> None:
    day = folder / "top" / "2023-11-15"
    day.mkdir(parents=True)
    template = day / "template"
    template.write_bytes(b"12345")
    for seq in range(10_000):
        (day / f"{seq:06d}_000000-{seq}-FAIL-DEFECT-f.json").hardlink_to(template)
    started = time.monotonic()
    store = make()
    assert time.monotonic() - started < 5
    assert store.nbytes == 50_000


# ---------------------------------------------------------------- what goes wrong


def test_leftovers_of_a_kill_are_removed_and_the_users_own_files_are_not(folder: Path, make: Make) -> None:
    save(make(), result(1))
    (image,) = folder.rglob("*.png")
    day = image.parent
    for name in ("120009_000000-9-FAIL-DEFECT-f9.png", "120009_000000-9-FAIL-DEFECT-f9.json"):
        (day / f".{name}.part").write_bytes(b"half")
    foreign = [day / "notes.txt", day / ".notes.part", folder / "README", folder / "top" / "export" / "a.png"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    store = make()
    assert set(files(folder)) == {image, image.with_suffix(".json"), *foreign}
    assert store.nbytes == image.stat().st_size + image.with_suffix(".json").stat().st_size


def test_image_without_json_is_counted_and_evicted_when_the_process_died_between(folder: Path, make: Make) -> None:
    size = measure(folder, make)
    save(make(), result(1))
    (json_path,) = folder.rglob("*.json")
    json_path.unlink()
    store = make(max_bytes=size)
    assert store.nbytes == count(folder) > 0
    save(store, result(2))
    assert kept(folder) == [2]


def test_image_is_there_first_and_under_its_name_when_the_json_comes(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = []
    replace = Path.replace

    def record(self: Path, target: Path) -> Path:
        renamed.append((self.name, target.name, [path.name for path in folder.rglob("*.*") if path.is_file()]))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", record)
    save(make(), result())
    stem = "120001_000000-1-FAIL-DEFECT-f1+1"
    assert renamed == [
        (f".{stem}.png.part", f"{stem}.png", [f".{stem}.png.part"]),
        (f".{stem}.json.part", f"{stem}.json", renamed[1][2]),
    ]
    assert sorted(renamed[1][2]) == [f".{stem}.json.part", f"{stem}.png"]


def test_nothing_is_written_when_the_disk_has_less_than_the_watermark(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(min_free=1000)
    free = 999
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    for attempt in (lambda: save(store, result(1)), store.check):
        with pytest.raises(EvidenceError, match=r"evidence\.min_free: 1000 bytes must be free .* got 999"):
            attempt()
    assert files(folder) == []
    free = 1000
    store.check()
    save(store, result(2))
    assert kept(folder) == [2]


@pytest.mark.parametrize("suffix", [".png", ".json"])
def test_nothing_is_left_when_a_write_fails(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    store = make()
    save(store, result(1))
    before = store.nbytes
    write = Path.write_bytes

    def fail(self: Path, data: bytes) -> int:
        if f"{suffix}." in self.name:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(EvidenceError, match=r"f2\+2: cannot be written: .*No space left"):
            save(store, result(2))
    assert kept(folder) == [1]
    assert store.nbytes == before == count(folder)
    save(store, result(3))
    assert kept(folder) == [1, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_store_goes_on_when_a_full_disk_has_room_again(small_disk: Path) -> None:
    folder = small_disk / "evidence"
    store = EvidenceStore(folder, Evidence(min_free=0))
    (small_disk / "other").write_bytes(bytes(40_000))
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    store.save(pixels, PixelFormat.MONO8, result(1))
    with pytest.raises(EvidenceError, match="No space left on device"):
        store.save(pixels, PixelFormat.MONO8, result(2))
    assert kept(folder) == [1]
    assert store.nbytes == count(folder)
    (small_disk / "other").unlink()
    store.save(pixels, PixelFormat.MONO8, result(3))
    assert kept(folder) == [1, 3]


def test_disk_without_room_for_a_few_bytes_is_told_when_checked(small_disk: Path) -> None:
    store = EvidenceStore(small_disk, Evidence(min_free=0))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(100_000))
    with pytest.raises(EvidenceError, match=r"cannot be written: .*No space left"):
        store.check()
    (small_disk / "other").unlink()
    store.check()
    assert files(small_disk) == []


def test_files_removed_by_hand_are_no_error_when_their_turn_comes(folder: Path, make: Make) -> None:
    store = make(max_bytes=2 * measure(folder, make) + 100)
    save(store, result(1), result(2))
    shutil.rmtree(folder)
    save(store, result(3))
    assert kept(folder) == [3]
    save(store, result(4), result(5))
    assert kept(folder) == [4, 5]
    assert store.nbytes == count(folder)


def test_nothing_new_is_kept_when_the_oldest_cannot_be_removed(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    max_bytes = measure(folder, make) + 100
    store = make(max_bytes=max_bytes)
    save(store, result(1))

    def refuse(self: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(EvidenceError, match="Permission denied"):
            save(store, result(2))
    assert kept(folder) == [1]
    save(store, result(3))
    assert kept(folder) == [3]


def test_folder_is_refused_when_it_is_a_file_and_opened_later_when_it_can_be(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    store = EvidenceStore(folder, Evidence(min_free=0))
    for attempt in (store.check, lambda: save(store, result(1))):
        with pytest.raises(EvidenceError, match=r"evidence .*: cannot be read: "):
            attempt()
    folder.unlink()
    save(store, result(2))
    assert kept(folder) == [2]


@pytest.mark.parametrize("config", ["png", "jpeg"])
def test_frame_is_refused_when_it_cannot_be_encoded(folder: Path, make: Make, config: str) -> None:
    store = make(format=config)
    with pytest.raises(EvidenceError, match=r"a frame of \(0, 0\) cannot be encoded"):
        store.save(np.zeros((0, 0), np.uint8), PixelFormat.MONO8, result())
    assert files(folder) == []
