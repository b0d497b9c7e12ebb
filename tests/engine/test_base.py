"""How a precision is chosen, and the memory that engines offer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inspector.engine import base
from inspector.engine.base import Precision, allocate_tiles, choose_precision, has_bf16

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse4_2 avx512f {}\nbugs\t\t: bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "flag", "expected"),
    [
        (X86, "avx512_bf16", True),
        (X86, "amx_bf16", True),
        (X86, "avx512_vnni", False),
        (X86, "", False),
        (ARM, "bf16", False),  # it has it, but OpenVINO does not use it there
        (ARM, "svebf16x", False),
        ("", "", False),
    ],
)
def test_bf16_is_found_when_the_cpu_lists_it(tmp_path: Path, text: str, flag: str, expected: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text.format(flag))
    assert has_bf16(cpuinfo) is expected


def test_bf16_is_not_found_when_cpuinfo_is_missing(tmp_path: Path) -> None:
    assert has_bf16(tmp_path / "nowhere") is False


@pytest.mark.parametrize(("has", "expected"), [(True, Precision.BF16), (False, Precision.FP32)])
def test_precision_follows_the_cpu_when_on_one(monkeypatch: pytest.MonkeyPatch, has: bool, expected: Precision) -> None:
    monkeypatch.setattr(base, "has_bf16", lambda: has)
    assert choose_precision(torch.device("cpu")) is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), Precision.FP16), ((8, 0), Precision.BF16), ((12, 0), Precision.BF16)]
)
def test_precision_follows_the_generation_when_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: Precision
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(torch.device("cuda", 1)) is expected


def test_tiles_are_channels_last_when_allocated() -> None:
    tiles = allocate_tiles(4, 64, torch.uint8, torch.device("cpu"))
    assert (tuple(tiles.shape), tiles.dtype) == ((4, 3, 64, 64), torch.uint8)
    assert tiles.permute(0, 2, 3, 1).is_contiguous()
    assert not tiles.any()
