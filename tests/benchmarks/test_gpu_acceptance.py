"""The acceptance of a GPU, dry: each phase on a simulated device, and what becomes of phases that fail or hang."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inspector.errors import KernelsError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PHASES = ("machine", "exactness", "kernels", "wide_resnet50_2", "resnet18")
PHASES += ("frames", "line", "memory", "flat", "second start")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_acceptance")


def test_phases_are_those_tested(script: ModuleType) -> None:
    assert tuple(script.phases.PHASES) == PHASES


@pytest.mark.parametrize("name", PHASES)
def test_phase_gives_its_figures_when_dry(script: ModuleType, name: str) -> None:
    figures = script.phases.PHASES[name].run(script.phases.choose_setting(dry=True))
    assert figures
    values = {figure["name"]: figure["value"] for figure in figures}
    if name == "line":
        assert values["p99, ms"] <= 60
        assert abs(values["last tenth above the first, ms"]) < 10
    if name == "kernels":
        forms = [values[f"layers as {form}"] for form in ("plain", "convolution", "product")]
        assert forms == [3, 29, 6]
        assert 0 < values["fused, largest difference"] < 0.001
        assert values["batch chosen"] == 64
    if name not in {"machine", "kernels"}:  # which run no engine, dry
        engines = [value for figure, value in values.items() if figure.endswith("engine")]
        assert engines
        assert all("simulated device, not a GPU" in each and "fallback none" in each for each in engines)
    assert {script.mark(figure)["of"] for figure in figures} == {"not a GPU"}


def test_kernels_that_cannot_be_had_are_a_figure_and_the_phase_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = script.phases
    build = phases.Bench._build

    def refuse(bench: Any, batch: int, precision: str, kernels: str) -> Any:
        if kernels == "fused":
            raise KernelsError("only 3 of 35 layers")
        return build(bench, batch, precision, kernels)

    monkeypatch.setattr(phases.Bench, "_build", refuse)
    setting = phases.choose_setting(dry=True)
    told = {figure["name"]: figure["value"] for figure in phases.check_exactness(setting)}
    assert told["bf16, fused kernels: not used"] == "only 3 of 35 layers"
    assert told["bf16, compiled kernels, 1 tile(s): largest difference"] < 1e-6

    monkeypatch.setattr(phases, "_measure_tiles_per_s", lambda bench: 1.0)
    engine = SimpleNamespace(tiles=range(48), name="CUDA graph", fallback="not_fused")
    monkeypatch.setattr(phases, "build_unproved", lambda *arguments: engine)
    monkeypatch.setattr(phases, "_fuse_dry", None)
    bench = phases.Bench
    monkeypatch.setattr(phases, "Bench", lambda _, **options: bench(setting, **options))
    told = {figure["name"]: figure["value"] for figure in phases.measure_kernels(replace(setting, dry=False))}
    assert told["fused kernels: not used"] == "only 3 of 35 layers"
    assert told["own kernels: tiles/s"] == 1.0
    assert told["engine chosen"] == "CUDA graph, fallback not_fused"


class Brightness(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1]


@pytest.mark.usefixtures("script")
def test_peer_gives_one_score_per_frame_padded_to_whole_tiles() -> None:
    peer = importlib.import_module("_acceptance_peer").EagerPeer(
        Brightness(), (0.0,) * 3, (1.0,) * 3, tile=32, device=torch.device("cpu")
    )
    pixels = np.zeros((40, 70, 3), np.uint8)
    assert peer.judge(pixels) == 0.0
    pixels[39, 69] = 255
    assert peer.judge(pixels) == 1.0


@pytest.mark.parametrize(
    ("code", "limit_s", "state"),
    [("import time; time.sleep(60)", 0.5, "timeout"), ("raise SystemExit('no such kernel')", 60.0, "failed")],
)
def test_phase_that_hangs_or_fails_is_told_and_the_others_go_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, limit_s: float, state: str
) -> None:
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(f"import sys, json\nif sys.argv[2] == 'memory':\n    {code}\nprint(json.dumps([]))\n")
    monkeypatch.setattr(script, "__file__", str(stand_in))
    phase = script.phases.Phase(script.phases.PHASES["memory"].run, limit_s)
    monkeypatch.setitem(script.phases.PHASES, "memory", phase)
    out = tmp_path / "out.json"
    assert script.main(["--dry", "--phases", "memory", "flat", "--json", str(out)]) == 1
    content = json.loads(out.read_text())
    assert content["device"] == "not a GPU"
    assert [content["phases"][name]["state"] for name in ("memory", "flat")] == [state, "done"]


def test_nothing_is_measured_without_a_gpu_unless_dry(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script.phases, "find_gpu", lambda: None)
    assert script.main([]) == 1
    assert "no GPU of CUDA here" in capsys.readouterr().err


def test_it_runs_where_neither_openvino_nor_anomalib_is() -> None:
    code = (
        "import sys; sys.modules.update({'openvino': None, 'anomalib': None}); "
        f"sys.path.insert(0, {str(BENCHMARKS)!r}); import gpu_acceptance; "
        "sys.exit(gpu_acceptance.main(['--dry', '--only', 'memory']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["value"] == 4
