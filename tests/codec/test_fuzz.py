"""Bytes that nobody meant: pixels or a named refusal, never another error. Longer under `make chaos`."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.codec.forms import FORMS, draw
from tests.codec.fuzzing import TARGETS, try_file, try_message

IS_LONG = bool(os.environ.get("INSPECTOR_CHAOS"))
RUNS = 200_000 if IS_LONG else 2_000
SECONDS = 300 if IS_LONG else 5
FILES = [form.make(draw(defective=True)) for form in FORMS.values()]
HEADERS = [
    {"camera": "top", "frame_id": "x", "encoding": "raw", "dtype": "uint8", "shape": [48, 64]},
    {"camera": "top", "frame_id": "x", "encoding": "png"},
    {"msg": "pi", "dtype": "uint16", "shape": [48, 64, 1]},
]


def pack(header: bytes, pixels: bytes) -> bytes:
    return len(header).to_bytes(2, "big") + header + pixels


def spoil(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, taken out, put in twice or replaced by a number that headers like; most near the start."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = int(len(out) * chance.random() ** 3)
        size = chance.choice((1, 2, 4, 16, 300))
        kind = chance.randrange(4)
        if kind == 0:
            out[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        else:
            out[at : at + 4] = chance.choice((b"\0" * 4, b"\xff" * 4, b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\1\0\0\0"))
    return bytes(out)


def test_file_is_decoded_or_refused_when_it_is_spoilt() -> None:
    chance = random.Random(1)
    judged = sum(try_file(spoil(chance.choice(FILES), chance)) is not None for _ in range(RUNS))
    assert 0 < judged < RUNS


def test_message_is_decoded_or_refused_when_it_is_spoilt() -> None:
    chance = random.Random(2)
    for _ in range(RUNS):
        header = json.dumps(chance.choice(HEADERS)).encode()
        pixels = chance.choice([*FILES, bytes(48 * 64), bytes(2 * 48 * 64)])
        try_message(pack(spoil(header, chance) if chance.random() < 0.5 else header, spoil(pixels, chance)))


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install '.[fuzz]'"
)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_else_is_raised_when_atheris_looks_for_it(target: str, tmp_path: Path) -> None:
    for number, data in enumerate(FILES):
        (tmp_path / f"{number}").write_bytes(data if target == "file" else pack(json.dumps(HEADERS[1]).encode(), data))
    limits = [
        f"-max_total_time={SECONDS}",
        "-runs=20000" if not IS_LONG else "-runs=-1",
        "-seed=1",
        "-rss_limit_mb=4096",
    ]
    command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), target, *limits, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=SECONDS + 120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
